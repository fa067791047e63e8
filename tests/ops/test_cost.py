"""Multiply-accumulates and other operations against numbers counted by hand, or by brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.ir import DataType, Dim, Graph, Op, TensorType
from nncomp.ops import Cost, OpSemantics, builtin_table

TABLE = builtin_table()
ShapeLike = Sequence[Dim] | None


def made(
    kind: str, inputs: Sequence[ShapeLike], *outputs: ShapeLike, domain: str = "", **attrs: Any
) -> tuple[Graph, Op]:
    graph = Graph()
    values = [
        None if shape is None else graph.add_input(f"x{i}", TensorType(DataType.FLOAT, tuple(shape)))
        for i, shape in enumerate(inputs)
    ]
    types = [
        (f"y{i}", None if shape is None else TensorType(DataType.FLOAT, tuple(shape)))
        for i, shape in enumerate(outputs)
    ]
    return graph, graph.add_op(kind, values, types, attrs=attrs, domain=domain)


def cost(
    kind: str, inputs: Sequence[ShapeLike], *outputs: ShapeLike, domain: str = "", **attrs: Any
) -> tuple[int, int] | None:
    graph, op = made(kind, inputs, *outputs, domain=domain, **attrs)
    found = TABLE.cost(op, graph)
    return None if found is None else (found.macs, found.elementary)


# ---------------------------------------------------------------- convolutions


def test_the_first_convolution_of_a_resnet50_takes_118_million_macs() -> None:
    assert cost("Conv", [(1, 3, 224, 224), (64, 3, 7, 7)], (1, 64, 112, 112)) == (118_013_952, 0)


def test_a_bias_is_one_addition_an_output_element() -> None:
    assert cost("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (4,)], (1, 4, 6, 6)) == (4 * 36 * 27, 4 * 36)


def test_vgg16_takes_15_470_264_320_macs() -> None:
    stages = [(224, (3, 64, 64)), (112, (64, 128, 128)), (56, (128, 256, 256, 256))]
    stages += [(28, (256, 512, 512, 512)), (14, (512, 512, 512, 512))]
    convolutions = [
        cost("Conv", [(1, before, size, size), (after, before, 3, 3)], (1, after, size, size))
        for size, channels in stages
        for before, after in itertools.pairwise(channels)
    ]
    layers = [
        cost("Gemm", [(1, before), (after, before), (after,)], (1, after), transB=1)
        for before, after in itertools.pairwise((512 * 7 * 7, 4096, 4096, 1000))
    ]
    counted = [found for found in convolutions + layers if found is not None]
    assert len(counted) == 16
    assert sum(macs for macs, _ in counted) == 15_470_264_320


@settings(deadline=None)  # brute force takes as long as it takes
@given(
    group=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    sizes=st.lists(st.integers(3, 6), min_size=1, max_size=2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
)
def test_a_convolution_costs_what_a_loop_over_all_its_products_counts(
    group: int, channels: tuple[int, int], sizes: list[int], kernel: int, stride: int, pad: int
) -> None:
    before, after = channels[0] * group, channels[1] * group
    windows = [range(0, size + 2 * pad - kernel + 1, stride) for size in sizes]
    counted = 0
    for out_channel in range(after):
        for _ in itertools.product(*windows):
            for in_channel in range(before):
                if in_channel // channels[0] == out_channel // channels[1]:
                    counted += kernel ** len(sizes)
    spatial = [len(window) for window in windows]
    weights = (after, channels[0], *[kernel] * len(sizes))
    assert cost("Conv", [(1, before, *sizes), weights], (1, after, *spatial), group=group) == (counted, 0)


@settings(deadline=None)
@given(group=st.integers(1, 3), before=st.integers(1, 2), after=st.integers(1, 3), size=st.integers(1, 5))
def test_a_transposed_convolution_spreads_each_input_element_over_a_kernel_an_output_channel_of_its_group(
    group: int, before: int, after: int, size: int
) -> None:
    counted = 0
    for in_channel, _, out_channel in itertools.product(range(before * group), range(size), range(after * group)):
        counted += 4 if in_channel // before == out_channel // after else 0
    weights = (before * group, after, 4)
    out = (1, after * group, 2 * size + 2)
    assert cost("ConvTranspose", [(1, before * group, size), weights], out, group=group) == (counted, 0)


def test_a_quantized_convolution_costs_what_the_float_one_costs() -> None:
    inputs = [(1, 3, 8, 8), (), (), (4, 3, 3, 3), (), (), (), ()]
    assert cost("QLinearConv", inputs, (1, 4, 6, 6)) == (4 * 36 * 27, 0)


def test_a_deformable_convolution_also_reads_between_pixels() -> None:
    found = cost("DeformConv", [(1, 2, 5, 5), (4, 2, 3, 3), (1, 18, 3, 3)], (1, 4, 3, 3))
    assert found == (4 * 9 * 18, 9 * 2 * 9 * 8)


# ---------------------------------------------------------------- products


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((7, 1, 3, 4), (2, 4, 5)),
        ((4,), (2, 4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_a_matmul_costs_the_sum_of_a_product_of_ones(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    product = np.ones(left) @ np.ones(right)
    assert cost("MatMul", [left, right], product.shape) == (int(product.sum()), 0)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_gemm_contracts_the_same_axis_however_it_is_written(trans_a: int, trans_b: int) -> None:
    left, right = ((3, 8), (8, 3))[trans_a], ((8, 5), (5, 8))[trans_b]
    assert cost("Gemm", [left, right, (5,)], (3, 5), transA=trans_a, transB=trans_b) == (3 * 5 * 8, 3 * 5)


def test_a_fused_matmul_finds_the_contracted_axis_behind_a_batch_transpose() -> None:
    found = cost("FusedMatMul", [(4, 2, 3), (2, 4, 6)], (2, 3, 6), domain="com.microsoft", transA=1, transBatchA=1)
    assert found == (2 * 3 * 6 * 4, 0)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("ij,jk", [(3, 4), (4, 5)]),
        ("bhqd, bhkd -> bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("...d,de->...e", [(2, 3, 4), (4, 5)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,ij->", [(3, 4), (3, 4)]),
    ],
)
def test_an_einsum_of_two_costs_the_sum_of_a_product_of_ones(equation: str, shapes: list[tuple[int, ...]]) -> None:
    product = np.einsum(equation, *[np.ones(shape) for shape in shapes])
    assert cost("Einsum", shapes, product.shape, equation=equation) == (int(product.sum()), 0)


def test_an_einsum_of_one_operand_has_no_products() -> None:
    assert cost("Einsum", [(3, 4)], (4, 3), equation="ij->ji") == (0, 12)


def test_an_einsum_of_three_goes_twice_through_the_loops() -> None:
    assert cost("Einsum", [(2, 3), (3, 4), (4, 5)], (2, 5), equation="ab,bc,cd->ad") == (2 * 2 * 3 * 4 * 5, 0)


def test_a_packed_matmul_reads_its_sizes_from_attributes() -> None:
    shapes = [(2, 3, 32), (8, 1, 16), (8,)]
    found = cost("MatMulNBits", shapes, (2, 3, 8), domain="com.microsoft", K=32, N=8, bits=4, block_size=32)
    assert found == (2 * 3 * 8 * 32, 0)


# ---------------------------------------------------------------- attention and recurrence


def test_attention_is_two_products_and_a_softmax() -> None:
    batch, heads, queries, keys, depth = 2, 4, 5, 7, 8
    shapes = [(batch, heads, queries, depth), (batch, heads, keys, depth), (batch, heads, keys, depth)]
    scores = batch * heads * queries * keys
    assert cost("Attention", shapes, (batch, heads, queries, depth)) == (scores * 2 * depth, scores * 5)


def test_grouped_query_attention_in_three_axes_counts_query_heads_and_the_cache() -> None:
    shapes = [(1, 1, 32), (1, 1, 16), (1, 1, 16), None, (1, 2, 9, 8), (1, 2, 9, 8)]
    found = cost("Attention", shapes, (1, 1, 32), q_num_heads=4, kv_num_heads=2)
    assert found == (4 * 10 * 16, 4 * 10 * 5)


def test_packed_attention_makes_its_own_projections() -> None:
    found = cost("Attention", [(2, 5, 8), (8, 24), (24,)], (2, 5, 8), domain="com.microsoft", num_heads=2)
    assert found == (2 * 5 * 8 * 24 + 2 * 5 * 5 * 16, 2 * 2 * 5 * 5 * 5)


def test_linear_attention_touches_its_state_three_times_a_position_under_the_delta_rule() -> None:
    shapes = [(1, 6, 8), (1, 6, 8), (1, 6, 8)]
    found = cost("LinearAttention", shapes, (1, 6, 8), q_num_heads=2, kv_num_heads=2, update_rule="delta")
    assert found == (6 * 16 * 2 * 3, 0)


@pytest.mark.parametrize(("kind", "gates", "steps"), [("LSTM", 4, 9), ("GRU", 3, 8), ("RNN", 1, 1)])
def test_a_recurrent_layer_multiplies_all_weights_at_each_position(kind: str, gates: int, steps: int) -> None:
    positions, batch, features, hidden, directions = 6, 2, 5, 3, 2
    weights = (directions, gates * hidden, features)
    recurrent = (directions, gates * hidden, hidden)
    macs = positions * batch * directions * gates * hidden * (features + hidden)
    found = cost(
        kind,
        [(positions, batch, features), weights, recurrent],
        (positions, directions, batch, hidden),
        hidden_size=hidden,
        direction="bidirectional",
    )
    assert found == (macs, positions * batch * directions * hidden * steps)


# ---------------------------------------------------------------- the rest


def test_moving_is_free() -> None:
    assert cost("Transpose", [(2, 3)], (3, 2)) == (0, 0)
    assert cost("Concat", [(2, 3), (2, 3)], None, axis=0) == (0, 0)
    assert cost("Resize", [(1, 2, 4, 4)], (1, 2, 8, 8), mode="nearest") == (0, 0)


def test_an_elementwise_op_is_one_operation_an_output_element() -> None:
    assert cost("Add", [(2, 1), (1, 3)], (2, 3)) == (0, 6)


def test_a_sum_of_n_is_n_minus_one_additions() -> None:
    assert cost("Sum", [(6,), (6,), (6,)], (6,)) == (0, 12)


def test_a_reduction_reads_each_input_element_once() -> None:
    assert cost("ReduceMean", [(2, 3, 4)], (2, 1, 4)) == (0, 24)
    assert cost("GlobalAveragePool", [(1, 8, 7, 7)], (1, 8, 1, 1)) == (0, 392)


def test_a_pool_reads_a_window_for_each_output_element() -> None:
    assert cost("MaxPool", [(1, 4, 8, 8)], (1, 4, 4, 4), kernel_shape=[3, 2], strides=[2, 2]) == (0, 64 * 6)


def test_a_linear_resize_reads_two_elements_along_each_axis_that_changes() -> None:
    assert cost("Resize", [(1, 2, 4, 4)], (1, 2, 8, 8), mode="linear") == (0, 128 * 4)
    assert cost("Resize", [(1, 2, 4, 4)], (1, 2, 4, 8), mode="cubic") == (0, 64 * 4)


def test_a_shape_that_is_not_static_gives_no_cost() -> None:
    assert cost("Conv", [("N", 3, 8, 8), (4, 3, 3, 3)], ("N", 4, 6, 6)) is None
    assert cost("MatMul", [(2, 3), (3, 4)], None) is None
    assert cost("Relu", [("N",)], ("N",)) is None


ODD: list[list[ShapeLike]] = [[], [()], [(2,), (3,), (4,)], [(2, 3), (), (0,)], [None, (2, 3, 4, 5)], [(1, 0, 4)] * 6]
ATTRS = {"num_heads": 2, "q_num_heads": 2, "kv_num_heads": 1, "kernel_shape": [2], "axis": 5, "transA": 1, "K": 2}


@pytest.mark.parametrize("row", list(TABLE), ids=lambda row: f"{row.domain}.{row.kind}")
def test_no_rule_dies_of_shapes_that_are_odd_or_missing(row: OpSemantics) -> None:
    for shapes, out, attrs in itertools.product(ODD, (None, (), (0, 3)), ({}, ATTRS)):
        graph, op = made(row.kind, shapes, out, domain=row.domain, **attrs)
        counted = None if row.cost is None else row.cost(op)
        assert counted is None or min(counted) >= 0
        role = TABLE.quant(op, graph.opsets)
        assert role.weight_axis is None or isinstance(role.weight_axis(op), int)
        assert row.infer is None or len(row.infer(op)) == 1


def test_an_op_without_a_row_has_no_cost() -> None:
    assert cost("Frobnicate", [(2, 3)], (2, 3), domain="acme") is None


def test_traffic_and_parameters_are_counted_beside_the_operations() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT, (1, 3, 8, 8)))
    w = graph.add_constant("w", np.zeros((4, 3, 3, 3), np.float32))
    op = graph.add_op("Conv", [x, w], [("y", TensorType(DataType.FLOAT, (1, 4, 6, 6)))])
    assert TABLE.cost(op, graph) == Cost(
        macs=4 * 36 * 27, elementary=0, params=108, bytes_read=4 * (192 + 108), bytes_written=4 * 144
    )


def test_integer_weights_are_parameters_and_shapes_are_not() -> None:
    graph = Graph()
    w = graph.add_constant("w", np.zeros((4, 3), np.int8))
    scale = graph.add_constant("scale", np.ones(4, np.float32))
    target = graph.add_constant("target", np.array([12]))
    dequantized = graph.add_op("DequantizeLinear", [w, scale], [("d", TensorType(DataType.FLOAT, (4, 3)))])
    reshaped = graph.add_op("Reshape", [dequantized.output, target], [("r", TensorType(DataType.FLOAT, (12,)))])
    found = [TABLE.cost(op, graph) for op in (dequantized, reshaped)]
    assert [each.params for each in found if each is not None] == [12 + 4, 0]


def test_costs_add_up() -> None:
    total = math.prod((2, 3))
    assert Cost(macs=1, elementary=2) + Cost(macs=3, params=total) == Cost(macs=4, elementary=2, params=6)


def test_a_plugin_row_brings_its_own_price() -> None:
    table = TABLE.extended([OpSemantics("Frobnicate", "acme", cost=lambda op: (7, 1))])
    graph, op = made("Frobnicate", [(2, 3)], (2, 3), domain="acme")
    found = table.cost(op, graph)
    assert found is not None
    assert (found.macs, found.elementary) == (7, 1)
