"""GPTQ: round the inputs of a layer in turn, and let those left make up for each rounding.

With x what the layer reads in the model as it is by then, quantized in front, and y what it gave in the original,

    min over Q of E |y - Q x|^2  =  min of tr((Q - W*) H (Q - W*)^T) + constant,   H = E[x x^T],  W* = E[y x^T] H^-1

and the sweep of :mod:`nncomp.obs` rounds W* (Frantar et al., "GPTQ", ICLR 2023; the target that repairs what rounding
in front has done: Li et al., "GPTAQ", ICML 2025). Columns go by falling E[x^2], so that those that matter most are
rounded first; scales are chosen before, for the least error weighted with E[x^2].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.obs import Floats, inverse_factor, sweep
from nncomp.statistics import Moments
from nncomp_quant.weight_only.blocks import Blocks, Codes, Params

RIDGE: Final = 1.0
"""How much the original weight weighs against the data in W*, relative to the mean of E[x^2]: calibration sets are
small, and W* must hold for other inputs, too."""

DAMPING: Final = 0.01
"""Added to the diagonal of H, relative to its mean (GPTQ, section 3)."""


@dataclass(frozen=True, slots=True)
class LayerMoments:
    """What GPTQ knows of the data that a product sees.

    Attributes:
        inputs: (K, K) E[x x^T].
        target: (O, K) W*, what the rounded weight should be.
    """

    inputs: Floats
    target: Floats


def layer_moments(
    moments: Moments, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None, *, repair: bool
) -> LayerMoments:
    """Return the problem of one product.

    Args:
        moments: Of the product, one group.
        weight: (O, K).
        bias: (O,) of the product, None without.
        repair: Aim at the outputs of the original; else at those of ``weight`` on the inputs as they have become.
    """
    count = max(moments.count, 1)
    inputs = moments.xx[0] / count
    target = weight.astype(np.float64)
    if not repair:
        return LayerMoments(inputs, target)
    cross = moments.yx[0] / count
    if bias is not None:
        cross = cross - np.outer(bias.astype(np.float64), moments.x[0] / count)
    ridge = RIDGE * (float(np.diagonal(inputs).mean()) or 1.0)
    # (cross + ridge W) (inputs + ridge)^-1 = W + (cross - W inputs) (inputs + ridge)^-1
    change = np.linalg.solve(inputs + ridge * np.eye(len(inputs)), (cross - target @ inputs).T).T
    return LayerMoments(inputs, target + change)


def gptq(layer: LayerMoments, blocks: Blocks) -> tuple[Codes, Params]:
    """Return codes, (O, blocks, size), and scales.

    Args:
        layer: From :func:`layer_moments`.
        blocks: Format.
    """
    importance = np.diagonal(layer.inputs)
    order = np.argsort(-importance, kind="stable")
    params = blocks.fitted(layer.target, importance / (importance.max() or 1.0))
    factor = inverse_factor(layer.inputs[np.ix_(order, order)], damping=DAMPING)
    rounding = _Rounding(blocks, params)
    result = sweep(layer.target, factor, rounding, order=order)
    return blocks.codes(result, params), params


@dataclass
class _Rounding:
    """Rounds each column to the nearest of its block's codes."""

    blocks: Blocks
    params: Params

    def begin(self, columns: npt.NDArray[np.intp], weights: Floats, pivots: Floats) -> None:
        """See :class:`nncomp.obs.Decision`; scales are chosen already."""

    def column(self, index: int, weights: Floats) -> Floats:
        block = index // self.blocks.size
        scale = self.params.scale[:, block].astype(np.float64)
        zero = self.params.zero[:, block].astype(np.float64)
        codes = np.clip(np.rint(weights / scale) + zero, 0, self.blocks.top)
        return np.asarray((codes - zero) * scale)
