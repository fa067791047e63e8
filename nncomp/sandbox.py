"""Run a pass in a process of its own, so that one that crashes, or takes the process down, costs that pass only.

The child is forked: it sees graph, data and plugins as they are, and hands back a model file whose constants are mapped
from its parts, and what the pass noted, as plain data. What it prints, C code included, goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from nncomp import errors
from nncomp.errors import NncompError, PluginError, ResourceError, UsageError, Where
from nncomp.ir import Graph
from nncomp.onnx_io import load_parts, save_parts
from nncomp.passes import Context, Note
from nncomp.state import DamagedError, NotPlainError, dumps, loads

_STATE: Final = "state"
_MODEL: Final = "model.onnx"


def run_apart(name: str, run: Callable[[Graph, Context], None], graph: Graph, ctx: Context) -> Graph:
    """Call ``run(graph, ctx)`` in a child; return the graph that it made, ``graph`` itself if it changed nothing.

    A child that the system kills (out of memory, most often) is tried once more.

    Args:
        name: Of the pass, for messages.
        run: Leaves a valid graph; raises :class:`NncompError` for everything that is not a bug.
        graph: Stays as it is.
        ctx: Gets the notes, results and warnings.

    Raises:
        PluginError: the child died (NNC-P004), or left results that are no plain data (NNC-P011).
        ResourceError: it was killed twice, or its memory ran out (NNC-E002).
        NncompError: what ``run`` raised.
    """
    if not hasattr(os, "fork"):
        raise UsageError("--isolate needs an operating system with fork")
    for last in (False, True):
        with tempfile.TemporaryDirectory(prefix="nncomp-") as folder:
            status = _forked(partial(_work, run, graph, ctx, Path(folder)))
            if status == -signal.SIGKILL and not last:
                continue
            return _taken_back(name, status, graph, ctx, Path(folder))
    raise AssertionError("the second try returns or raises")


def _forked(work: Callable[[], None]) -> int:
    """Call ``work`` in a child; return its exit status, negative for the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads; ours hold no locks here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(2, 1)
            work()
            status = 0
        finally:  # nothing of the parent's may be flushed or cleaned up twice
            with suppress(Exception):
                sys.stderr.flush()
            os._exit(status)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _work(run: Callable[[Graph, Context], None], graph: Graph, ctx: Context, folder: Path) -> None:
    version, error, changed = graph.version, None, False
    try:
        with ctx.fresh_notes() as notes:
            run(graph, ctx)
        if graph.version != version:
            save_parts(graph, folder / _MODEL, "tensors")
            changed = True
    except NncompError as failure:
        error = {**failure.as_dict(), "where": asdict(failure.where), "type": type(failure).__name__}
        error["exit_status"] = failure.exit_status
    except KeyboardInterrupt:
        error = {"type": "KeyboardInterrupt"}
    except MemoryError:
        error = {"type": "MemoryError"}
    state = {"error": error, "changed": changed, "notes": [asdict(note) for note in notes]}
    try:
        data = dumps({**state, "results": _plain(ctx.results), "data_warnings": ctx.data_warnings})
    except NotPlainError as problem:
        data = dumps({"not_plain": str(problem)})
    (folder / _STATE).write_bytes(data)


def _plain(value: Any) -> Any:
    """Return ``value`` with numpy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _taken_back(name: str, status: int, graph: Graph, ctx: Context, folder: Path) -> Graph:
    where = Where(pass_name=name)
    try:
        state = loads((folder / _STATE).read_bytes())
    except (OSError, DamagedError):
        state = None
    if status == -signal.SIGKILL:
        raise ResourceError(
            f"pass {name!r} was killed twice", code="NNC-E002", where=where, hint="most often memory ran out"
        )
    if status or state is None:
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise PluginError(f"pass {name!r} died of {cause}", code="NNC-P004", where=where)
    if "not_plain" in state:
        raise PluginError(
            f"pass {name!r} left results that are no plain data: {state['not_plain']}", code="NNC-P011", where=where
        )
    ctx.notes.extend(Note(**note) for note in state["notes"])
    if state["error"]:
        _raise(state["error"])
    ctx.results.clear()
    ctx.results.update(state["results"])
    ctx.data_warnings[:] = state["data_warnings"]
    return load_parts(folder / _MODEL) if state["changed"] else graph


def _raise(error: dict[str, Any]) -> None:
    kind = error["type"]
    if kind == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if kind == "MemoryError":
        raise MemoryError
    found = getattr(errors, kind, None)
    if found is None:  # a plugin's own; the status is what counts
        families = (errors.UsageError, errors.ModelError, errors.UnsupportedError, errors.GateError, ResourceError)
        found = next((one for one in families if one.exit_status == error["exit_status"]), PluginError)
    raise found(error["message"], code=error["code"], where=Where(**error["where"]), hint=error["hint"])
