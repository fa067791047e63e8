"""Which ops of the graph each call of a kernel computes.

Variables are named after the op that they were emitted for (``origins``), and passes keep those names; where
they fuse operators, the names stand inside of the function that they make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nncomp_tvm.kernels.graph import bindings, name_of
from nncomp_tvm.library import relax, tvm
from nncomp_tvm.origins import origin_of


@dataclass(frozen=True)
class Site:
    """A call in ``main``, the function that it calls, and the numbers of the graph's ops that it computes, sorted."""

    kernel: str
    ops: tuple[int, ...]


def sites_of(module: Any, ours: Mapping[str, Sequence[tuple[int, ...]]]) -> tuple[Site, ...]:
    """Return the calls of ``main`` in their order.

    Args:
        module: Operators are fused, but not yet made one TIR function each.
        ours: What the calls of each of our kernels compute, in their order.
    """
    waiting = {name: list(calls) for name, calls in ours.items()}
    found = []
    for binding in bindings(module["main"]) if isinstance(module["main"].body, relax.SeqExpr) else []:
        call = binding.value
        function = call.args[0] if name_of(call) == "call_tir" else getattr(call, "op", None)
        if not isinstance(function, tvm.ir.GlobalVar):
            continue
        name = function.name_hint
        if waiting.get(name):
            ops: Sequence[int] = waiting[name].pop(0)
        else:
            inner = module[function]
            fused = bindings(inner) if isinstance(inner, relax.Function) else []
            numbers = {origin_of(one.var) for one in (binding, *fused)}
            ops = sorted(number for number in numbers if number is not None)
        found.append(Site(name, tuple(ops)))
    return tuple(found)
