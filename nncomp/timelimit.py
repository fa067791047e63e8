"""TimeLimit: ends runs of ONNX Runtime that take longer than they may; a valid model may loop for ever.

A run that is under way hears nothing but its own options. So a thread looks at those under way once in a while, and
tells the late ones to stop, which they do before their next op, loops' bodies included; a single kernel is not
interrupted. The thread ends when it finds none, and the next run starts another: what is run often pays a microsecond.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from nncomp.errors import ResourceError

T = TypeVar("T")

RUN_SECONDS: Final = 600.0
"""Wall time that one run may take; the slowest model that is compiled here takes seconds."""

_LONGEST_PAUSE: Final = 1.0  # seconds
_SECONDS: ContextVar[float] = ContextVar("nncomp_run_seconds", default=RUN_SECONDS)


class OverdueError(ResourceError):
    """A run of a model took longer than it may, and was stopped."""

    default_code = "NNC-E003"


@contextmanager
def runs_limited(seconds: float) -> Iterator[None]:
    """Give each run of what is loaded inside ``seconds`` of wall time."""
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)


class TimeLimit:
    """Ends runs that take too long; of the sessions that share it, each run for itself.

    Args:
        seconds: Wall time that a run may take; default: what :func:`runs_limited` says, else :data:`RUN_SECONDS`.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = _SECONDS.get() if seconds is None else seconds
        self._lock = threading.Lock()
        self._late: dict[int, tuple[float, Any]] = {}  # by id: when a run is late, and its options
        self._watch: threading.Thread | None = None

    def run(self, options: Any, call: Callable[[Any], T]) -> T:
        """Return ``call(options)``.

        Args:
            options: ``onnxruntime.RunOptions``, fresh.
            call: Runs a session with them.

        Raises:
            OverdueError: it took longer than it may (NNC-E003).
        """
        self._begin(options)
        try:
            return call(options)
        except Exception as error:
            if not options.terminate:
                raise
            raise OverdueError(
                f"one run took more than {self.seconds:g} s and was stopped",
                hint="does the model loop for ever? what is only slow can be given more: nncomp compile --run-seconds",
            ) from error
        finally:
            with self._lock:
                del self._late[id(options)]

    def _begin(self, options: Any) -> None:
        with self._lock:
            self._late[id(options)] = (time.monotonic() + self.seconds, options)
            if self._watch is None or not self._watch.is_alive():  # it does not live on in a forked process
                self._watch = threading.Thread(target=self._look, name="nncomp-timelimit", daemon=True)
                self._watch.start()

    def _look(self) -> None:
        pause = min(_LONGEST_PAUSE, self.seconds / 4)
        while True:
            time.sleep(pause)
            now = time.monotonic()
            with self._lock:
                if not self._late:
                    self._watch = None
                    return
                for late, options in self._late.values():
                    if now > late:
                        options.terminate = True
