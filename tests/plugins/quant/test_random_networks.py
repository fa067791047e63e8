"""quantize on random small CNNs: the result runs, keeps its interface, stays near, and nothing is silently float."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.data import FeedSource
from nncomp.ir import DataType, TensorType
from nncomp.runtime import run
from nncomp_ort.target import OrtTarget
from nncomp_quant.quantize import Quantize


class Network:
    """A chain of layers, some of which read what lies further back; weights keep activations near one."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.graph = nncomp.Graph("random")
        self.graph.set_info(opsets={"": 18})
        self.channels, self.size = draw(st.sampled_from([3, 4, 8])), 8
        self.value = self.graph.add_input("x", TensorType(DataType.FLOAT, ("N", self.channels, 8, 8)))
        self.earlier = None

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def add(self, kind, *inputs, **attrs):
        return self.graph.add_op(kind, inputs, attrs=attrs).output

    def follow(self, kind, *inputs, **attrs):
        self.value = self.add(kind, self.value, *inputs, **attrs)

    def constant(self, array, dtype=np.float32):
        return self.graph.add_constant("k", np.asarray(array, dtype))

    def weight(self, *shape, fan_in):
        return self.constant(self.rng.normal(0, (2 / fan_in) ** 0.5, shape))

    def conv(self):
        kernel = self.pick(1, 3)
        group, out = self.pick(
            (1, self.channels), (1, 8), (self.channels, self.channels), (self.channels, 2 * self.channels)
        )
        out = min(out, 16) if group == 1 else out
        fan_in = self.channels // group * kernel**2
        bias = [self.constant(self.rng.normal(0, 0.3, out))] if self.pick(True, False) else []
        weight = self.weight(out, self.channels // group, kernel, kernel, fan_in=fan_in)
        if out != self.channels:
            self.earlier = None
        self.follow("Conv", weight, *bias, group=group, pads=[kernel // 2] * 4)
        self.channels = out

    def activation(self):
        kind = self.pick("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh")
        self.follow(
            kind, *([self.constant(self.pick(-1, 0)), self.constant(self.pick(1, 6))] if kind == "Clip" else [])
        )

    def skip(self):
        now = self.value
        if self.earlier is not None:
            self.follow(self.pick("Add", "Mul"), self.earlier)
        self.earlier = now

    def gate(self):
        pooled = self.add("GlobalAveragePool", self.value)
        weight = self.weight(self.channels, self.channels, 1, 1, fan_in=self.channels)
        self.follow("Mul", self.add("Sigmoid", self.add("Conv", pooled, weight)))

    def scale(self):
        self.follow("Mul", self.constant(self.rng.uniform(0.5, 1.5, self.pick((), (self.channels, 1, 1)))))

    def concat(self):
        if self.earlier is not None and self.channels <= 8:
            self.follow("Concat", self.earlier, axis=1)
            self.channels *= 2
            self.earlier = None

    def pool(self):
        if self.size >= 4:
            self.follow(self.pick("MaxPool", "AveragePool"), kernel_shape=[2, 2], strides=[2, 2])
            self.size //= 2
            self.earlier = None

    def move(self):
        self.follow("Transpose", perm=[0, 1, 3, 2])
        self.earlier = None

    def resize(self):
        if self.size <= 8:
            mode = self.pick("nearest", "linear")
            factors = self.constant([1, 1, 2, 2])
            self.value = self.graph.add_op("Resize", [self.value, None, factors], attrs={"mode": mode}).output
            self.size *= 2
            self.earlier = None

    def upsample(self):
        if self.size <= 8:
            weight = self.weight(self.channels, self.channels, 2, 2, fan_in=self.channels)
            self.follow("ConvTranspose", weight, strides=[2, 2])
            self.size *= 2
            self.earlier = None


LAYERS = ("conv", "activation", "skip", "gate", "scale", "concat", "pool", "move", "resize", "upsample")


@st.composite
def networks(draw):
    network = Network(draw)
    network.conv()
    for _ in range(draw(st.integers(1, 7))):
        getattr(network, draw(st.sampled_from(LAYERS)))()
        if network.pick(True, False):
            network.conv()
    outputs = [network.value]
    if network.earlier is not None and network.earlier is not network.value and network.pick(True, False):
        outputs.append(network.earlier)
    network.graph.set_outputs(outputs)
    return network.graph


def feeds(graph, seed):
    (channels,) = (value.shape[1] for value in graph.inputs)
    return {"x": np.random.default_rng(seed).normal(0, 1, (1, channels, 8, 8)).astype(np.float32)}


def sqnr(expected, got):
    signal = sum(float(np.square(array, dtype=np.float64).sum()) for array in expected.values())
    noise = sum(float(np.square(array - got[name], dtype=np.float64).sum()) for name, array in expected.items())
    return 10 * np.log10(signal / max(noise, 1e-30))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_random_networks_stay_near_keep_their_interface_and_run_in_integers(before):
    calibration = [feeds(before, seed) for seed in range(4)]
    after = before.clone()
    ctx = nncomp.Context(target=OrtTarget.capabilities, data=FeedSource(calibration, after))
    nncomp.Pipeline([Quantize()]).run(after, ctx)
    artifact = OrtTarget().build(after, ctx)
    assert [value.name for value in after.inputs] == [value.name for value in before.inputs]
    assert [value.name for value in after.outputs] == [value.name for value in before.outputs]
    # Each of up to a dozen roundings to 8 bits adds noise some 35 to 48 dB below its tensor.
    for feed in calibration:
        expected, written, executed = run(before, feed), run(after, feed), artifact.run(feed)
        assert sqnr(expected, written) > 18
        assert sqnr(expected, executed) > 18
    # What is left float in the executed graph is what the plan left float.
    left = ctx.results["quantize"]["left_float"].values()
    assert {island.cause for island in artifact.executed.islands} <= set(left)
    planned = Counter(label.partition("(")[0] for label in ctx.results["quantize"]["static"])
    for kind in ("Conv", "Add", "Mul", "Concat", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool"):
        assert artifact.executed.kernels.get(f"QLinear{kind}", 0) == planned[kind], kind
