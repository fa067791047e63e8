"""Tables and numbers for people, on stdout: 80 columns suffice, and nothing in a cell is read as markup."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from nncomp.cli.streams import LONGEST, printable
from nncomp.wording import bytes_text, change_text, count_text, decibel_text, points_text, time_text

__all__ = [
    "bytes_text", "change_text", "count_text", "decibel_text", "points_text", "say", "show_json", "show_table",
    "stdout", "time_text",
]  # fmt: skip

_PIPE_WIDTH: Final = 160
_LONGEST_LINE: Final = 4000


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Iterable[int] = (),
    whole: bool = False,
) -> None:
    """Print a table; columns in ``right`` are numbers, and long cells are cut in the middle unless ``whole``."""
    longest = _LONGEST_LINE if whole else LONGEST
    table = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_edge=False,
    )
    numbers = set(right)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell), longest=longest)) for cell in row))
    _print(table, width=2 * _LONGEST_LINE if whole and _piped() else None)


def say(text: str = "") -> None:
    """Print one line to stdout, wrapped on a terminal."""
    if _piped():
        print(printable(text, longest=_LONGEST_LINE))
        return
    _print(Text(printable(text, longest=_LONGEST_LINE)))


def show_json(value: Any) -> None:
    """Print JSON, alone, to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def stdout(width: int | None = None) -> Console:
    """Return a console for stdout: as wide as the terminal, or as ``COLUMNS`` says; wide when piped."""
    width = width or (_PIPE_WIDTH if _piped() else None)
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _print(renderable: RenderableType, width: int | None = None) -> None:
    """Print without the spaces that fill up lines: nobody sees them, and they break lines that are copied."""
    console = stdout(width)
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().rstrip("\n").split("\n"):
        print(line.rstrip())


def _piped() -> bool:
    return not sys.stdout.isatty() and not os.environ.get("COLUMNS")
