"""Who converts an op: our own emission if there is one, else TVM's frontend."""

from __future__ import annotations

from collections.abc import Sequence

from nncomp_tvm.library import Expr
from nncomp_tvm.lowering.calls import Call
from nncomp_tvm.lowering.frontend import from_frontend, with_tensors
from nncomp_tvm.lowering.own import OWN


def converted(call: Call) -> Sequence[Expr]:
    """Return the outputs of an op, in order.

    Raises:
        NotLoweredError: nobody can convert it.
    """
    own = OWN.get(call.op.kind) if not call.op.domain else None
    results = own(with_tensors(call)) if own is not None else None
    return from_frontend(call) if results is None else results
