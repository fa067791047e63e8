"""LayerNormalization written as means, differences and a root."""

from __future__ import annotations

from typing import Final

from nncomp import Value
from nncomp.ops import reduce_axes
from nncomp.rewrite import Match, OpPattern, Pattern, Rule, any_value, const, op, rule
from nncomp_fusion.requirements import (
    number,
    require_float,
    require_opset,
    require_private,
    require_scalars,
    require_shape,
)

_SINCE: Final = 17


def _mean(inner: Pattern) -> OpPattern:
    return op("ReduceMean", inner, open_ended=True)


_CENTERED: Final = op("Sub", any_value("x"), _mean(any_value("x")))
_SQUARES: Final = (op("Pow", _CENTERED, const("two")), op("Mul", _CENTERED, _CENTERED))
_DEVIATIONS: Final = tuple(op("Sqrt", op("Add", _mean(s), const("epsilon"), commutative=True)) for s in _SQUARES)
_NORMALIZED: Final = (
    *(op("Div", _CENTERED, deviation) for deviation in _DEVIATIONS),
    *(op("Mul", _CENTERED, op("Reciprocal", deviation), commutative=True) for deviation in _DEVIATIONS),
)


@rule(
    *(
        op("Add", op("Mul", normalized, any_value("scale"), commutative=True), any_value("shift"), commutative=True)
        for normalized in _NORMALIZED
    )
)
def recognize_layer_normalization(m: Match) -> Value:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) scale + shift = LayerNormalization(x, scale, shift).

    x (..., *D), means over D, the last axes; scale and shift (*D).
    """
    x = m["x"]
    shape = require_shape(m, x)
    inside = require_private(m, [x, m["scale"], m["shift"]])
    means = [one for one in inside if one.is_a("ReduceMean")]
    axes = {reduce_axes(one, m.graph) for one in means}
    if len(axes) != 1 or not all(one.attr("keepdims", 1) for one in means):
        raise m.reject("mean and variance are taken over different axes")
    reduced = axes.pop()
    if not reduced or reduced != tuple(range(reduced[0], len(shape))):
        raise m.reject(f"means are over axes {list(reduced or ())}, expected the last of {len(shape)}")
    if m.get("two") is not None and number(m, "two") != 2:
        raise m.reject(f"its exponent is {number(m, 'two'):g}, expected 2")
    normalized = shape[reduced[0] :]
    for name in ("scale", "shift"):
        if require_shape(m, m[name]) != normalized or not all(isinstance(dim, int) for dim in normalized):
            raise m.reject(f"{name} is {m[name].type}, which is not the shape that is normalized")
    require_opset(m, "LayerNormalization", _SINCE)
    require_float(m, x, "LayerNormalization")
    require_scalars(m, x, "two", "epsilon")
    attrs = {"axis": reduced[0] - len(shape), "epsilon": number(m, "epsilon")}
    return m.add("LayerNormalization", [x, m["scale"], m["shift"]], attrs=attrs)


RULES: Final[tuple[tuple[Rule, ...], ...]] = (recognize_layer_normalization,)
