"""Bring integer convolutions to the kernel that reads their input in place: input channels in fours, the rest zeros.

ONNX Runtime has two kernels for a dense QLinearConv. One copies a window of the input for every output pixel (im2col)
and writes 32-bit sums that a second sweep makes UINT8. The other reads the input where it lies and writes UINT8 at
once, but only where input channels are a multiple of four (``MlasConvSymPackWSize`` in its ``convsym.cpp``). Three
channels of an image are not: a fourth of zeros, with weights of zero, halves what the first convolution takes and
changes no sum.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, TensorType, Type, Value

INPUT_MULTIPLE: Final = 4
OUTPUT_MULTIPLE: Final = 4
FEWEST_OUTPUTS: Final = 16
_PAD_OPSET: Final = 13
"""First opset whose Pad takes integers."""


def pad_input_channels(graph: Graph) -> int:
    """Pad the quantized inputs and weights of the convolutions that gain by it; return how many.

    x_q (N, C, ...) -> Pad(x_q, zero point) (N, C + P, ...), w_q (O, C, ...) -> (O, C + P, ...), zeros, P = -C mod 4:
    each new product is (zero point - zero point) * 0.
    """
    if graph.opsets.get("", 0) < _PAD_OPSET:
        return 0
    padded: dict[Value, Value] = {}
    found = [op for op in graph.ops() if _gains(graph, op)]
    for op in found:
        data, weight = op.inputs[0], op.inputs[1]
        codes = _codes(graph, op)
        assert data is not None and weight is not None and codes is not None
        if data not in padded:
            padded[data] = _padded_activation(graph, data, codes)
        graph.set_input(op, 0, padded[data])
        graph.set_input(op, 1, _padded_weight(graph, weight, codes))
        graph.remove_unused([data, weight])
    return len(found)


def _gains(graph: Graph, op: Op) -> bool:
    codes = _codes(graph, op)
    if codes is None or op.attr("group", 1) != 1 or not _missing(codes):
        return False
    data, weight = op.inputs[0], op.inputs[1]
    source = data.producer if data is not None else None
    if source is None or not source.is_a("DequantizeLinear"):
        return False
    if not all(_is_one_number(graph.array(value)) for value in source.inputs[1:]):
        return False
    assert weight is not None and weight.producer is not None
    zero = graph.array(weight.producer.input(2))
    windows = np.prod(codes.shape[2:]) > 1  # a single pixel is read in place anyway
    outputs = codes.shape[0]
    return bool(
        windows and outputs >= FEWEST_OUTPUTS and outputs % OUTPUT_MULTIPLE == 0 and (zero is None or not zero.any())
    )


def _codes(graph: Graph, op: Op) -> npt.NDArray[Any] | None:
    """Return a convolution's weight as it is stored, INT8 (O, C, ...); None where it is not."""
    weight = op.input(1) if op.is_a("Conv") else None
    if weight is None or weight.producer is None or not weight.producer.is_a("DequantizeLinear"):
        return None
    codes = graph.array(weight.producer.inputs[0])
    return codes if codes is not None and codes.dtype == np.int8 and codes.ndim > 2 else None


def _is_one_number(array: npt.NDArray[Any] | None) -> bool:
    return array is not None and array.size == 1


def _missing(codes: npt.NDArray[Any]) -> int:
    channels: int = codes.shape[1]
    return -channels % INPUT_MULTIPLE


def _padded_activation(graph: Graph, data: Value, codes: npt.NDArray[Any]) -> Value:
    source = data.producer
    assert source is not None and source.inputs[0] is not None
    stored = source.inputs[0]
    amounts = np.zeros(2 * codes.ndim, np.int64)
    amounts[codes.ndim + 1] = _missing(codes)  # behind the last channel
    operands = [stored, graph.add_constant(f"{stored.name}_pads", _frozen(amounts)), source.input(2)]
    type_ = _wider(stored, codes)
    pad = graph.add_op("Pad", operands, [(f"{stored.name}_padded", type_)], name=f"{stored.name}_Pad")
    return _dequantized(graph, data, pad.output, _wider(data, codes))


def _padded_weight(graph: Graph, weight: Value, codes: npt.NDArray[Any]) -> Value:
    assert weight.producer is not None and weight.producer.inputs[0] is not None
    wider = np.pad(codes, [(0, 0), (0, _missing(codes)), *[(0, 0)] * (codes.ndim - 2)])
    constant = graph.add_constant(f"{weight.producer.inputs[0].name}_padded", _frozen(wider))
    return _dequantized(graph, weight, constant, _wider(weight, codes))


def _dequantized(graph: Graph, like: Value, stored: Value, type_: Type | None) -> Value:
    source = like.producer
    assert source is not None
    return graph.add_op(
        source.kind,
        [stored, *source.inputs[1:]],
        [(f"{like.name}_padded", type_)],
        attrs=source.attrs,
        name=f"{like.name}_DequantizeLinear",
    ).output


def _wider(value: Value, codes: npt.NDArray[Any]) -> Type | None:
    type_, shape = value.tensor_type, value.shape
    if type_ is None or shape is None:
        return None
    return TensorType(type_.dtype, (shape[0], codes.shape[1] + _missing(codes), *shape[2:]))


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
