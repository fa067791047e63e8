"""Who converts an op: our own emission if there is one, else TVM's frontend."""

from __future__ import annotations

from collections.abc import Sequence

from nncomp_tvm.library import Expr
from nncomp_tvm.lowering.calls import Call
from nncomp_tvm.lowering.frontend import from_frontend


def converted(call: Call) -> Sequence[Expr]:
    """Return the outputs of an op, in order.

    Raises:
        NotLoweredError: nobody can convert it.
    """
    return from_frontend(call)
