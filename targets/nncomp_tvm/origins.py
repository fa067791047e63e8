"""Variables of Relax that say which op of the graph they were emitted for: by their names, which passes keep."""

from __future__ import annotations

import re
from typing import Any, Final

_ORIGIN: Final = re.compile(r"op_(\d+)_\d*$")


def named_after(number: int) -> str:
    """Return the name of a variable that is emitted for an op of the graph; TVM appends digits to make it unique."""
    return f"op_{number}_"


def origin_of(variable: Any) -> int | None:
    """Return the number of the op that a variable was emitted for."""
    found = _ORIGIN.match(variable.name)
    return int(found[1]) if found else None
