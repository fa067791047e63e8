"""Quantization roles in short, for the rows of the table."""

from __future__ import annotations

from typing import Final

from nncomp.ops.semantics import QuantRole, Role

ELEMENTWISE: Final = QuantRole(Role.ELEMENTWISE)
PASSTHROUGH: Final = QuantRole(Role.PASSTHROUGH)
ACTIVATION: Final = QuantRole(Role.ACTIVATION)
ELEMENTWISE_PAIR: Final = QuantRole(Role.ELEMENTWISE, data=(0, 1))
ELEMENTWISE_ALL: Final = QuantRole(Role.ELEMENTWISE, variadic=True)


def sensitive(reason: str, *, data: tuple[int, ...] = (0,)) -> QuantRole:
    """Return the role of an op that stays float by default; ``reason`` ends the sentence "left in float: ..."."""
    return QuantRole(Role.SENSITIVE, data=data, reason=reason)


def barrier(reason: str, *, weight: int | None = None, bias: int | None = None) -> QuantRole:
    """Return the role of an op that quantization cannot enter.

    ``weight`` and ``bias`` only say which integer constants are parameters.
    """
    return QuantRole(Role.BARRIER, data=(), weight=weight, bias=bias, reason=reason)
