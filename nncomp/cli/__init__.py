"""The command line: results on stdout, everything else on stderr, one line an error.

Nothing heavy is imported before a command runs: ``nncomp --help`` must answer at once. Here and in ``nncomp`` itself
not even ``typing`` is, nor ``signal``, of which the part that is built in does: Ctrl-C that comes before
:func:`main` has taken it over shows a traceback, and these imports take most of that time.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        before = _signal.getsignal(_signal.SIGINT)
        if before is not _signal.default_int_handler:  # whoever runs us decides
            return lambda: None
        _signal.signal(_signal.SIGINT, stop)
    except ValueError:  # not the main thread
        return lambda: None
    return lambda: _signal.signal(_signal.SIGINT, before)
