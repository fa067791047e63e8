"""Checkpoint: where a compilation stands, in a folder beside its output, so that ``--resume`` goes on from there.

It is written when a run is stopped (Ctrl-C, SIGTERM, no memory) and, against what gives no warning, every
few seconds of work at a pass boundary. A checkpoint counts only for the same model, data, options and versions: its key
is a digest of all of them and of the passes so far. What is resumed goes the way of what was never stopped, bit for
bit, because each pass starts from a :func:`~nncomp.onnx_io.settled` graph either way.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from nncomp.cache import Cache, RecomputedWarning, key_of
from nncomp.errors import NncompError
from nncomp.gate import Deviation, GateResult
from nncomp.ir import Graph
from nncomp.onnx_io import load_parts, save_parts, write_atomically
from nncomp.passes import Context, Effect, Note, Pass
from nncomp.pipeline import PassRecord
from nncomp.state import DamagedError, NotPlainError, dumps, loads

_STATE: Final = "nncomp-state"
_TENSORS: Final = "nncomp-tensors"
_CACHE: Final = "nncomp-cache"
_SEARCH: Final = "nncomp-search"
_EVERY_S: Final = 5.0


class Checkpoint:
    """Keeps a pipeline's progress; see :class:`nncomp.pipeline.Keeper`.

    Args:
        folder: Made when there is something to keep. Only files of our names are ever written or removed in it.
        basis: What the result depends on beside the passes, as data that JSON can hold.
        resume: Look for what an earlier run kept.

    Attributes:
        place: The last pass that is done, for messages.
    """

    def __init__(self, folder: Path, basis: Sequence[Any], *, resume: bool) -> None:
        self.folder = folder
        self._basis = list(basis)
        self._resume = resume
        self._latest: tuple[str, Graph, bytes] | None = None
        self.place = ""
        self._written = ""
        self._written_at = time.monotonic()
        self._missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]

    @property
    def cache_folder(self) -> Path:
        """Where a cache may be that is gone with the checkpoint."""
        return self.folder / _CACHE

    def search_memory(self, passes: Sequence[Pass]) -> tuple[Cache, str]:
        """Return where a search keeps what it tried, and a key of all that this depends on; empty but to resume."""
        if not self._resume:
            shutil.rmtree(self.folder / _SEARCH, ignore_errors=True)
        return Cache(self.folder / _SEARCH), self._key(passes)

    def recall(self, passes: Sequence[Pass], ctx: Context) -> tuple[Graph, list[PassRecord]] | None:
        """See :class:`~nncomp.pipeline.Keeper`; what cannot be used is told as warning NNC-W072."""
        if not self._resume or not (self.folder / _STATE).exists():
            return None
        try:
            state = loads((self.folder / _STATE).read_bytes())
            records = [_record(entry) for entry in state["records"]]
            if state["key"] != self._key(passes[: len(records)]):
                raise DamagedError("it is of another model, data, recipe or version")
            graph = self._graph(state["key"])
        except (OSError, ValueError, KeyError, TypeError, NncompError) as error:
            reason = error.message if isinstance(error, NncompError) else str(error)
            warnings.warn(
                RecomputedWarning(
                    f"checkpoint {str(self.folder)!r} cannot be used ({reason}); the work begins anew", code="NNC-W072"
                ),
                stacklevel=2,
            )
            return None
        ctx.results.update(state["results"])
        ctx.data_warnings.extend(state["data_warnings"])
        ctx.notes.extend(note for record in records for note in record.notes)
        return graph, records

    def passed(self, passes: Sequence[Pass], graph: Graph, records: Sequence[PassRecord], ctx: Context) -> None:
        """See :class:`~nncomp.pipeline.Keeper`; where passes left results that are no plain data, nothing is kept."""
        key = self._key(passes)
        state = {
            "key": key,
            "records": [_plain(record) for record in records],
            "results": ctx.results,
            "data_warnings": ctx.data_warnings,
        }
        try:
            self._latest = (key, graph, dumps(state))
            self.place = f"pass {len(passes)}, {passes[-1].name!r}"
        except NotPlainError:
            return
        if time.monotonic() - self._written_at > _EVERY_S:
            self.write()

    def write(self) -> str:
        """Write how far it came; return "" or why that cannot be kept."""
        if self._latest is None:
            return "no pass is done"
        key, graph, state = self._latest
        if key != self._written:
            try:
                save_parts(graph, self._model(key), _TENSORS)
                write_atomically(self.folder / _STATE, [state])
            except (NncompError, OSError) as error:
                if not (self.folder / _STATE).exists():
                    self.discard()
                return error.message if isinstance(error, NncompError) else str(error)
            if self._written:
                self._model(self._written).unlink(missing_ok=True)
            self._written = key
        self._written_at = time.monotonic()
        return ""

    def leave(self) -> str:
        """Keep what is written and write no more: for a disk that refuses. Return "" or why there is nothing."""
        if (self.folder / _STATE).exists():
            return ""
        self.discard()
        return "nothing was written"

    def discard(self) -> None:
        """Remove what was kept, and folders that were made for it and hold nothing else."""
        for name in (_TENSORS, _CACHE, _SEARCH):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        with suppress(OSError):
            for path in (*self.folder.glob("nncomp-*.onnx"), self.folder / _STATE):
                path.unlink(missing_ok=True)
        for folder in dict.fromkeys((self.folder, *self._missing)):
            with suppress(OSError):
                folder.rmdir()

    def _graph(self, key: str) -> Graph:
        for path in (self.folder / _TENSORS).glob("*"):
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != path.name:
                    raise DamagedError(f"{path.name} is damaged")
        return load_parts(self._model(key))

    def _model(self, key: str) -> Path:
        return self.folder / f"nncomp-{key}.onnx"

    def _key(self, passes: Sequence[Pass]) -> str:
        return key_of("checkpoint", self._basis, [step.spec for step in passes])


def _plain(record: PassRecord) -> dict[str, Any]:
    notes = [asdict(note) for note in record.notes]
    return {**asdict(record), "effect": record.effect.value, "notes": notes, "gate": _plain_gate(record.gate)}


def _plain_gate(gate: GateResult | None) -> dict[str, Any] | None:
    return None if gate is None else {**asdict(gate), "effect": gate.effect.value}


def _record(entry: dict[str, Any]) -> PassRecord:
    gate = entry["gate"]
    if gate is not None:
        found = gate["deviation"]
        deviation = None if found is None else Deviation(**found)
        gate = GateResult(**{**gate, "effect": Effect(gate["effect"]), "deviation": deviation})
    notes = tuple(Note(**note) for note in entry["notes"])
    return PassRecord(**{**entry, "effect": Effect(entry["effect"]), "gate": gate, "notes": notes})
