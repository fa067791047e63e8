"""Matrix views: rows of data times the matrix of a weight are the op's output on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.ir import Graph, Op
from nncomp.ops import MatrixView, builtin_table
from nncomp.runtime import run
from nncomp.testing import feeds, graph

OPS = builtin_table()


def only_op(text: str) -> tuple[Graph, Op, MatrixView]:
    made = graph(text)
    op = made.ops()[0]
    view = OPS.matrix(op, made)
    assert view is not None
    return made, op, view


def conv(data: str, weight: str, *, kind: str = "Conv", attrs: str = "") -> str:
    unknown = ",".join("?" * (data.count(",") + 1))
    return f"g (float[{data}] x) => (float[{unknown}] y) <float[{weight}] w> {{ y = {kind}{attrs} (x, w) }}"


CONVOLUTIONS = {
    "plain": conv("2,3,7,6", "4,3,3,2"),
    "strides": conv("2,3,9,8", "4,3,3,3", attrs="<strides=[2,3], pads=[1,0,2,1]>"),
    "dilations": conv("1,3,9,9", "4,3,3,2", attrs="<dilations=[2,3], pads=[2,2,0,1]>"),
    "groups": conv("2,4,6,6", "6,2,3,3", attrs="<group=2, pads=[1,1,1,1]>"),
    "depthwise": conv("2,4,6,6", "8,1,3,3", attrs="<group=4, strides=[2,2]>"),
    "same upper": conv("1,2,7,7", "3,2,3,4", attrs='<auto_pad="SAME_UPPER", strides=[2,2]>'),
    "same lower": conv("1,2,7,7", "3,2,4,3", attrs='<auto_pad="SAME_LOWER", strides=[3,2]>'),
    "valid": conv("1,2,7,7", "3,2,4,3", attrs='<auto_pad="VALID">'),
    "one axis": conv("2,3,11", "4,3,5", attrs="<pads=[2,2], strides=[2]>"),
    "three axes": conv("1,2,5,6,4", "3,2,2,3,2", attrs="<pads=[0,1,1,1,0,1], dilations=[2,1,1]>"),
    "transposed": conv("2,3,4,5", "3,4,3,2", kind="ConvTranspose"),
    "transposed strides": conv(
        "1,4,4,5", "4,3,3,4", kind="ConvTranspose",
        attrs="<group=2, strides=[2,3], pads=[1,2,0,1], output_padding=[1,0], dilations=[2,1]>",
    ),
    "transposed crop": conv("1,2,5", "2,3,2", kind="ConvTranspose", attrs="<pads=[2,1], strides=[2]>"),
}  # fmt: skip


def product(left: str, right: str, out: str, *, weight: str, op: str) -> str:
    data = "b" if weight == "a" else "a"
    shapes = {"a": left, "b": right}
    return (
        f"g (float[{shapes[data]}] {data}) => (float[{out}] y) <float[{shapes[weight]}] {weight}> {{ y = {op} (a, b) }}"
    )


PRODUCTS = {
    "matrix": product("5,3", "3,4", "5,4", weight="b", op="MatMul"),
    "batches of data": product("2,6,5,3", "3,4", "2,6,5,4", weight="b", op="MatMul"),
    "vector of data": product("3", "3,4", "4", weight="b", op="MatMul"),
    "vector of weights": product("5,3", "3", "5", weight="b", op="MatMul"),
    "two vectors": product("3", "3", "", weight="b", op="MatMul"),
    "left": product("4,3", "2,3,5", "2,4,5", weight="a", op="MatMul"),
    "left vector": product("3", "2,3,5", "2,5", weight="a", op="MatMul"),
    "left, vector of data": product("4,3", "3", "4", weight="a", op="MatMul"),
    "batches of weights": product("2,6,5,3", "6,3,4", "2,6,5,4", weight="b", op="MatMul"),
    "batches of weights, broadcast data": product("5,3", "1,6,3,4", "1,6,5,4", weight="b", op="MatMul"),
    "batches of weights on the left": product("6,4,3", "2,6,3,5", "2,6,4,5", weight="a", op="MatMul"),
    "batches of weights, vector of data": product("3", "3,3,3", "3,3", weight="b", op="MatMul"),
    "Gemm": product("5,3", "3,4", "5,4", weight="b", op="Gemm <alpha=0.5>"),
    "Gemm, both transposed": product("3,5", "4,3", "5,4", weight="b", op="Gemm <transA=1, transB=1, alpha=2.0>"),
    "Gemm on the left": product("4,3", "3,5", "4,5", weight="a", op="Gemm <alpha=3.0>"),
    "Gemm on the left, both transposed": product("3,4", "5,3", "4,5", weight="a", op="Gemm <transA=1, transB=1>"),
}


@pytest.mark.parametrize("text", [*CONVOLUTIONS.values(), *PRODUCTS.values()], ids=[*CONVOLUTIONS, *PRODUCTS])
def test_rows_times_the_matrix_are_the_output(text: str) -> None:
    made, op, view = only_op(text)
    given_ = feeds(made)
    output, data = run(made, given_)["y"], next(iter(given_.values()))
    weight = made.array(op.input(view.weight))
    assert weight is not None
    matrix, rows = view.matrix(weight), view.unfold(data)
    assert matrix.shape == (view.groups, view.outputs, view.columns)
    np.testing.assert_allclose(rows @ matrix.swapaxes(1, 2), view.rows(output), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(view.restore(matrix), weight)
    batch = 1 if text in PRODUCTS.values() else data.shape[0]
    assert rows.shape == (view.groups, batch * view.positions(data.shape), view.columns)


@pytest.mark.parametrize("text", [*CONVOLUTIONS.values(), *PRODUCTS.values()], ids=[*CONVOLUTIONS, *PRODUCTS])
@settings(max_examples=5)
@given(choice=st.data())
def test_chosen_positions_are_those_rows_of_all(text: str, choice: st.DataObject) -> None:
    made, _, view = only_op(text)
    given_ = feeds(made)
    output, data = run(made, given_)["y"], next(iter(given_.values()))
    count = view.positions(data.shape)
    chosen = np.array(choice.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True)), np.intp)
    for every, some in (
        (view.unfold(data), view.unfold(data, chosen)),
        (view.rows(output), view.rows(output, chosen)),
    ):
        samples = every.reshape(view.groups, -1, count, every.shape[-1])
        np.testing.assert_array_equal(some, samples[:, :, chosen].reshape(view.groups, -1, every.shape[-1]))


def test_an_in_channel_is_a_run_of_columns() -> None:
    made, op, view = only_op(CONVOLUTIONS["groups"])
    weight = made.array(op.input(1))
    assert weight is not None
    assert view.kernel == 9
    matrix = view.matrix(weight)
    np.testing.assert_array_equal(matrix[1, 2, 9:18], weight[5, 1].reshape(-1))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul (x, w) }",
        "g (float[2,3] x) => (float[2,4] y) <float[3,4] w> { y = Gemm <alpha=0.0> (x, w) }",
        "g (float[2,1,5,3] x) => (float[2,1,5,4] y) <float[2,1,3,4] w> { y = MatMul (x, w) }",
        "g (float[1,2,4,4] x) => (float[1,3,8,8] y) <float[2,3,2,2] w>"
        "{ y = ConvTranspose <output_shape=[8,8], strides=[2,2]> (x, w) }",
        "g (float[2,3] x) => (float[2,3] y) { y = Relu (x) }",
    ],
)
def test_there_is_no_view_of_what_is_no_matrix(text: str) -> None:
    made = graph(text)
    assert OPS.matrix(made.ops()[0], made) is None
