"""The command line: results on stdout, everything else on stderr, one line an error.

Nothing heavy is imported before a command runs: ``nncomp --help`` must answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (see ``nncomp --help``)."""
    from nncomp.cli.entry import run

    return run(argv)
