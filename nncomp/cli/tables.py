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

from nncomp.cli.streams import printable

_PIPE_WIDTH: Final = 160
_LONGEST_LINE: Final = 4000
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_COUNTS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()
) -> None:
    """Print a table; columns in ``right`` are numbers."""
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
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    _print(table)


def say(text: str = "") -> None:
    """Print one line to stdout, wrapped on a terminal."""
    if _piped():
        print(printable(text, longest=_LONGEST_LINE))
        return
    _print(Text(printable(text, longest=_LONGEST_LINE)))


def show_json(value: Any) -> None:
    """Print JSON, alone, to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def stdout() -> Console:
    """Return a console for stdout: as wide as the terminal, or as ``COLUMNS`` says; wide when piped."""
    width = _PIPE_WIDTH if _piped() else None
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _print(renderable: RenderableType) -> None:
    """Print without the spaces that fill up lines: nobody sees them, and they break lines that are copied."""
    console = stdout()
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().rstrip("\n").split("\n"):
        print(line.rstrip())


def _piped() -> bool:
    return not sys.stdout.isatty() and not os.environ.get("COLUMNS")


def bytes_text(count: int | None) -> str:
    """Return a size: ``1.25 MiB``."""
    if count is None:
        return "?"
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"


def count_text(count: int | None) -> str:
    """Return a number: ``1.25 M``; exact below ten thousand."""
    if count is None:
        return "?"
    for size, unit in _COUNTS:
        if count >= size:
            divisor = 1e3 if unit == "k" else size
            return f"{count / divisor:.2f} {unit}"
    return str(count)


def ratio_text(before: float | None, after: float | None) -> str:
    """Return how much of ``before`` is left: ``0.26x``."""
    return f"{after / before:.2f}x" if before and after is not None else ""


def time_text(microseconds: float) -> str:
    """Return a time: ``1.25 ms``."""
    if microseconds < 1e3:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def decibel_text(value: float) -> str:
    """Return a ratio in decibels; ``exact`` when nothing differs, ``not comparable`` when nothing can be said."""
    if value == float("inf"):
        return "exact"
    return "not comparable" if value == float("-inf") else f"{value:.1f} dB"
