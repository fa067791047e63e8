"""Templates to pages: everything escaped, nothing loaded from elsewhere, the same bytes for the same content."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from nncomp.wording import bytes_text, count_text, energy_text, points_text

if TYPE_CHECKING:
    from jinja2 import Environment

_KEPT: Final = frozenset("\n\t\u200c\u200d")
"""Not visible, but part of text as it is written; the last two join letters and emoji."""


def rendered(template: str, content: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        template: File name.
        content: What it speaks of; texts may hold anything.
    """
    style, script = _unindented(_asset("style.css")), _unindented(_asset("page.js"))
    page = _environment().get_template(template)
    return _unindented(
        page.render(**content, style=_trusted(style), script=_trusted(script), script_digest=_digest(script))
    )


def visible(text: str) -> str:
    """Return ``text`` with what cannot be seen, or turns the text around it, as escapes, such as that of U+202E."""
    if text.isprintable():
        return text
    return "".join(
        char if char in _KEPT or not unicodedata.category(char).startswith("C") else _escape(char) for char in text
    )


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


@cache
def _environment() -> Environment:
    """Return the environment; autoescape is on for all templates, and each text that they print is made visible."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nncomp.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters.update(
        breakable=_breakable,
        bytes=bytes_text,
        count=count_text,
        gain=gain_text,
        percent=percent_text,
        duration=duration_text,
        energy=lambda value: energy_text(value, "µJ"),
    )
    return environment


def _finalized(value: Any) -> Any:
    if value is None:
        return ""
    return visible(value) if type(value) is str else value


def _breakable(name: str) -> Any:
    """Return a name that may go on in another line behind each slash."""
    from markupsafe import Markup, escape

    return Markup("/<wbr>").join(escape(part) for part in visible(name).split("/"))


def percent_text(share: float | None, digits: int = 1) -> str:
    """Return a share: ``12.5 %``."""
    if share is None:
        return "–"
    return f"{round(100 * share, digits) + 0.0:.{digits}f} %"


def gain_text(drop: float | None) -> str:
    """Return what accuracy has gained, in points: ``−0.54`` for a drop of 0.0054."""
    if drop is None:
        return "–"
    text = points_text(drop)
    return "±0.00" if text == "+0.00" else text.replace("-", "−")


def duration_text(microseconds: float | None) -> str:
    """Return a time with three digits: ``1.25 ms``."""
    if microseconds is None:
        return "–"
    for limit, unit in ((1e3, "µs"), (1e6, "ms"), (float("inf"), "s")):
        if microseconds < limit * 0.9995:
            value = microseconds * 1e3 / limit if limit < float("inf") else microseconds / 1e6
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
    return ""


def _unindented(text: str) -> str:
    """Return ``text`` without empty lines and indentation, which make a third of a large page."""
    return re.sub(r"\n\s+", "\n", text)


def _asset(name: str) -> str:
    return (files("nncomp.report.page") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _trusted(text: str) -> Any:
    """Return our own style and script as they are."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  files of this package
