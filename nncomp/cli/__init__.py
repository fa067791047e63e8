"""The command line: results on stdout, everything else on stderr, one line an error.

Nothing heavy is imported before a command runs: ``nncomp --help`` must answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (see ``nncomp --help``)."""
    try:
        restore = _end_on_ctrl_c()
        try:
            from nncomp.cli.entry import run
        finally:
            restore()
        return run(argv)
    except KeyboardInterrupt:
        print("nncomp: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED


def _end_on_ctrl_c() -> Callable[[], object]:
    """End the process at once on Ctrl-C, and return what undoes that; for while there is nothing to clean up.

    An exception would not do: in the middle of an import, others are made of it.
    """

    def stop(*_: object) -> None:
        os.write(2, b"nncomp: interrupted\n")
        os._exit(INTERRUPTED)

    try:
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # whoever runs us decides
            return lambda: None
        signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        return lambda: None
    return lambda: signal.signal(signal.SIGINT, before)
