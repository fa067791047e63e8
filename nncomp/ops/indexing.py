"""Ops that select elements, or write some into others."""

from __future__ import annotations

from nncomp.ops.counting import free, per_input
from nncomp.ops.coupling import stays
from nncomp.ops.labels import cutting, selecting
from nncomp.ops.roles import ELEMENTWISE_PAIR, PASSTHROUGH, barrier, sensitive
from nncomp.ops.semantics import OpSemantics, QuantRole, Role, rows

_SCATTER = QuantRole(Role.ELEMENTWISE, data=(0, 2))  # updates keep a scale of their own, as in Concat

ROWS: tuple[OpSemantics, ...] = (
    *rows("Slice", axes=cutting.slice_, cost=free, quant=PASSTHROUGH),
    *rows("Split", axes=cutting.split, cost=free, quant=PASSTHROUGH),
    *rows("Compress", axes=selecting.compress, cost=free, quant=PASSTHROUGH),
    *rows("Gather", axes=selecting.gather, cost=free, quant=PASSTHROUGH),
    *rows("GatherElements", axes=selecting.gather_elements, cost=free, quant=PASSTHROUGH),
    *rows("GatherND", axes=selecting.gather_nd, cost=free, quant=PASSTHROUGH),
    *rows("Scatter ScatterElements", axes=selecting.scatter_elements, cost=free, quant=_SCATTER),
    *rows("ScatterND", axes=selecting.scatter_nd, cost=free, quant=_SCATTER),
    *rows("TensorScatter", axes=selecting.tensor_scatter, cost=free, quant=ELEMENTWISE_PAIR),
    *rows("TopK", axes=selecting.top_k, cost=per_input(), quant=PASSTHROUGH),
    *rows("NonZero", axes=stays("gives indices"), cost=per_input(), quant=barrier("gives indices")),
    *rows(
        "Unique",
        axes=stays("compares all elements with each other"),
        cost=per_input(),
        quant=barrier("equality of rounded values is not equality"),
    ),
    *rows("OneHot", axes=selecting.one_hot, cost=free, quant=barrier("reads indices")),
    *rows(
        "NonMaxSuppression",
        axes=stays("compares all boxes with each other"),
        quant=sensitive("box coordinates need more than 8 bits", data=(0, 1)),
    ),
    *rows(
        "GatherND",
        axes=stays("indices are read another way than in ONNX"),
        domain="com.microsoft",
        cost=free,
        quant=PASSTHROUGH,
    ),
    *rows(
        "Unique",
        axes=stays("compares all elements with each other"),
        domain="com.microsoft",
        quant=barrier("equality of rounded values is not equality"),
    ),
)
