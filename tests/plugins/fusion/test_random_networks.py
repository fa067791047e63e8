"""fuse on networks that nobody would write: what fusion looks for, in any order, tapped and shared anywhere."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.ir import DataType, TensorType
from nncomp_fusion.fuse import Fuse


class Network:
    """A chain of ops on an image, some of which read what lies further back."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.graph = nncomp.Graph("random")
        self.graph.set_info(opsets={"": 17})
        self.channels = draw(st.sampled_from([2, 4]))
        self.size = [draw(st.integers(5, 9)), draw(st.integers(5, 9))]
        shape = (2, self.channels, *self.size)
        self.value = self.graph.add_input("x", TensorType(DataType.FLOAT, shape))
        self.earlier = None
        self.outputs = []

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def few(self, most):
        return [self.draw(st.integers(0, most)) for _ in range(4)]

    def add(self, kind, *inputs, **attrs):
        return self.graph.add_op(kind, inputs, attrs=attrs).output

    def follow(self, kind, *inputs, **attrs):
        self.value = self.add(kind, self.value, *inputs, **attrs)

    def number(self, value, dtype=np.float32):
        return self.graph.add_constant("n", np.array(value, dtype))

    def weight(self, *shape):
        return self.graph.add_constant("w", np.asarray(self.rng.normal(0, 0.5, shape), np.float32))

    def positive(self, *shape):
        return self.graph.add_constant("p", np.asarray(self.rng.uniform(0.5, 1.5, shape), np.float32))

    def grow(self, border):
        self.size = [size + begin + end for size, begin, end in zip(self.size, border[:2], border[2:], strict=True)]
        self.earlier = None

    def constant_shape(self):
        return self.pick((), (1,), (self.channels, 1, 1), (1, self.channels, 1, 1))

    def conv(self):
        border, kernel = self.few(1), self.pick(1, 2, 3)
        if any(size < 4 for size in self.size):
            return
        group, out = self.pick((1, 4), (1, 2), (2, 4), (self.channels, self.channels))
        bias = [self.weight(out)] if self.pick(True, False) else []
        weight = self.weight(out, self.channels // group, kernel, kernel)
        self.follow("Conv", weight, *bias, group=group, pads=border)
        self.channels = out
        self.grow(border)
        self.size = [size - kernel + 1 for size in self.size]

    def conv_transpose(self):
        self.follow("ConvTranspose", self.weight(self.channels, 2, 2, 2))
        self.channels = 2
        self.grow([0, 0, 1, 1])

    def batchnorm(self):
        shape = (self.channels,)
        self.follow(
            "BatchNormalization", self.positive(*shape), self.weight(*shape), self.weight(*shape), self.positive(*shape)
        )

    def scale(self):
        self.follow(self.pick("Mul", "Div"), self.positive(*self.constant_shape()))

    def shift(self):
        operands = [self.value, self.weight(*self.constant_shape())]
        self.value = self.add(self.pick("Add", "Sub"), *(operands if self.pick(True, False) else reversed(operands)))

    def pad(self):
        border = self.few(2)
        self.follow("Pad", self.number([0, 0, *border[:2], 0, 0, *border[2:]], np.int64))
        self.grow(border)

    def clip(self):
        self.follow("Clip", self.number(self.pick(-1.0, 0.0)), self.number(self.pick(1.0, 6.0)))

    def relu(self):
        self.follow("Relu")

    def hard_swish(self):
        gate = self.add("Clip", self.add("Add", self.value, self.number(3)), self.number(0), self.number(6))
        self.value = self.add("Div", self.add("Mul", self.value, gate), self.number(6))

    def there_and_back(self):
        self.follow("Transpose", perm=[0, 2, 3, 1])
        self.follow("Transpose", perm=[0, 3, 1, 2])

    def skip(self):
        now = self.value
        if self.earlier is not None:
            self.follow("Add", self.earlier)
        self.earlier = now

    def pool(self):
        kind, attrs = self.pick(("MaxPool", {}), ("AveragePool", {"count_include_pad": 1}), ("AveragePool", {}))
        border = self.few(1)
        self.follow(kind, kernel_shape=[2, 2], pads=border, **attrs)
        self.grow([border[0] - 1, border[1] - 1, *border[2:]])

    def tap(self):
        self.outputs.append(self.value)

    def finished(self):
        if self.pick(True, False):
            self.follow("ReduceMean", axes=[2, 3], keepdims=self.pick(0, 1))
        outputs = [value for value in dict.fromkeys([*self.outputs, self.value]) if value.producer is not None]
        self.graph.set_outputs(outputs or [self.add("Identity", self.value)])
        return self.graph


STEPS = (
    Network.conv,
    Network.conv_transpose,
    Network.batchnorm,
    Network.scale,
    Network.shift,
    Network.pad,
    Network.clip,
    Network.relu,
    Network.hard_swish,
    Network.there_and_back,
    Network.skip,
    Network.pool,
    Network.tap,
)


@st.composite
def networks(draw):
    network = Network(draw)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        if min(network.size) >= 2:
            step(network)
    return network.finished()


@settings(deadline=None, derandomize=True, max_examples=150)
@given(networks())
def test_no_network_changes_its_function(check, network):
    check(Fuse(), network)
