"""Pipeline: runs passes on a working copy, verifies and gates each, and commits only what held."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from nncomp.errors import (
    GateError,
    ModelError,
    NncompError,
    PluginError,
    RecipeError,
    ResourceError,
    UnsupportedError,
    Where,
)
from nncomp.gate import Gate, GateResult, check_interface
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.isolation import isolated
from nncomp.onnx_io import save, settled, write_atomically
from nncomp.options import toml_text
from nncomp.passes import Context, Effect, Note, Pass
from nncomp.verify import verify


class Instrument(Protocol):
    """Watches a pipeline; never changes anything."""

    name: ClassVar[str]

    def before_pass(self, step: Pass, graph: Graph) -> None:
        """``step`` is about to run on ``graph``."""

    def after_pass(self, step: Pass, graph: Graph, record: PassRecord) -> None:
        """``step`` held; ``graph`` is what it made."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did.

    Attributes:
        spec: the pass with its options.
        plugin: who provides it.
        effect: what it declares.
        changed: derived from the graph's version.
        ops_before, ops_after: number of ops, bodies included.
        cpu_s: CPU time of the pass alone; ``check_cpu_s`` of verification, inference and gate.
        gate: what the gate found, None when nothing changed or there is no gate.
        notes: what it noted.
        error: why it was rolled back, "" when it held.
    """

    spec: str
    plugin: str
    effect: Effect
    changed: bool
    ops_before: int
    ops_after: int
    cpu_s: float
    check_cpu_s: float = 0.0
    gate: GateResult | None = None
    notes: tuple[Note, ...] = ()
    error: str = ""


class Keeper(Protocol):
    """Keeps how far a pipeline came, so that another run can go on from there."""

    def recall(self, passes: Sequence[Pass], ctx: Context) -> tuple[Graph, list[PassRecord]] | None:
        """Return what the first of ``passes`` made of the graph, with one record each, and bring ``ctx`` up to date."""

    def passed(self, passes: Sequence[Pass], graph: Graph, records: Sequence[PassRecord], ctx: Context) -> None:
        """``passes`` made ``graph``, which nobody changes any more."""


@dataclass
class Pipeline:
    """A sequence of passes.

    Attributes:
        passes: in order.
        gate: numeric check; None runs without one (the caller's own risk, and the report says so).
        instruments: watchers.
        owners: plugin by pass name, for messages.
        keep_going: roll a failed pass back and go on with the next.
        reproducer: folder in which a failed pass leaves what replays it; None writes nothing.
        replay_options: what the command that replays it needs beside, such as ``" --plugin mine"``.
        keeper: told after each pass, and asked where to begin.
        apart: run each pass in a process of its own: one that crashes is named, and costs nothing else.

    Raises:
        RecipeError: a pass stands in front of one that it must follow (NNC-R012).
    """

    passes: Sequence[Pass]
    gate: Gate | None = None
    instruments: Sequence[Instrument] = ()
    owners: dict[str, str] = field(default_factory=dict)
    keep_going: bool = False
    reproducer: Path | None = None
    replay_options: str = ""
    keeper: Keeper | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        position = {step.name: index for index, step in enumerate(self.passes)}
        for index, step in enumerate(self.passes):
            for earlier in step.after:
                if position.get(earlier, -1) > index:
                    why = f": {step.because[earlier]}" if earlier in step.because else ""
                    raise RecipeError(
                        f"pass {step.name!r} stands before {earlier!r}, which it must follow{why}", code="NNC-R012"
                    )

    def run(self, graph: Graph, ctx: Context) -> list[PassRecord]:
        """Run all passes; ``graph`` becomes the result, or stays as it was when one fails.

        Raises:
            GateError: a pass broke its declared effect (NNC-G001), left an invalid graph (NNC-G002), or changed the
                interface (NNC-G003).
            PluginError: a pass raised something that is not ours (NNC-P011).
            NncompError: what a pass raised.
        """
        current = graph.clone()
        infer_types(current, ctx.ops)
        current = settled(current)
        records: list[PassRecord] = []
        kept = self.keeper.recall(self.passes, ctx) if self.keeper is not None else None
        if kept is not None:
            current, records = kept
        for number, step in enumerate(self.passes[len(records) :], len(records)):
            ctx.progress.step("passes", number, len(self.passes))
            for instrument in self.instruments:
                instrument.before_pass(step, current)
            ctx.following = tuple(self.passes[number + 1 :])
            record, current = self._step(step, current, ctx)
            records.append(record)
            if not record.error:
                for instrument in self.instruments:
                    instrument.after_pass(step, current, record)
            if self.keeper is not None:
                self.keeper.passed(self.passes[: number + 1], current, records, ctx)
        ctx.progress.step("passes", len(self.passes), len(self.passes))
        graph.adopt(current.clone())
        return records

    def _step(self, step: Pass, current: Graph, ctx: Context) -> tuple[PassRecord, Graph]:
        trial = current.clone()
        version, ops_before = trial.version, sum(1 for _ in trial.walk())
        started = time.process_time()
        gate: GateResult | None = None
        result = current
        error = ""
        finished = started
        with ctx.fresh_notes() as notes:
            try:
                made = self._made_by(step, trial, ctx)
                finished = time.process_time()
                if made is not trial or made.version != version:
                    result = self._valid(step, current, made, ctx)
                    gate = self._check(step, current, result)
            except NncompError as failure:
                self._explain(failure, step, current)
                if not self.keep_going:
                    raise
                error, result = failure.message, current
                ctx.note("warning", step.name, reason=f"rolled back: {failure.message}", code=failure.code)
        record = PassRecord(
            spec=step.spec,
            plugin=self.owners.get(step.name, ""),
            effect=step.effect,
            changed=result is not current,
            ops_before=ops_before,
            ops_after=sum(1 for _ in result.walk()),
            cpu_s=finished - started,
            check_cpu_s=time.process_time() - finished,
            gate=gate,
            notes=tuple(notes),
            error=error,
        )
        return record, result

    def _made_by(self, step: Pass, graph: Graph, ctx: Context) -> Graph:
        if not self.apart:
            self._call(step, graph, ctx)
            return graph
        from nncomp.sandbox import run_apart

        def run(trial: Graph, inner: Context) -> None:
            self._call(step, trial, inner)
            try:
                verify(trial)
            except ModelError as error:
                raise _invalid(step, error) from error

        return run_apart(step.name, run, graph, ctx)

    def _call(self, step: Pass, graph: Graph, ctx: Context) -> None:
        try:
            with isolated():
                step.run(graph, ctx)
        except (NncompError, KeyboardInterrupt, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            owner = self.owners.get(step.name, "")
            raise PluginError(
                f"pass {step.name!r}{f' of plugin {owner!r}' if owner else ''} failed: {type(error).__name__}: {error}",
                code="NNC-P011",
                where=Where(pass_name=step.name),
                hint=f"raised in {_place(error)}; --debug shows how it came to that",
            ) from error

    def _valid(self, step: Pass, before: Graph, after: Graph, ctx: Context) -> Graph:
        """Return what a pass made, without traces of how."""
        try:
            verify(after)
            infer_types(after, ctx.ops)
            after = settled(after)
        except ModelError as error:
            raise _invalid(step, error) from error
        check_interface(before, after, step.name)
        return after

    def _check(self, step: Pass, before: Graph, after: Graph) -> GateResult | None:
        if self.gate is None:
            return None
        result = self.gate.check(before, after, step.effect)
        if not result.passed:
            raise GateError(
                _broken(step, result), code="NNC-G001", where=Where(node=result.first_divergence, pass_name=step.name)
            )
        return result

    def _explain(self, failure: NncompError, step: Pass, before: Graph) -> None:
        if self.reproducer is None or not isinstance(failure, GateError | PluginError):
            return
        try:
            note = f"replay: {self._write_reproducer(step, before, self.reproducer)}"
        except ResourceError as error:
            note = f"no reproducer: {error.message}"
        failure.hint = f"{failure.hint}; {note}" if failure.hint else note

    def _write_reproducer(self, step: Pass, before: Graph, folder: Path) -> str:
        save(before, folder / "before.onnx")
        write_atomically(folder / "recipe.toml", [f"passes = [{toml_text(step.spec)}]\n".encode()])
        command = f"nncomp compile {folder}/before.onnx -r {folder}/recipe.toml -o {folder}/out{self.replay_options}"
        try:
            feeds = self.gate.feeds(before) if self.gate is not None else []
        except UnsupportedError:  # inputs that cannot be made up: the gate compared nothing
            feeds = []
        if feeds:
            _save_feeds(feeds, folder / "feeds.npz")
            command += f" --data {folder}/feeds.npz"
        return command


def _place(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _invalid(step: Pass, error: ModelError) -> GateError:
    return GateError(
        f"pass {step.name!r} left an invalid graph: {error.message}",
        code="NNC-G002",
        where=Where(node=error.where.node, tensor=error.where.tensor, pass_name=step.name),
    )


def _broken(step: Pass, result: GateResult) -> str:
    deviation = result.deviation
    if deviation is None:
        return f"pass {step.name!r} broke the graph: {result.first_divergence}"
    at = f", first at {result.first_divergence!r}" if result.first_divergence else ""
    return (
        f"pass {step.name!r} declares {step.effect.value}, but output {deviation.worst_output!r} changed by "
        f"{deviation.relative:.2g} relative{at}"
    )


def _save_feeds(feeds: Sequence[Any], path: Path) -> None:
    import io

    same = all({k: v.shape for k, v in feed.items()} == {k: v.shape for k, v in feeds[0].items()} for feed in feeds)
    chosen = feeds if same else feeds[:1]
    arrays = {name: np.concatenate([np.asarray(feed[name]) for feed in chosen]) if np.ndim(feeds[0][name]) else
              np.asarray(feeds[0][name]) for name in feeds[0]}  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, [buffer.getvalue()])
