"""The JSON text of a report: indented, keys in their order, and a list of numbers on one line.

The layers of a large model make megabytes of it, and Python's own encoder takes its slow way when it has to indent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, Final


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"JSON has no number for {value!r}")
    return float.__repr__(value)


_LEAVES: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: _number,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
}


def json_text(value: Any, indent: str = "") -> str:
    """Return the JSON text of what :func:`nncomp.report.plain` gave, as ``json.dumps(value, indent=2)`` does.

    Args:
        value: None, texts, finite numbers, and lists and dicts of them.
        indent: What stands in front of the line that the value begins on.

    Raises:
        ValueError: a number is not finite.
    """
    leaf = _LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    deeper, lines = f"{indent}  ", []
    if isinstance(value, dict):
        for key, item in value.items():
            leaf = _LEAVES.get(type(item))
            text = json_text(item, deeper) if leaf is None else leaf(item)
            lines.append(f"{deeper}{encode_basestring_ascii(key)}: {text}")
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    texts = [json_text(item, deeper) for item in value]
    if all(type(item) in (int, float) for item in value):
        return f"[{', '.join(texts)}]"
    return "[\n" + ",\n".join([f"{deeper}{text}" for text in texts]) + f"\n{indent}]"
