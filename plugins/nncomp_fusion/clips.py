"""Clip and Relu: pairs of them made one, and Min and Max recognized as a Clip."""

from __future__ import annotations

from typing import Final

import numpy as np

from nncomp import DataType, Op, Value
from nncomp.ops import clip_bounds
from nncomp.rewrite import Match, Rule, any_value, const, op, rule
from nncomp_fusion.requirements import number, opset, require_private, require_scalars, require_sole_reader

_FLOATS: Final = (DataType.FLOAT, DataType.FLOAT16)
_CLIP_HAS_INPUTS: Final = 11


@rule(op("Clip|Relu", op("Clip|Relu", any_value("x"), bind="inner", open_ended=True), open_ended=True))
def merge_clips(m: Match) -> Value:
    """clip(clip(x, a, b), c, d) = clip(x, clip(a, c, d), clip(b, c, d));  Relu is a clip to [0, inf].

    A Clip without a bound has, by its definition, the largest finite number for one.
    """
    inner = m.op("inner")
    first, second = clip_bounds(inner, m.graph), clip_bounds(m.root, m.graph)
    if first is None or second is None:
        raise m.reject("a bound is computed at run time")
    dtype = _float_type(m, m["x"])
    a, b = _closed(inner, first, dtype)
    c, d = _closed(m.root, second, dtype)
    if a > b or c > d:
        raise m.reject("a lower bound lies above the upper one")
    if c <= a and b <= d:
        return m.require_forwardable(inner.output)
    require_sole_reader(m, inner.output)
    low, high = float(np.clip(a, c, d)), float(np.clip(b, c, d))
    return add_clip(m, m["x"], low, high, dtype)


@rule(
    op("Min", op("Max", any_value("x"), const("low"), commutative=True), const("high"), commutative=True),
    op("Max", op("Min", any_value("x"), const("high"), commutative=True), const("low"), commutative=True),
    op("Min", op("Relu", any_value("x")), const("high"), commutative=True),
    op("Relu", op("Min", any_value("x"), const("high"), commutative=True)),
)
def min_and_max_to_clip(m: Match) -> Value:
    """min(max(x, a), b) = max(min(x, b), a) = clip(x, a, b) for a <= b;  min(relu(x), 6) is Relu6."""
    x = m["x"]
    dtype = _float_type(m, x)
    require_scalars(m, x, "low", "high")
    low, high = number(m, "low") if m.get("low") is not None else 0.0, number(m, "high")
    if low > high:
        raise m.reject(f"the lower bound {low:g} lies above the upper bound {high:g}")
    require_private(m, [x])
    return add_clip(m, x, low, high, dtype)


MERGE_RULES: Final[tuple[tuple[Rule, ...], ...]] = (merge_clips,)
RECOGNIZE_RULES: Final[tuple[tuple[Rule, ...], ...]] = (min_and_max_to_clip,)


def add_clip(m: Match, x: Value, low: float, high: float, dtype: DataType | None = None) -> Value:
    """Return clip(x, low, high); bounds that its type has no larger number for are left out.

    Args:
        m: Where it is added.
        x: What is clipped.
        low: Lower bound.
        high: Upper bound.
        dtype: Of x; default: what is known.
    """
    stored = (dtype or _float_type(m, x)).numpy()
    largest = float(np.finfo(stored).max)
    bounds = {name: bound for name, bound in (("min", low), ("max", high)) if abs(bound) < largest}
    if opset(m) < _CLIP_HAS_INPUTS:
        return m.add("Clip", [x], attrs=bounds)
    constants = {name: m.constant(f"{x.name}_{name}", np.array(bound, stored)) for name, bound in bounds.items()}
    return m.add("Clip", [x, constants.get("min"), constants.get("max")])


def _float_type(m: Match, x: Value) -> DataType:
    type_ = x.tensor_type or m.root.output.tensor_type
    if type_ is None:
        raise m.reject("the type of its input is not known")
    if type_.dtype not in _FLOATS:
        raise m.reject(f"its input is {type_.dtype.name.lower()}, expected float or float16")
    return type_.dtype


def _closed(clip: Op, bounds: tuple[float | None, float | None], dtype: DataType) -> tuple[float, float]:
    largest = np.inf if clip.is_a("Relu") else float(np.finfo(dtype.numpy()).max)
    low, high = bounds
    return -largest if low is None else low, largest if high is None else high
