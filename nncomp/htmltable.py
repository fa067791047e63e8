"""Small tables for notebooks: plain HTML without styles or scripts, in which all text is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

_LONGEST: Final = 80


def html_table(title: str, rows: Sequence[Sequence[object]], *, head: Sequence[str] = ()) -> str:
    """Return a table; of long texts in cells the beginning is shown.

    Args:
        title: Its caption.
        rows: Cells; their text is shown.
        head: Names of the columns; none for rows that begin with their own.
    """
    lines = [f"<table><caption>{_cell(title)}</caption>"]
    if head:
        lines.append("<thead><tr>" + "".join(f"<th>{_cell(name)}</th>" for name in head) + "</tr></thead>")
    lines.append("<tbody>")
    for first, *rest in rows:
        opened = f"<td>{_cell(first)}</td>" if head else f"<th>{_cell(first)}</th>"
        lines.append("<tr>" + opened + "".join(f"<td>{_cell(item)}</td>" for item in rest) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _cell(value: object) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return html.escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
