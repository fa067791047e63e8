"""Pools: a window's elements are compared or summed, one operation each."""

from __future__ import annotations

import math

from nncomp.ir import Op
from nncomp.ops.counting import Counted, per_input, size, unpriced
from nncomp.ops.coupling import stays
from nncomp.ops.labels.resampling import regions, unpool
from nncomp.ops.labels.spatial import pool
from nncomp.ops.roles import ELEMENTWISE, PASSTHROUGH, sensitive
from nncomp.ops.semantics import OpSemantics, Scaling, rows


def window_cost(op: Op) -> Counted:
    """Count output elements * window."""
    elements, window = size(op.output), op.attr("kernel_shape")
    return None if elements is None or not window else (0, elements * math.prod(window))


_POWERS = sensitive("powers magnify rounding errors")

ROWS: tuple[OpSemantics, ...] = (
    *rows("MaxPool", axes=pool, cost=window_cost, quant=PASSTHROUGH, scaling=Scaling.CHANNELWISE),
    *rows("GlobalMaxPool", axes=pool, cost=per_input(), quant=PASSTHROUGH, scaling=Scaling.CHANNELWISE),
    *rows("AveragePool", axes=pool, cost=window_cost, quant=ELEMENTWISE, scaling=Scaling.CHANNELWISE),
    *rows("GlobalAveragePool", axes=pool, cost=per_input(), quant=ELEMENTWISE, scaling=Scaling.CHANNELWISE),
    *rows("LpPool", axes=pool, cost=window_cost, quant=_POWERS, scaling=Scaling.CHANNELWISE),
    *rows("GlobalLpPool", axes=pool, cost=per_input(), quant=_POWERS, scaling=Scaling.CHANNELWISE),
    *rows("MaxRoiPool", axes=regions, cost=unpriced, quant=PASSTHROUGH),
    *rows("MaxUnpool", axes=unpool, cost=per_input(), quant=PASSTHROUGH),
    *rows(
        "NhwcMaxPool", axes=stays("keeps channels last"), domain="com.microsoft", cost=window_cost, quant=PASSTHROUGH
    ),
    *rows("MaxpoolWithMask", axes=pool, domain="com.microsoft", cost=window_cost, quant=PASSTHROUGH),
)
