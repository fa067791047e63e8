"""Casts behind casts: the first is left out where it loses nothing."""

from __future__ import annotations

from typing import Final

from nncomp import DataType, Value
from nncomp.rewrite import Match, Rule, any_value, op, rule

_EXACT_INTEGERS: Final[dict[DataType, int]] = {DataType.FLOAT16: 11, DataType.FLOAT: 24, DataType.DOUBLE: 53}
"""Bits of integers that a float type holds exactly."""

_WIDER_FLOATS: Final[dict[DataType, tuple[DataType, ...]]] = {
    DataType.FLOAT16: (DataType.FLOAT, DataType.DOUBLE),
    DataType.BFLOAT16: (DataType.FLOAT, DataType.DOUBLE),
    DataType.FLOAT: (DataType.DOUBLE,),
}
_INTEGERS: Final[dict[DataType, tuple[int, bool]]] = {
    DataType.BOOL: (1, False),
    **{DataType[f"UINT{bits}"]: (bits, False) for bits in (8, 16, 32, 64)},
    **{DataType[f"INT{bits}"]: (bits - 1, True) for bits in (8, 16, 32, 64)},
}
"""Bits of magnitude, and whether there is a sign."""


@rule(op("Cast", op("Cast", any_value("x"), bind="inner")))
def merge_casts(m: Match) -> Value:
    """Cast(Cast(x, T), U) = Cast(x, U) where T holds each value of x's type;  x itself where U is that type."""
    x, inner = m["x"], m.op("inner")
    if x.tensor_type is None:
        raise m.reject("the type of its input is not known")
    start, middle, end = x.tensor_type.dtype, DataType(inner.attr("to")), DataType(m.root.attr("to"))
    if not _holds_all(middle, start):
        raise m.reject(f"{middle.name.lower()} does not hold every {start.name.lower()}")
    if start == end:
        return m.require_forwardable(x)
    if end not in _INTEGERS and end not in (*_EXACT_INTEGERS, DataType.BFLOAT16):
        raise m.reject(f"a cast to {end.name.lower()} is not one of numbers of 8 bits or more")
    if end in _INTEGERS and end is not DataType.BOOL and start not in _INTEGERS:
        raise m.reject(f"a {start.name.lower()} out of range of {end.name.lower()} may become something else")
    return m.add("Cast", [x], attrs={**m.root.attrs, "to": end.value})


RULES: Final[tuple[tuple[Rule, ...], ...]] = (merge_casts,)


def _holds_all(wide: DataType, narrow: DataType) -> bool:
    """True when ``wide`` holds each value of ``narrow``."""
    if wide == narrow or wide in _WIDER_FLOATS.get(narrow, ()):
        return True
    if narrow not in _INTEGERS:
        return False
    bits, signed = _INTEGERS[narrow]
    if wide in _EXACT_INTEGERS:
        return bits <= _EXACT_INTEGERS[wide]
    if wide not in _INTEGERS or wide is DataType.BOOL:
        return False
    room, sign = _INTEGERS[wide]
    return bits <= room and (sign or not signed)
