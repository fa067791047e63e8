"""Activation-aware scaling: what large activations multiply is rounded finely, because it is made large beforehand.

    y = W x = (W S) (S^-1 x),   S = diag(s),   s_k = (E[x_k^2])^(a/2), scaled to a geometric mean of 1

Rounding W S instead of W changes which weights of a block pay for the others' range. The exponent a is the one of the
least output error on calibration data (Lin et al., "AWQ", MLSys 2024, section 3.2, with the root of the second moment
for the mean magnitude). S^-1 costs one multiplication of the activations, which products of one activation share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nncomp.ir import Op, Value
from nncomp_quant.insert import frozen
from nncomp_quant.weight_only.blocks import Blocks
from nncomp_quant.weight_only.gptq import LayerMoments
from nncomp_quant.weight_only.products import Product

_EXPONENTS = tuple(np.linspace(0.0, 1.0, 11).tolist())


def channel_scales(layers: Sequence[LayerMoments], blocks: Blocks) -> npt.NDArray[np.float32]:
    """Return s, (K,) above zero, for products that read the same activation; all 1 where nothing is gained."""
    power = np.sqrt(np.diagonal(layers[0].inputs))
    if not power.any():
        return np.ones(len(power), np.float32)
    power = np.maximum(power, power[power > 0].min())
    power /= np.exp(np.log(power).mean())
    tried = [np.asarray(power**exponent, np.float32) for exponent in _EXPONENTS]
    errors = [sum(_error(layer, scales, blocks) for layer in layers) for scales in tried]
    return tried[int(np.argmin(errors))]


def scaled(layer: LayerMoments, scales: npt.NDArray[np.float32]) -> LayerMoments:
    """Return the problem of W S, which reads S^-1 x."""
    s = scales.astype(np.float64)
    return LayerMoments(layer.inputs / np.outer(s, s), layer.target * s)


def divide_input(products: Sequence[Product], scales: npt.NDArray[np.float32]) -> None:
    """Let all ops of ``products``, which read one activation, read S^-1 times it."""
    graph = products[0].graph
    inverse = graph.add_constant(f"{products[0].weight.name}_inverse_scaling", frozen(1 / scales))
    divided: dict[Value, Value] = {}
    for op in (op for product in products for op in product.ops):
        x = _activation(op)
        if x not in divided:
            divided[x] = graph.add_op("Mul", [x, inverse], [(f"{x.name}_scaled", x.type)]).output
        graph.set_input(op, 0, divided[x])


def _activation(op: Op) -> Value:
    value = op.inputs[0]
    assert value is not None
    return value


def _error(layer: LayerMoments, scales: npt.NDArray[np.float32], blocks: Blocks) -> float:
    rows = np.asarray(layer.target, np.float32) * scales
    change = blocks.rounded(rows, blocks.params(rows)) / scales - layer.target
    return float(np.einsum("ok,ok->", change @ layer.inputs, change))
