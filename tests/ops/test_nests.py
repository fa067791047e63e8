"""Loop nests: their multiply-accumulates are those of the cost column, and running them gives what the op computes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph

TABLE = builtin_table()

CASES = [
    "g (float[2,3,7,6] x) => (float[] y) <float[4,3,3,2] w> { y = Conv <strides=[2,1], dilations=[1,2]> (x, w) }",
    "g (float[1,4,6,5] x) => (float[] y) <float[6,2,3,3] w> { y = Conv <group=2> (x, w) }",
    "g (float[1,4,6,5] x) => (float[] y) <float[8,1,3,3] w> { y = Conv <group=4> (x, w) }",
    "g (float[1,4,9] x) => (float[] y) <float[3,4,3] w> { y = Conv <strides=[3]> (x, w) }",
    "g (float[1,2,4,5,3] x) => (float[] y) <float[2,2,2,2,2] w> { y = Conv (x, w) }",
    "g (float[3,4] x) => (float[] y) <float[4,5] w> { y = MatMul (x, w) }",
    "g (float[2,3,4] x) => (float[] y) <float[4,5] w> { y = MatMul (x, w) }",
    "g (float[2,3,4] x) => (float[] y) <float[2,4,5] w> { y = MatMul (x, w) }",
    "g (float[4] x) => (float[] y) <float[4,5] w> { y = MatMul (x, w) }",
    "g (float[3,4] x) => (float[] y) <float[4] w> { y = MatMul (x, w) }",
    "g (float[3,4] x) => (float[] y) <float[5,4] w> { y = Gemm <transB=1> (x, w) }",
    "g (float[4,3] x) => (float[] y) <float[4,5] w> { y = Gemm <transA=1> (x, w) }",
    'g (float[3,4] x) => (float[] y) <float[5,4] w> { y = Einsum <equation="bi,oi->bo"> (x, w) }',
    'g (float[2,3,4] x) => (float[] y) <float[4,2,5] w> { y = Einsum <equation="hbi,iho->bho"> (x, w) }',
]


def made(text):
    found = graph(text, opset=20)
    infer_types(found)
    (op,) = found.ops()
    return found, op, TABLE.nests(op, found.opsets)


@pytest.mark.parametrize("text", CASES)
def test_a_nest_has_the_multiplications_of_the_cost_column(text):
    found, op, nests = made(text)
    assert sum(nest.macs for nest in nests) == TABLE.cost(op, found).macs


@pytest.mark.parametrize("text", CASES[:6] + CASES[10:13])
def test_running_a_nest_gives_what_the_op_computes(text):
    found, op, (nest,) = made(text)
    feeds = random_feeds(found)
    w = nest.arranged(found.array(op.input(1)))
    x = feeds["x"]
    if op.attr("transA", 0):
        x = x.T
    x = x.reshape(nest.batch, nest.groups, nest.inputs, *nest.sizes)
    y = np.zeros((nest.batch, nest.groups, nest.outputs, *nest.spatial))
    for r in itertools.product(*map(range, nest.kernel)):
        window = tuple(
            slice(d * k, d * k + s * (p - 1) + 1, s)
            for k, d, s, p in zip(r, nest.dilations, nest.strides, nest.spatial, strict=True)
        )
        y += np.einsum("ngc...,gmc->ngm...", x[(..., *window)], w[(slice(None),) * 3 + r])
    np.testing.assert_allclose(y.reshape(-1), run(found, feeds)["y"].reshape(-1), rtol=1e-4, atol=1e-5)


def test_attention_is_two_nests_whose_groups_are_heads():
    text = """g (float[2,5,12] q, float[2,7,12] k, float[2,7,12] v) => (float[] y)
    { y = Attention <q_num_heads=3, kv_num_heads=3> (q, k, v) }"""
    found = graph(text, opset=23)
    (op,) = found.ops()
    first, second = TABLE.nests(op, found.opsets)
    assert (first.groups, first.batch, first.outputs, first.inputs) == (6, 5, 7, 4)
    assert (second.groups, second.batch, second.outputs, second.inputs) == (6, 5, 4, 7)
    assert (first.data, first.weight, second.data, second.weight) == (0, 1, None, 2)


def test_a_transposed_convolution_is_a_product_whose_columns_are_scattered():
    found, op, (nest,) = made("g (float[1,4,5,6] x) => (float[] y) <float[4,3,2,2] w> { y = ConvTranspose (x, w) }")
    assert nest.macs == TABLE.cost(op, found).macs
    assert (nest.outputs, nest.inputs, nest.spatial) == (12, 4, (5, 6))


def test_a_recurrent_layer_is_one_nest_for_its_input_and_one_for_its_state():
    text = """g (float[5,2,3] x) => (float[] y) <float[1,16,3] w, float[1,16,4] r>
    { y, _, _ = LSTM <hidden_size=4> (x, w, r) }"""
    found, op, nests = made(text.replace("y, _, _", "y, h, c"))
    assert sum(nest.macs for nest in nests) == TABLE.cost(op, found).macs
    assert [(nest.outputs, nest.inputs, nest.data) for nest in nests] == [(16, 3, 0), (16, 4, None)]


def test_ops_without_products_have_no_nest():
    _, _, nests = made("g (float[2] x) => (float[] y) { y = Relu (x) }")
    assert nests is None
