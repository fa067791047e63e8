"""Output types of ONNX Runtime's own ops, against what the runtime computes for them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from nncomp.ir import DataType, Graph, TensorType, Type
from nncomp.ops import builtin_table

Array: TypeAlias = npt.NDArray[Any]

TABLE = builtin_table()
SCALE: Array = np.array(0.1, np.float32)
ZERO: Array = np.array(128, np.uint8)
SIGNED_ZERO: Array = np.array(0, np.int8)


def f32(*shape: int) -> Array:
    return np.full(shape, 0.5, np.float32)


def u8(*shape: int) -> Array:
    return np.full(shape, 130, np.uint8)


def s8(*shape: int) -> Array:
    return np.full(shape, 3, np.int8)


QUANTIZED: list[Array | None] = [SCALE, ZERO, SCALE, ZERO]
BINARY: list[Array | None] = [u8(2, 1, 4), SCALE, ZERO, u8(3, 1), SCALE, ZERO, SCALE, ZERO]
CASES: list[tuple[str, list[Array | None], dict[str, Any]]] = [
    ("Gelu", [f32(2, 3)], {}),
    ("FastGelu", [f32(2, 3), f32(3)], {}),
    ("Trilu", [f32(3, 3)], {}),
    ("FusedConv", [f32(1, 4, 9, 9), f32(6, 2, 3, 3)], {"group": 2, "strides": [2, 2], "pads": [1, 0, 1, 2]}),
    ("FusedConv", [f32(1, 4, 9, 9), f32(6, 4, 2, 2)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("FusedMatMul", [f32(2, 5, 4, 3), f32(2, 5, 6, 4)], {"transA": 1, "transB": 1}),
    ("FusedMatMul", [f32(4, 2, 5, 3), f32(2, 5, 4, 6)], {"transA": 1, "transBatchA": 1}),
    ("FusedMatMul", [f32(2, 5, 3, 4), f32(4, 2, 5, 6)], {"transBatchB": 1}),
    ("FusedGemm", [f32(3, 4), f32(6, 4), f32(6)], {"transB": 1, "activation": "Relu"}),
    ("QGemm", [u8(3, 4), SCALE, ZERO, s8(4, 6), SCALE, SIGNED_ZERO, None, SCALE, ZERO], {}),
    ("QGemm", [u8(3, 4), SCALE, ZERO, s8(4, 6), SCALE, SIGNED_ZERO], {}),
    ("DynamicQuantizeMatMul", [f32(2, 3, 4), s8(4, 6), SCALE, SIGNED_ZERO, f32(6)], {}),
    ("MatMulIntegerToFloat", [u8(2, 3, 4), s8(4, 6), SCALE, SCALE, ZERO, SIGNED_ZERO], {}),
    ("MatMulNBits", [f32(2, 3, 32), u8(8, 1, 16), f32(8)], {"K": 32, "N": 8, "bits": 4, "block_size": 32}),
    ("QLinearAdd", BINARY, {}),
    ("QLinearWhere", [np.ones((2, 3), bool), u8(2, 3), SCALE, ZERO, u8(3), *QUANTIZED[:2], SCALE, ZERO], {}),
    ("QLinearSigmoid", [u8(2, 3), *QUANTIZED], {}),
    ("QLinearConcat", [SCALE, ZERO, u8(2, 3), SCALE, ZERO, u8(2, 5), SCALE, ZERO], {"axis": 1}),
    ("QLinearGlobalAveragePool", [u8(1, 6, 5, 2), *QUANTIZED], {"channels_last": 1}),
    ("QLinearConv", [u8(1, 9, 9, 4), SCALE, ZERO, u8(6, 4, 3, 3), *QUANTIZED], {"channels_last": 1}),
    ("QuantizeLinear", [f32(2, 3), SCALE, ZERO], {}),
    ("DequantizeLinear", [u8(2, 3), SCALE, ZERO], {}),
    ("SkipLayerNormalization", [f32(2, 3, 4), f32(2, 3, 4), f32(4), f32(4)], {}),
    ("EmbedLayerNormalization", [np.ones((2, 3), np.int32), None, f32(9, 8), f32(5, 8), None, f32(8), f32(8)], {}),
    ("Attention", [f32(2, 5, 8), f32(8, 20), f32(20)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}),
    ("QAttention", [u8(2, 5, 8), u8(8, 24), f32(24), SCALE, SCALE, None, ZERO, ZERO], {"num_heads": 2}),
    ("MultiHeadAttention", [f32(2, 5, 8), f32(2, 7, 8), f32(2, 7, 12)], {"num_heads": 2}),
]


@pytest.mark.parametrize(("kind", "inputs", "attrs"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_rule_says_what_the_runtime_computes(kind: str, inputs: list[Array | None], attrs: dict[str, Any]) -> None:
    # EmbedLayerNormalization must have its second output, which no rule of ours types.
    outputs = ["y0", "y1"] if kind == "EmbedLayerNormalization" else ["y0"]
    assert _inferred(kind, inputs, outputs, attrs) == _computed(kind, inputs, outputs, attrs)


def test_a_symbolic_batch_stays_symbolic() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT, ("N", 4, 9, "W")))
    w = graph.add_constant("w", f32(6, 4, 3, 3))
    assert _rule(graph, "FusedConv", [x, w]) == TensorType(DataType.FLOAT, ("N", 6, 7, None))


def test_what_is_not_known_of_the_inputs_is_not_claimed_of_the_output() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DataType.FLOAT))
    untyped = graph.add_input("untyped", None)
    assert _rule(graph, "FusedMatMul", [x, x]) == TensorType(DataType.FLOAT)
    assert _rule(graph, "FusedMatMul", [untyped, x]) is None


def _rule(graph: Graph, kind: str, inputs: list[object]) -> Type | None:
    op = graph.add_op(kind, inputs, domain="com.microsoft")  # type: ignore[arg-type]
    row = TABLE.row(op, {})
    assert row is not None
    assert row.infer is not None
    return row.infer(op)[0]


def _inferred(kind: str, inputs: list[Array | None], outputs: list[str], attrs: dict[str, Any]) -> object:
    graph = Graph()
    values = [
        None if data is None else graph.add_input(f"x{i}", TensorType(DataType.from_numpy(data.dtype), data.shape))
        for i, data in enumerate(inputs)
    ]
    op = graph.add_op(kind, values, outputs, attrs=attrs, domain="com.microsoft")
    row = TABLE.row(op, {})
    assert row is not None
    assert row.infer is not None
    found = row.infer(op)[0]
    assert isinstance(found, TensorType)
    return found.shape, found.dtype.numpy()


def _computed(kind: str, inputs: list[Array | None], outputs: list[str], attrs: dict[str, Any]) -> object:
    given = {f"x{i}": data for i, data in enumerate(inputs) if data is not None}
    names = [f"x{i}" if data is not None else "" for i, data in enumerate(inputs)]
    node = onnx.helper.make_node(kind, names, outputs, domain="com.microsoft", **attrs)
    declared = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(data.dtype), data.shape)
        for name, data in given.items()
    ]
    graph = onnx.helper.make_graph([node], "g", declared, [onnx.helper.make_empty_tensor_value_info("y0")])
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, given)[0]
    return result.shape, result.dtype
