"""merge-movements: consecutive ops that only move, rename or clip elements become one, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from nncomp import Context, Effect, Graph, Op, Pass, Value
from nncomp.ir import Dim
from nncomp.ops import perm, squeeze_axes
from nncomp.rewrite import Match, Rule, any_value, op, rule
from nncomp_fusion import casts, clips
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.requirements import require_constant, require_shape, require_sole_reader

_SHAPE_OPS: Final = "Reshape|Flatten|Squeeze|Unsqueeze"


@rule(op("Transpose", op("Transpose", any_value("x"), bind="inner")))
def merge_transposes(m: Match) -> Value:
    """Transpose(Transpose(x, p), q) = Transpose(x, p[q]);  nothing is left where p[q] is the identity."""
    inner, x = m.op("inner"), m["x"]
    given = inner.attr("perm") or m.root.attr("perm")
    rank = len(given) if given is not None else len(require_shape(m, x))
    first, second = perm(inner, rank), perm(m.root, rank)
    both = tuple(first[axis] for axis in second)
    if both == tuple(range(rank)):
        return m.require_forwardable(x)
    require_sole_reader(m, inner.output)
    return m.add("Transpose", [x], attrs={"perm": both})


@rule(op(_SHAPE_OPS, op(_SHAPE_OPS, any_value("x"), bind="inner", open_ended=True), open_ended=True))
def merge_reshapes(m: Match) -> Value:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), Flatten, Squeeze and Unsqueeze being reshapes too.

    Elements keep their order, so only the last shape counts; nothing is left where that is the shape of x.
    """
    inner, x = m.op("inner"), m["x"]
    if {inner.kind, m.root.kind} == {"Squeeze", "Unsqueeze"}:
        axes = squeeze_axes(inner, m.graph)
        if axes is not None and axes == squeeze_axes(m.root, m.graph):
            return m.require_forwardable(x)
    dims = _result_dims(m, inner.output)
    if x.shape is not None and all(isinstance(dim, int) for dim in x.shape) and tuple(dims) == x.shape:
        return m.require_forwardable(x)
    require_sole_reader(m, inner.output)
    before, between = x.shape or (), inner.output.shape or ()
    same_batch = before[:1] == between[:1] and before[:1] not in ((), (None,))
    if m.root.is_a("Flatten") and m.root.attr("axis", 1) == 1 and same_batch:
        return m.add("Flatten", [x], attrs={"axis": 1})
    return m.add("Reshape", [x, m.constant(f"{m.root.output.name}_shape", _entries(m, dims, before))])


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    merge_transposes,
    merge_reshapes,
    *casts.RULES,
    *clips.MERGE_RULES,
)


class MergeMovements(Pass):
    """Merge consecutive Transposes, reshapes, Casts and Clips, and drop pairs that undo each other."""

    name: ClassVar[str] = "merge-movements"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Merge wherever the last op alone gives the same."""
        apply_rules(graph, RULES, ctx, self.name)


def _result_dims(m: Match, between: Value) -> list[Dim]:
    """Return the shape behind the root, told from the op and not from what the file declares; None is unknown."""
    root = m.root
    if root.is_a("Reshape"):
        return _reshaped(m, root, between)
    shape = list(require_shape(m, between))
    if root.is_a("Flatten"):
        axis = root.attr("axis", 1) % (len(shape) + 1) if root.attr("axis", 1) >= 0 else len(shape) + root.attr("axis")
        return [_product(shape[:axis]), _product(shape[axis:])]
    axes = squeeze_axes(root, m.graph)
    if axes is None:
        raise m.reject(f"the axes of {root.kind} are not known")
    if root.is_a("Squeeze"):
        return [dim for axis, dim in enumerate(shape) if axis not in axes]
    rest = iter(shape)
    return [1 if axis in axes else next(rest) for axis in range(len(shape) + len(axes))]


def _reshaped(m: Match, root: Op, between: Value) -> list[Dim]:
    if root.attr("allowzero", 0):
        raise m.reject("it makes empty tensors (allowzero=1)")
    dims: list[Dim] = []
    for axis, entry in enumerate(require_constant(m, root.input(1), "the shape").reshape(-1)):
        if entry == 0:  # "as in the input", which is the value between them
            dims.append(require_shape(m, between)[axis])
        else:
            dims.append(None if entry < 0 else int(entry))
    return dims


def _entries(m: Match, dims: Sequence[Dim], before: Sequence[Dim]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``dims`` as Reshape of x takes them: 0 copies a dimension of x, one may be -1."""
    entries: list[int] = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            entries.append(dim)
        elif isinstance(dim, str) and axis < len(before) and before[axis] == dim:
            entries.append(0)
        else:
            entries.append(-1)
    if 0 in dims:
        raise m.reject("the result is empty")
    if entries.count(-1) > 1:
        raise m.reject(f"{entries.count(-1)} dimensions of the result are not known")
    return np.array(entries, np.int64)


def _product(dims: Sequence[Dim]) -> Dim:
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) == len(dims):
        return math.prod(sizes)
    known = math.prod(sizes)
    return next(dim for dim in dims if not isinstance(dim, int)) if len(sizes) == len(dims) - 1 and known == 1 else None
