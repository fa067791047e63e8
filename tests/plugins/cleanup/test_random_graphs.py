"""Properties that hold for every graph: bits, interface, idempotence, and the same result each time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import nncomp
import nncomp_cleanup
from nncomp.gate import interface
from nncomp.onnx_io import graph_to_proto
from nncomp.testing import assert_same_function

PASSES = {one.name: one for one in nncomp_cleanup.nncomp_passes()}
WIDTH = 4
UNARY = ("Relu", "Neg", "Identity", "Sigmoid", "Dropout", "Abs")
NEUTRAL = (("Mul", 1.0), ("Div", 1.0), ("Add", 0.0), ("Add", -0.0), ("Sub", 0.0), ("Pow", 1.0), ("Mul", 0.5))
TARGETS = ([0, WIDTH], [-1, WIDTH], [0, -1], [0, 2, 2], [0, 1, WIDTH])


class Builder:
    """Builds a graph of [N, 4] floats with everything that exporters leave behind."""

    def __init__(self, draw):
        self.draw = draw
        self.graph = nncomp.Graph("random", info=nncomp.Graph().info)
        self.live = [
            self.graph.add_input(name, nncomp.TensorType(nncomp.DataType.FLOAT, ("N", WIDTH))) for name in "ab"
        ]

    def pick(self, items):
        return self.draw(st.sampled_from(list(items)))

    def build(self):
        for _ in range(self.draw(st.integers(1, 14))):
            step = self.pick(
                [
                    self.unary,
                    self.binary,
                    self.neutral,
                    self.constant,
                    self.reshape,
                    self.shaped,
                    self.branch,
                    self.fixed,
                ]
            )
            self.live.append(step())
        outputs = [self.pick(self.live) for _ in range(self.draw(st.integers(1, 3)))]
        unique = dict.fromkeys(value for value in outputs if value.producer is not None)
        self.graph.set_outputs(unique or [self.op("Relu", self.live[0])])
        return self.graph

    def op(self, kind, *inputs, **attrs):
        return self.graph.add_op(kind, inputs, attrs=attrs).output

    def number(self, data, dtype=np.int64):
        array = np.array(data, dtype)
        if self.draw(st.booleans()):
            return self.graph.add_constant("c", array)
        return self.op("Constant", value=array)

    def unary(self):
        return self.op(self.pick(UNARY), self.pick(self.live))

    def binary(self):
        return self.op(self.pick(["Add", "Mul", "Max"]), self.pick(self.live), self.pick(self.live))

    def neutral(self):
        kind, number = self.pick(NEUTRAL)
        shape = self.pick([(), (1,), (WIDTH,), (1, WIDTH)])
        return self.op(kind, self.pick(self.live), self.number(np.full(shape, number), np.float32))

    def constant(self):
        weight = self.number(np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) % 3 - 1, np.float32)
        for kind in self.draw(st.lists(st.sampled_from(["Transpose", "Neg", "Exp", "Identity"]), max_size=3)):
            weight = self.op(kind, weight)
        return self.op("MatMul", self.pick(self.live), weight)

    def fixed(self):
        shape = self.number([WIDTH])
        return self.op("Add", self.pick(self.live), self.op("ConstantOfShape", shape, value=np.array([2], np.float32)))

    def reshape(self):
        there = self.op("Reshape", self.pick(self.live), self.number(self.pick(TARGETS)))
        return self.op("Reshape", there, self.number([-1, WIDTH]))

    def shaped(self):
        value, other = self.pick(self.live), self.pick(self.live)
        shape = self.op("Shape", other)
        batch = self.op("Gather", shape, self.number([self.pick([0, -2])]))
        if self.draw(st.booleans()):
            batch = self.op("Unsqueeze", self.op("Gather", shape, self.number(0)), self.number([0]))
        rest = self.pick([[-1], [WIDTH], [2, 2], [1, WIDTH]])
        target = self.op("Concat", batch, self.number(rest), axis=0)
        return self.op("Reshape", self.op("Reshape", value, target), self.number([-1, WIDTH]))

    def branch(self):
        taken = self.number(self.draw(st.booleans()), np.bool_)
        bodies = {}
        outer = self.pick(self.live)
        for name in ("then_branch", "else_branch"):
            body = nncomp.Graph(name, info=self.graph.info)
            inner = body.declare_capture(outer)
            value = body.add_op(self.pick(UNARY), [inner]).output
            body.set_outputs([body.add_op(self.pick(UNARY), [value]).output])
            bodies[name] = body
        return self.graph.add_op("If", [taken], bodies=bodies).output


@st.composite
def graphs(draw):
    """Return a random graph."""
    return Builder(draw).build()


@given(name=st.sampled_from(list(PASSES)), before=graphs())
def test_any_graph_keeps_bits_and_interface(name, before):
    after = before.clone()
    (record,) = nncomp.Pipeline([PASSES[name]()]).run(after, nncomp.Context())
    reference = before.clone()
    nncomp.Pipeline([]).run(reference, nncomp.Context())
    assert interface(after) == interface(reference)
    for batch in (1, 3):
        random = np.random.default_rng(batch)
        feeds = {key: random.normal(size=(batch, WIDTH)).astype(np.float32) for key in "ab"}
        feeds["a"][0, :2] = (0.0, -0.0)
        assert_same_function(before, after, feeds=feeds, exact=True)
    (second,) = nncomp.Pipeline([PASSES[name]()]).run(after, nncomp.Context())
    assert not second.changed, record.notes
    assert sum(1 for _ in after.walk()) <= sum(1 for _ in before.walk())


@given(before=graphs())
def test_cleanup_gives_the_same_file_each_time(before):
    files = []
    for _ in range(2):
        after = before.clone()
        nncomp.Pipeline([PASSES["cleanup"]()]).run(after, nncomp.Context())
        files.append(graph_to_proto(after).SerializeToString(deterministic=True))
    assert files[0] == files[1]
