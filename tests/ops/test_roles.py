"""What quantization may do with an op, as the table tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nncomp.ir import DataType, Graph, Op, TensorType
from nncomp.ops import QuantRole, Role, builtin_table

TABLE = builtin_table()


def made(
    kind: str,
    shapes: Sequence[tuple[int, ...] | None] = ((2, 3),),
    *,
    domain: str = "",
    outputs: int = 1,
    **attrs: Any,
) -> tuple[Graph, Op]:
    graph = Graph()
    inputs = [
        None if shape is None else graph.add_input(f"x{i}", TensorType(DataType.FLOAT, shape))
        for i, shape in enumerate(shapes)
    ]
    return graph, graph.add_op(kind, inputs, [f"y{i}" for i in range(outputs)], attrs=attrs, domain=domain)


def role(kind: str, shapes: Sequence[tuple[int, ...] | None] = ((2, 3),), **attrs: Any) -> QuantRole:
    graph, op = made(kind, shapes, **attrs)
    return TABLE.quant(op, graph.opsets)


def weight_axis(kind: str, shapes: Sequence[tuple[int, ...] | None], domain: str = "", **attrs: Any) -> int | None:
    graph, op = made(kind, shapes, domain=domain, **attrs)
    found = TABLE.quant(op, graph.opsets)
    return None if found.weight_axis is None else found.weight_axis(op)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("Conv ConvTranspose Gemm MatMul", Role.COMPUTE),
        ("Add Sub Mul Concat Where Sigmoid HardSwish AveragePool GlobalAveragePool ReduceMean", Role.ELEMENTWISE),
        ("Reshape Transpose Slice Split Gather MaxPool Identity DepthToSpace Tile ArgMax", Role.PASSTHROUGH),
        ("Relu Clip", Role.ACTIVATION),
        ("Softmax LayerNormalization Exp Log Pow Sqrt Div Erf Gelu Tanh LSTM Attention", Role.SENSITIVE),
        ("If Loop Scan Equal Not Shape Size Cast NonZero Constant QuantizeLinear RandomNormal", Role.BARRIER),
    ],
)
def test_ops_have_the_role_that_their_meaning_gives_them(kinds: str, expected: Role) -> None:
    assert {kind: role(kind).role for kind in kinds.split()} == dict.fromkeys(kinds.split(), expected)


def test_whatever_stays_float_says_why() -> None:
    for row in TABLE:
        found = row.quant
        assert found is not None, row.kind
        if isinstance(found, QuantRole) and found.role in (Role.SENSITIVE, Role.BARRIER):
            assert found.reason, row.kind


def test_an_unknown_op_is_a_barrier() -> None:
    found = role("Frobnicate")
    assert (found.role, found.reason) == (Role.BARRIER, "no op semantics: nothing is known about this op")


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("kind", "shapes", "attrs", "axis"),
    [
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], {}, 0),
        ("ConvTranspose", [(1, 3, 8, 8), (3, 4, 3, 3)], {}, 1),
        ("Gemm", [(2, 3), (3, 4)], {}, 1),
        ("Gemm", [(2, 3), (4, 3)], {"transB": 1}, 0),
        ("MatMul", [(2, 3), (3, 4)], {}, 1),
        ("MatMul", [(5, 2, 3), (5, 3, 4)], {}, 2),
        ("MatMul", [(2, 3), (3,)], {}, None),
        ("Einsum", [(2, 3), (3, 4)], {"equation": "ij,jk->ik"}, 1),
        ("Einsum", [(2, 3), (4, 3)], {"equation": "ij,kj->ik"}, 0),
        ("Einsum", [(2, 3), (5, 3, 4)], {"equation": "...d,...de->...e"}, 2),
        ("Einsum", [(2, 3), (2, 3)], {"equation": "ij,ij->i"}, None),
    ],
)
def test_the_weight_of_a_product_is_at_slot_1_and_has_its_output_channels_on_an_axis(
    kind: str, shapes: list[tuple[int, ...] | None], attrs: dict[str, Any], axis: int | None
) -> None:
    assert role(kind, shapes, **attrs).weight == 1
    assert weight_axis(kind, shapes, **attrs) == axis


def test_the_weight_of_a_fused_matmul_may_be_transposed() -> None:
    shapes = [(5, 2, 3), (5, 4, 3)]
    assert weight_axis("FusedMatMul", shapes, "com.microsoft", transB=1) == 1
    assert weight_axis("FusedMatMul", shapes, "com.microsoft") == 2
    assert weight_axis("FusedMatMul", shapes, "com.microsoft", transBatchB=1) is None


def test_an_einsum_of_three_operands_is_a_barrier() -> None:
    assert role("Einsum", [(2,), (2,), (2,)], equation="i,i,i->").role == Role.BARRIER


def test_convolutions_and_gemm_have_their_bias_at_slot_2() -> None:
    assert [role(kind).bias for kind in ("Conv", "ConvTranspose", "Gemm", "MatMul")] == [2, 2, 2, None]


# ---------------------------------------------------------------- data


def test_a_constant_operand_of_matmul_is_its_weight_and_a_computed_one_an_activation() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT, (2, 3)))
    z = graph.add_input("z", TensorType(DataType.FLOAT, (3, 4)))
    w = graph.add_constant("w", np.zeros((3, 4), np.float32))
    weighted, product = graph.add_op("MatMul", [x, w]), graph.add_op("MatMul", [x, z])
    found = [TABLE.quant(op, graph.opsets).activation_slots(op, graph) for op in (weighted, product)]
    assert found == [(0,), (0, 1)]


@pytest.mark.parametrize(
    ("kind", "inputs", "slots"),
    [("Add", 2, (0, 1)), ("Concat", 3, (0, 1, 2)), ("Sum", 1, (0,)), ("Where", 3, (1, 2)), ("Gather", 2, (0,))],
)
def test_activations_are_found_in_the_data_slots(kind: str, inputs: int, slots: tuple[int, ...]) -> None:
    graph, op = made(kind, [(2, 3)] * inputs)
    assert TABLE.quant(op, graph.opsets).activation_slots(op, graph) == slots


def test_an_input_that_is_not_given_is_no_activation() -> None:
    graph, op = made("FusedConv", [(1, 3, 8, 8), (4, 3, 3, 3)], domain="com.microsoft")
    assert TABLE.quant(op, graph.opsets).activation_slots(op, graph) == (0,)


# ---------------------------------------------------------------- roles that depend on the op


def test_resize_passes_values_through_only_when_it_copies_the_nearest() -> None:
    assert role("Resize").role == Role.PASSTHROUGH
    assert role("Resize", mode="nearest").role == Role.PASSTHROUGH
    assert role("Resize", mode="linear").role == Role.ELEMENTWISE
    crop = "tf_crop_and_resize"
    assert role("Resize", coordinate_transformation_mode=crop).role == Role.PASSTHROUGH
    assert role("Resize", coordinate_transformation_mode=crop, extrapolation_value=9.0).role == Role.ELEMENTWISE


def test_pad_passes_values_through_when_it_adds_zeros_or_copies() -> None:
    assert role("Pad", [(2, 3), (4,)]).role == Role.PASSTHROUGH
    assert role("Pad", [(2, 3), (4,), ()], mode="reflect").role == Role.PASSTHROUGH
    assert role("Pad", [(2, 3), (4,), ()]).role == Role.ELEMENTWISE


@pytest.mark.parametrize(("value", "expected"), [(0.0, Role.PASSTHROUGH), (-1.0, Role.ELEMENTWISE)])
def test_pad_looks_at_a_constant_value(value: float, expected: Role) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT, (2, 3)))
    pads = graph.add_constant("pads", np.array([0, 0, 1, 1]))
    op = graph.add_op("Pad", [x, pads, graph.add_constant("value", np.array(value, np.float32))])
    assert TABLE.quant(op, graph.opsets).role == expected
    old = graph.add_op("Pad", [x], attrs={"pads": [0, 0, 1, 1], "value": value})
    assert TABLE.quant(old, {"": 2}).role == expected


def test_batch_normalization_in_training_mode_is_a_barrier() -> None:
    shapes = [(1, 4, 8, 8), (4,), (4,), (4,), (4,)]
    assert role("BatchNormalization", shapes).role == Role.ELEMENTWISE
    assert role("BatchNormalization", shapes, training_mode=1, outputs=3).role == Role.BARRIER


def test_dropout_passes_values_through_unless_it_may_be_training() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT, (2, 3)))
    off = graph.add_constant("off", np.array(False))
    training = graph.add_input("training", TensorType(DataType.BOOL, ()))
    ops = [graph.add_op("Dropout", [x]), graph.add_op("Dropout", [x, None, off])]
    ops.append(graph.add_op("Dropout", [x, None, training]))
    found = [TABLE.quant(op, graph.opsets).role for op in ops]
    assert found == [Role.PASSTHROUGH, Role.PASSTHROUGH, Role.BARRIER]
