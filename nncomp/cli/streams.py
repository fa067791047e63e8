"""The two streams: text that any console can show, and that no name from a model can garble."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 200


def prepare_streams() -> None:
    """Make both streams take any text: what the console's encoding lacks is shown as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def message(text: str, *, prefix: str = "nncomp: ") -> None:
    """Write one line to stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(f"{prefix}{text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_log(*, verbose: bool) -> Iterator[None]:
    """Show on stderr what nncomp logs from level INFO on, if ``verbose``."""
    if not verbose:
        yield
        return
    logger, handler = logging.getLogger("nncomp"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("nncomp: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def one_line(text: str) -> str:
    """Return ``text`` on one line, its control characters escaped."""
    return "".join(char if char.isprintable() else " " if char.isspace() else _escaped(char) for char in text).strip()


def printable(text: str, *, longest: int = LONGEST) -> str:
    """Return a name from a model as a console may show it: escaped, and cut in the middle when it is too long."""
    if len(text) <= longest and len(shown := _all_escaped(text)) <= longest:
        return shown
    half = longest // 2 - 2
    return f"{_all_escaped(text[:half])[:half]}...{_all_escaped(text[-half:])[-half:]}"


def _all_escaped(text: str) -> str:
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
