"""What the rules of eliminate-noops share: how an output is replaced by an input, and what is proven about it."""

from __future__ import annotations

from nncomp.ir import Value
from nncomp.rewrite import Match
from nncomp_cleanup.proven import Proven, ProvenContext, is_rounded_late


def forwarded(m: Match, value: Value) -> Value:
    """Return ``value`` as what replaces the root's output, or decline where that would change the interface or bits."""
    if m.root.kind != "Identity" and is_rounded_late(m.graph, value):  # the runtime's Identity takes float32 as well
        raise m.reject("ONNX Runtime holds float16 in float32 between ops: it may be this op that makes it round")
    return m.require_forwardable(value)


def proven(m: Match) -> Proven:
    """Return the types that hold on every run."""
    assert isinstance(m.ctx, ProvenContext), "these rules run in eliminate-noops"
    return m.ctx.proven


def integers(m: Match, binding: str, attribute: str) -> tuple[int, ...] | None:
    """Return the integers of a constant input, or of the attribute of older opsets; () when neither is given.

    Returns:
        None when the input is computed.
    """
    value = m.get(binding)
    if value is None:
        return tuple(m.root.attr(attribute) or ()) if attribute else ()
    array = m.graph.array(value)
    return None if array is None else tuple(int(entry) for entry in array.reshape(-1))
