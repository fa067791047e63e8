"""Where things stand in a TOML text: tomllib gives values without their lines, and messages need the lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_HEADER: Final = re.compile(r"^\s*\[\[?\s*([^\]]*?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""^\s*([\w."'-]+(?:\s*\.\s*[\w"'-]+)*)\s*=""")
_STRING: Final = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|\]', re.DOTALL
)
_PASSES: Final = re.compile(r"^\s*(?:passes|\"passes\"|'passes')\s*=\s*\[", re.MULTILINE)


def position(text: str, offset: int) -> tuple[int, int]:
    """Return (line, column), both from 1, of ``text[offset]``."""
    before = text[:offset]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def pass_lines(text: str) -> tuple[int, ...]:
    """Return the line of each string in the array ``passes``."""
    start = _PASSES.search(text)
    if start is None:
        return ()
    lines: list[int] = []
    for token in _STRING.finditer(text, start.end()):
        if token[0] == "]":
            break
        if not token[0].startswith("#"):
            lines.append(position(text, token.start())[0])
    return tuple(lines)


def line_of_key(text: str, path: Sequence[str]) -> int | None:
    """Return the line of the key at ``path``; of the table around it when the key has no line of its own."""
    for length in range(len(path), 0, -1):
        wanted = ".".join(path[:length])
        for number, full, is_header in _entries(text):
            if full == wanted or (is_header and full.startswith(wanted + ".")):
                return number
    return None


def line_of_twin(text: str, line: int) -> int | None:
    """Return the first line that gives the key (or table) that ``line`` gives again."""
    entries = [entry for entry in _entries(text) if entry[0] <= line]
    if not entries:
        return None
    last, full, _ = entries[-1]
    for number, other, _ in entries[:-1]:
        if other == full or other.startswith(full + ".") or full.startswith(other + "."):
            return number
    return last if last != line else None


def dotted_too_deep(text: str, limit: int) -> int:
    """Return the first line with a key of more than ``limit`` parts, 0 for none. tomllib is quadratic in them."""
    found = re.search(rf"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){{{limit},}}""", text)
    return position(text, found.start())[0] if found else 0


def _entries(text: str) -> list[tuple[int, str, bool]]:
    """Return (line, full name, is a table header) of what begins a line, good enough for messages."""
    table = ""
    found: list[tuple[int, str, bool]] = []
    for number, line in enumerate(text.split("\n"), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _plain(header[1])
            found.append((number, table, True))
        elif key:
            name = _plain(key[1])
            found.append((number, f"{table}.{name}" if table else name, False))
    return found


def _plain(name: str) -> str:
    return re.sub(r"""[\s"']""", "", name)
