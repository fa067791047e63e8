"""Random networks: whatever is removed, the pruned network is the masked one."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nncomp.axes import analyse, remove_checked
from nncomp.ir import DataType, Graph, TensorType, Value

STEPS = ("conv", "grouped", "depthwise", "norm", "relu", "add", "concat", "split", "shuffle", "gate", "pool", "blocks")


class Network:
    """A network that grows step by step; every value is (1, channels, 4, 4)."""

    def __init__(self, draw, size: int) -> None:
        self.draw, self.graph = draw, Graph()
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        image = self.graph.add_input("image", TensorType(DataType.FLOAT, (1, 3, 4, 4)))
        self.values: list[tuple[Value, int]] = [(self.conv(image, 3, 8), 8)]
        for _ in range(size):
            self.step(draw(st.sampled_from(STEPS)))
        value, channels = self.values[-1]
        self.graph.set_outputs([self.conv(value, channels, 3)])

    def op(self, kind: str, *inputs: Value, **attrs: object) -> Value:
        return self.graph.add_op(kind, inputs, attrs=attrs).output

    def constant(self, *shape: int, name: str = "w") -> Value:
        data = self.rng.normal(0, 1 / np.sqrt(max(np.prod(shape[1:]), 1)), shape)
        return self.graph.add_constant(name, (np.abs(data) + 0.5 if name == "var" else data).astype(np.float32))

    def integers(self, *numbers: int) -> Value:
        return self.graph.add_constant("sizes", np.array(numbers, np.int64))

    def conv(self, value: Value, inputs: int, outputs: int, group: int = 1) -> Value:
        return self.op("Conv", value, self.constant(outputs, inputs // group, 1, 1), group=group)

    def step(self, kind: str) -> None:
        value, channels = self.draw(st.sampled_from(self.values))
        same = [one for one, size in self.values if size == channels]
        out = channels
        if kind == "conv":
            out = self.draw(st.sampled_from((4, 6, 8)))
            made = self.conv(value, channels, out)
        elif kind in ("grouped", "depthwise"):
            made = self.conv(value, channels, channels, 2 if kind == "grouped" else channels)
        elif kind == "norm":
            parameters = [self.constant(channels, name=name) for name in ("s", "b", "m", "var")]
            made = self.op("BatchNormalization", value, *parameters)
        elif kind == "add":
            made = self.op("Add", value, self.draw(st.sampled_from(same)))
        elif kind == "concat":
            other, size = self.draw(st.sampled_from(self.values))
            made, out = self.op("Concat", value, other, axis=1), channels + size
        elif kind == "split":
            half = channels // 2
            parts = self.graph.add_op(
                "Split", [value, self.integers(half, channels - half)], ["a", "b"], attrs={"axis": 1}
            )
            made = self.op("Concat", parts.outputs[1], parts.outputs[0], axis=1)
        elif kind == "shuffle":
            deep = self.op("Reshape", value, self.integers(1, 2, channels // 2, 4, 4))
            made = self.op(
                "Reshape", self.op("Transpose", deep, perm=(0, 2, 1, 3, 4)), self.integers(1, channels, 4, 4)
            )
        elif kind == "gate":
            pooled = self.op("GlobalAveragePool", value)
            made = self.op("Mul", value, self.op("Sigmoid", self.conv(pooled, channels, channels)))
        elif kind == "blocks":
            deep = self.op("SpaceToDepth", value, blocksize=2)
            made = self.op("DepthToSpace", self.op("Relu", deep), blocksize=2)
        elif kind == "pool":
            made = self.op("MaxPool", value, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
        else:
            made = self.op("Relu", value)
        self.values.append((made, out))


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_pruned_is_masked(data) -> None:
    network = Network(data.draw, data.draw(st.integers(2, 9))).graph
    found = analyse(network)
    picks = data.draw(st.lists(st.integers(1, max(found.count, 1)), max_size=12, unique=True)) if found.count else []
    atoms = np.array(picks, np.int64)
    while atoms.size and found.emptied(atoms):
        atoms = atoms[:-1]
    left = found.params(atoms), found.macs(atoms)
    deviation = remove_checked(found, atoms)
    assert deviation is not None and deviation.relative < 1e-5
    after = analyse(network)
    assert (after.params(), after.macs()) == left
