"""Pass, Context and Pipeline: what changes a graph, what it may look at, and who holds it to its word."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict

from nncomp.errors import NncompWarning, Where
from nncomp.ir import Scratch
from nncomp.ops import OpTable, builtin_table
from nncomp.options import inline_table, option, parse_spec, read_options, spec_of, toml_text  # noqa: F401  plugins import them from here

if TYPE_CHECKING:
    from nncomp.cache import Cache
    from nncomp.data import DataSource
    from nncomp.ir import Graph, Op
    from nncomp.statistics import Executor
    from nncomp.targets import Capabilities, Measurement, OpCost


class Effect(StrEnum):
    """What a pass may do to the numbers; the gate holds it to that."""

    EXACT = "exact"
    """Outputs are bit-identical."""
    REASSOCIATES = "reassociates"
    """Outputs differ by rounding only: 1e-5 relative."""
    LOSSY = "lossy"
    """Outputs differ; how much is measured and held to the user's budget."""


class Pass(BaseModel):
    """Base of all passes; the fields of a subclass are its options.

    A subclass states its contract in its docstring, changes only ``graph``, and leaves it valid.

    Class attributes:
        name: as written in recipes.
        effect: what it may do to the numbers.
        after: names of passes that must not come later in a pipeline than this one; checked, never reordered.
        because: why, by name, for the message; where it does not go without saying.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[str]
    effect: ClassVar[Effect]
    after: ClassVar[tuple[str, ...]] = ()
    because: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def run(self, graph: Graph, ctx: Context) -> None:
        """Change ``graph``."""

    def objection(self, target: Capabilities | None) -> str:
        """Return why this pass with its options makes no sense for ``target``, "" if it does; asked before any work."""
        del target
        return ""

    @classmethod
    def from_options(cls, options: Mapping[str, object], *, where: Where | None = None) -> Self:
        """Build the pass.

        Raises:
            RecipeError: an option is unknown, of the wrong type, or out of range (NNC-R010).
        """
        return read_options(cls, options, owner=cls.name, where=where)

    @property
    def spec(self) -> str:
        """The pass as a recipe writes it, options at their defaults left out: ``quantize{bits=4}``."""
        return spec_of(self.name, self)


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that a pass did or would not do.

    Attributes:
        event: ``fired``, ``declined`` (a rule matched and said no), ``skipped`` (not looked at), ``warning``, ``info``.
        subject: the rule, or what else the note is about.
        node: label of the op or name of the tensor.
        reason: why; empty for ``fired``.
        code: stable code of a warning.
    """

    event: str
    subject: str
    node: str = ""
    reason: str = ""
    code: str = ""


class Progress(Protocol):
    """How long work says how far it is."""

    def step(self, task: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` units of ``task`` are finished; ``total`` is None when nobody knows."""


class Silence:
    """Progress that nobody watches."""

    def step(self, task: str, done: int, total: int | None) -> None:
        """Do nothing."""


class Probe(Protocol):
    """Times and prices a model, or pieces of it, on the target."""

    def compare(
        self,
        graph: Graph,
        baseline: Graph,
        *,
        then: Sequence[Pass] = (),
        data: DataSource | None = None,
        seconds: float = 0.1,
    ) -> Measurement:
        """Compare the latencies of two graphs with the same inputs, each after the passes ``then``."""

    def costs(
        self, graph: Graph, *, then: Sequence[Pass] = (), data: DataSource | None = None
    ) -> Mapping[str, OpCost] | None:
        """Return what each op of a graph costs after the passes ``then``, by label; None on a target without prices."""


@dataclass
class Context:
    """What passes may look at, beside the graph.

    Attributes:
        ops: op semantics, plugins' rows included.
        target: capabilities of the target that is compiled for; None when there is none.
        probe: times and prices pieces of a model on that target; None when nothing can be.
        following: passes that come after the one that runs; what it times should have been through them.
        data: calibration data; None when the user gave none.
        seed: of everything random.
        threads: for whatever runs on several.
        executor: where shards of calibration run; None for threads of this process.
        cache: what earlier runs found; None remembers nothing.
        progress: where long work reports.
        data_warnings: code and message of what was found amiss with the data when it was read, now or before.
        notes: what passes did and would not do, in order; see :meth:`note`.
        results: measured facts that passes leave for the report, by pass name.
        scratch: room on the disk for large constants that passes make.
        reproducer: folder in which a target leaves what replays a build that went wrong; None writes nothing.
    """

    ops: OpTable = field(default_factory=builtin_table)
    target: Capabilities | None = None
    probe: Probe | None = None
    following: tuple[Pass, ...] = ()
    data: DataSource | None = None
    seed: int = 0
    threads: int = 1
    executor: Executor | None = None
    cache: Cache | None = None
    progress: Progress = field(default_factory=Silence)
    data_warnings: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)
    reproducer: Path | None = None

    def note(self, event: str, subject: str, *, node: str = "", reason: str = "", code: str = "") -> None:
        """Record a :class:`Note`."""
        self.notes.append(Note(event, subject, node, reason, code))

    def warn(self, warning: NncompWarning, *, node: str = "") -> None:
        """Record a warning; the report lists it, ``--strict`` refuses it."""
        self.note("warning", type(warning).__name__, node=node, reason=warning.message, code=warning.code)

    @contextmanager
    def fresh_notes(self) -> Iterator[list[Note]]:
        """Collect the notes made inside, which still land in :attr:`notes`."""
        outer, self.notes = self.notes, []
        try:
            yield self.notes
        finally:
            outer.extend(self.notes)
            self.notes = outer


def told(left: Mapping[Op, str]) -> str:
    """Return why ops were left alone, for an error's end: `` (2 x Conv, 1 x Gemm: reason; ...)``, "" for none.

    Args:
        left: Reason by op; the first four reasons are told, each with how many ops of which kind have it.
    """
    reasons: dict[str, Counter[str]] = {}
    for op, reason in left.items():
        reasons.setdefault(reason, Counter())[op.kind] += 1
    if not reasons:
        return ""
    lines = [
        ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) + f": {reason}"
        for reason, kinds in list(reasons.items())[:4]
    ]
    return f" ({'; '.join(lines)})"


def left_float(results: Mapping[str, Any]) -> dict[str, str]:
    """Return why passes left ops in float, by label: what each says as ``left_float``; another form says nothing.

    Args:
        results: As :attr:`Context.results`, in each pass's own words.
    """
    said = [result.get("left_float") for result in results.values() if isinstance(result, Mapping)]
    return {str(op): str(why) for one in said if isinstance(one, Mapping) for op, why in one.items()}


def counted(notes: Sequence[Note]) -> list[tuple[Note, int]]:
    """Return notes that differ by ``node`` only as one, with their number, the most frequent first."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    first: dict[tuple[str, str, str, str], Note] = {}
    for note in notes:
        key = (note.event, note.subject, note.reason, note.code)
        counts[key] += 1
        first.setdefault(key, note)
    return [(first[key], count) for key, count in counts.most_common()]
