"""How codes are written into a graph: as MatMulNBits, or as a blocked DequantizeLinear in front of the product."""

from __future__ import annotations

from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op, Scratch, TensorType, Value
from nncomp.targets import WeightForm, WeightKernel
from nncomp_quant.dynamic import replace_op
from nncomp_quant.insert import frozen
from nncomp_quant.weight_only.blocks import Blocks, Codes, Params
from nncomp_quant.weight_only.products import Product

BLOCKED_QDQ_OPSET = 21
"""First opset whose DequantizeLinear has ``block_size`` and 4-bit types."""


class Writer(Protocol):
    """Takes the codes of a weight, rows by rows, and writes them into the graph."""

    def put(self, start: int, codes: Codes, params: Params) -> None:
        """Take rows from ``start`` on: codes (rows, blocks, size)."""

    def write(self, product: Product, scratch: Scratch) -> None:
        """Rewrite the product's ops; what is large is kept in ``scratch``."""


def writer(form: WeightForm, kernel: WeightKernel, blocks: Blocks, product: Product) -> Writer:
    """Return the writer of a form."""
    if form is WeightForm.MATMUL_NBITS:
        return _MatMulNBits(kernel, blocks, product)
    return _BlockedQdq(blocks, product)


class _MatMulNBits:
    """y = MatMulNBits(x, B, scales, zero_points, , bias), B (O, blocks, size * bits / 8), scales (O, blocks).

    Zero points, of asymmetric formats, are packed along blocks: (O, blocks * bits / 8), rounded up.
    """

    def __init__(self, kernel: WeightKernel, blocks: Blocks, product: Product) -> None:
        count = blocks.count(product.inputs)
        self.kernel, self.blocks = kernel, blocks
        self.packed = np.empty((product.outputs, count, blocks.size * blocks.bits // 8), np.uint8)
        self.scale = np.empty((product.outputs, count), np.float32)
        self.zero = np.empty((product.outputs, -(-count * blocks.bits // 8)), np.uint8)

    def put(self, start: int, codes: Codes, params: Params) -> None:
        stop = start + len(codes)
        self.packed[start:stop] = self.blocks.pack(codes)
        self.scale[start:stop] = params.scale
        self.zero[start:stop] = self.blocks.pack(params.zero)

    def write(self, product: Product, scratch: Scratch) -> None:
        graph, name = product.graph, product.weight.name
        graph.import_opset("com.microsoft", 1)
        parts: list[tuple[str, npt.NDArray[Any]]] = [("codes", self.packed), ("scales", self.scale)]
        parts += [] if self.blocks.symmetric else [("zero_points", self.zero)]
        constants: list[Value | None] = [
            graph.add_constant(f"{name}_{part}", scratch.keep(frozen(array))) for part, array in parts
        ]
        attrs = {
            "K": product.inputs,
            "N": product.outputs,
            "bits": self.blocks.bits,
            "block_size": self.blocks.size,
            "accuracy_level": self.kernel.accuracy_level,
        }
        for op in product.ops:
            bias = _row_bias(graph, op, product.outputs)
            inputs = [op.inputs[0], *constants]
            if bias is not None:
                inputs += [None] * (5 - len(inputs)) + [bias]
            result = graph.add_op(
                "MatMulNBits",
                inputs,
                [(f"{op.output.name}_nbits", op.output.type)],
                attrs=attrs,
                domain="com.microsoft",
                like=op,
            ).output
            _finish(graph, op, result, added=bias is not None)


class _BlockedQdq:
    """y = MatMul(x, DequantizeLinear(W, scales, zero_points)) (+ b), W (K, O) blocked along K, scales (blocks, O).

    Symmetric formats are signed and have no zero points; others are unsigned.
    """

    def __init__(self, blocks: Blocks, product: Product) -> None:
        count = blocks.count(product.inputs)
        self.blocks = blocks
        self.codes = np.empty((product.inputs, product.outputs), np.uint8)
        self.scale = np.empty((count, product.outputs), np.float32)
        self.zero = np.empty((count, product.outputs), np.uint8)

    def put(self, start: int, codes: Codes, params: Params) -> None:
        stop = start + len(codes)
        self.codes[:, start:stop] = codes.reshape(len(codes), -1)[:, : len(self.codes)].T
        self.scale[:, start:stop] = params.scale.T
        self.zero[:, start:stop] = params.zero.T

    def write(self, product: Product, scratch: Scratch) -> None:
        graph, name = product.graph, product.weight.name
        parts: list[tuple[str, npt.NDArray[Any]]] = [("codes", self._typed(self.codes)), ("scales", self.scale)]
        parts += [] if self.blocks.symmetric else [("zero_points", self._typed(self.zero))]
        inputs = [graph.add_constant(f"{name}_{part}", scratch.keep(frozen(array))) for part, array in parts]
        weight = graph.add_op(
            "DequantizeLinear",
            inputs,
            [(f"{name}_dequantized", TensorType(DataType.FLOAT, self.codes.shape))],
            attrs={"axis": 0, "block_size": self.blocks.size},
            name=f"{name}_DequantizeLinear",
        ).output
        for op in product.ops:
            result = graph.add_op(
                "MatMul", [op.inputs[0], weight], [(f"{op.output.name}_product", op.output.type)], like=op
            ).output
            _finish(graph, op, result, added=False)

    def _typed(self, codes: Codes) -> npt.NDArray[Any]:
        if self.blocks.symmetric:
            signed = (codes ^ self.blocks.middle).view(np.int8)  # two's complement, in the lowest bits
            if self.blocks.bits == 8:
                return signed
            return (signed << 4 >> 4).astype(ml_dtypes.int4)
        return codes if self.blocks.bits == 8 else codes.astype(ml_dtypes.uint4)


def _row_bias(graph: Graph, op: Op, outputs: int) -> Value | None:
    """Return the bias as (O,), None if there is none or it has another form."""
    bias = op.input(2)
    array = graph.array(bias)
    if bias is None or array is None or array.size != outputs or array.shape[-1:] != (outputs,):
        return None
    return bias if array.ndim == 1 else graph.add_constant(bias.name, frozen(array.reshape(-1)))


def _finish(graph: Graph, op: Op, result: Value, *, added: bool) -> None:
    bias = op.input(2)
    if bias is not None and not added:
        result = graph.add_op("Add", [result, bias], [(f"{op.output.name}_biased", op.output.type)]).output
    replace_op(graph, op, result)
