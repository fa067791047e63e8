"""Tokens of ONNX text syntax, for what onnx's own parser does not tell: where comments are, what was declared when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<skip> \s+ | \#[^\n]* )
    | "(?:[^"\\]|\\.)*"                                  # string or quoted name
    | [A-Za-z_]\w*                                       # name
    | -?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[A-Za-z]+)     # number, -inf, -nan
    | =>
    | .                                                  # punctuation
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")


def tokens(text: str) -> list[str]:
    """Return the tokens of ``text`` without white space and comments."""
    return [match.group() for match in _TOKEN.finditer(text) if match.lastgroup != "skip"]


def has_header(text: str) -> bool:
    """True when ``text`` starts with model fields (``<ir_version: ...>``) rather than with a graph."""
    first = next((match.group() for match in _TOKEN.finditer(text) if match.lastgroup != "skip"), "")
    return first == "<"


def declared_names(text: str) -> Iterator[list[str]]:
    """Yield the names in the ``<...>`` of each graph and function, in order of the text: bodies behind their owners."""
    found = tokens(text)
    for place, sign in enumerate(found):
        if sign == "=>":
            at = _closing(found, place + 1) + 1
            yield list(_names(found, at)) if found[at : at + 1] == ["<"] else []


def _closing(found: list[str], at: int) -> int:
    """Return where the bracket that opens at ``at`` is closed."""
    depth = 0
    for place in range(at, len(found)):
        depth += (found[place] in _OPEN) - (found[place] in _CLOSE)
        if depth == 0:
            return place
    return len(found)


def _names(found: list[str], at: int) -> Iterator[str]:
    """Yield the name of each entry of the list that opens at ``at``: the last token before ``=``, ``,`` or ``>``."""
    depth, name = 0, ""
    for place in range(at + 1, len(found)):
        sign = found[place]
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth == 0 and sign in ("=", ",", ">"):
            if name:
                yield _unquoted(name)
            name = ""
            if sign == ">":
                return
        elif depth == 0 and sign not in _CLOSE:
            name = sign


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token.startswith('"') else token
