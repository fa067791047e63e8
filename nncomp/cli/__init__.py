"""The command line: results on stdout, everything else on stderr, one line an error.

Nothing heavy is imported before a command runs: ``nncomp --help`` must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (see ``nncomp --help``)."""
    try:
        from nncomp.cli.entry import run

        return run(argv)
    except KeyboardInterrupt:  # while that was imported; later it is a command's to tell what was interrupted
        print("nncomp: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
