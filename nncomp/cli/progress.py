"""Progress on stderr: a bar with rate and time left on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from nncomp.cli.streams import message
from nncomp.passes import Progress

_EVERY_S: Final = 10.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Give the progress that suits stderr; it is gone when the work is done."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield LogProgress()
        return
    bar = BarProgress()
    try:
        yield bar
    finally:
        bar.close()


class LogProgress:
    """One line a task every ten seconds; short work says nothing. A task may go on between the steps of another."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every = every_s
        self._tasks: dict[str, tuple[int, float, float]] = {}

    def step(self, task: str, done: int, total: int | None) -> None:
        """Tell how far ``task`` is, if it is time to."""
        now = time.monotonic()
        before, began, told = self._tasks.get(task, (done + 1, now, now))
        if done < before:  # it begins, perhaps once more
            began = told = now
        if done and now - told >= self._every:
            told = now
            rate = done / (now - began)
            of = f"/{total}" if total is not None else ""
            left = f", {(total - done) / rate:.0f} s left" if total is not None and rate else ""
            message(f"{task} {done}{of}, {rate:.3g}/s{left}")
        self._tasks[task] = (done, began, told)


class BarProgress:
    """A bar on the terminal; a new task replaces the one before it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars: Any = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._task = ""
        self._id: Any = None
        self._began = 0.0

    def step(self, task: str, done: int, total: int | None) -> None:
        """Move the bar."""
        now = time.monotonic()
        if task != self._task:
            if self._id is not None:
                self._bars.remove_task(self._id)
            else:
                self._bars.start()
            self._task, self._began = task, now
            self._id = self._bars.add_task(task, total=total, rate="")
        elapsed = now - self._began
        self._bars.update(self._id, completed=done, total=total, rate=f"{done / elapsed:.3g}/s" if elapsed > 0 else "")

    def close(self) -> None:
        """Take the bar away."""
        if self._id is not None:
            self._bars.stop()
