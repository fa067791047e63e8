"""Run a command and turn whatever ends it into an exit status and, for errors, one line and a hint."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from nncomp.cli import INTERRUPTED
from nncomp.cli.app import app
from nncomp.cli.streams import message, one_line, prepare_streams
from nncomp.errors import NncompError, ResourceError, UsageError

CLOSED_PIPE = 141
_BUG = "NNC-X999"
_COMPLETION = ("--install-completion", "--show-completion")
_COLLECTIONS = (50_000, 20, 50)
"""When Python looks for cycles of garbage: of a graph's many small objects none is any, and each look costs a third."""
_COMPLETING = "_NNCOMP_COMPLETE"  # set by what --show-completion prints, for as long as the shell asks


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (default: the process's arguments) names; return the exit status."""
    prepare_streams()
    gc.set_threshold(*_COLLECTIONS)
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    asked = _Asked(json="--json" in args, debug="--debug" in args)
    restore = _raise_on_sigterm()
    try:
        status = _invoke(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return _closed_pipe()
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of ours is told as one
        stopped = _made_of_ctrl_c(error)
        return _failed(error, asked) if stopped is None else _interrupted(stopped)
    finally:
        restore()


def _interrupted(stop: KeyboardInterrupt) -> int:
    message("; ".join(["interrupted", *map(str, stop.args)]))
    return INTERRUPTED


def _made_of_ctrl_c(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt that an exception comes of: Python wraps one that comes while a class is made."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


class _Asked:
    """What the command line asks of errors, known even where it cannot be parsed."""

    def __init__(self, *, json: bool, debug: bool) -> None:
        self.json = json
        self.debug = debug


def _invoke(args: list[str]) -> int:
    """Run a command without the parser's own handling of errors, whose forms and statuses are not ours."""
    command = typer.main.get_command(app)
    if os.environ.get(_COMPLETING):
        command.main(args, prog_name="nncomp")  # answers the shell, and exits
    first = args[0]
    try:
        with command.make_context("nncomp", args) as context:
            command.invoke(context)
    except typer.Exit as stop:
        if stop.exit_code and first in _COMPLETION:
            raise UsageError("this shell cannot be completed in", hint="bash, zsh, fish and powershell can") from None
        return int(stop.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return 0


def _failed(error: Exception, asked: _Asked) -> int:
    if asked.debug:
        traceback.print_exception(error, file=sys.stderr)
    failure = _as_ours(error, debug=asked.debug)
    try:
        if asked.json:
            print(json.dumps({"error": failure.as_dict()}))
        message(f"error {failure.code}: {one_line(failure.message)}")
        for number, line in enumerate(failure.hint.splitlines()):
            message(line, prefix="        " if number else "  hint: ")
        sys.stdout.flush()
    except BrokenPipeError:
        _closed_pipe()
    return failure.exit_status


def _as_ours(error: Exception, *, debug: bool) -> NncompError:
    if isinstance(error, NncompError):
        return error
    if hasattr(error, "format_message"):  # a usage error of the parser, whichever version brings it
        return _usage_error(error)
    if isinstance(error, MemoryError):
        return ResourceError(
            f"memory ran out (peak {_peak_mib()} MiB)", code="NNC-E002", hint="fewer --threads, a smaller --limit"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return ResourceError(f"the system refused: {error}")
    where = traceback.extract_tb(error.__traceback__)[-1:]
    at = f" ({Path(where[0].filename).name}:{where[0].lineno})" if where else ""
    hint = "" if debug else "rerun with --debug, and report what it prints"
    return NncompError(f"a bug in nncomp: {type(error).__name__}: {error}{at}", code=_BUG, hint=hint)


def _usage_error(error: Exception) -> UsageError:
    text = one_line(str(error.format_message())).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "nncomp"
    return UsageError(text[:1].lower() + text[1:], hint=f"{path} --help")


def _closed_pipe() -> int:
    """Let the interpreter's own flush at exit go nowhere, so that it does not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return CLOSED_PIPE


def _raise_on_sigterm() -> Callable[[], object]:
    """Let SIGTERM end a command like Ctrl-C does; return what undoes it."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        return lambda: None
    return lambda: signal.signal(signal.SIGTERM, before)


def _peak_mib() -> str:
    try:
        import resource
    except ImportError:
        return "?"
    return str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
