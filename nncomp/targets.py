"""Target, Capabilities and Artifact: what a backend can do, as plain data, and what it builds.

Passes read :class:`Capabilities` and never a target's library; a target imports its library inside ``build``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from nncomp.errors import UnsupportedError
from nncomp.ir import DataType
from nncomp.options import read_options, spec_of

if TYPE_CHECKING:
    from nncomp.ir import Graph
    from nncomp.passes import Context
    from nncomp.runtime import Feeds


class Int8Form(StrEnum):
    """How a target wants an op that it runs in integers."""

    QDQ = "qdq"
    """DequantizeLinear on every operand, QuantizeLinear on the output."""
    QDQ_FLOAT_OUT = "qdq-float-out"
    """DequantizeLinear on every operand; the output stays float."""
    DYNAMIC = "dynamic"
    """Activations quantized at run time, weights ahead of time."""


@dataclass(frozen=True, slots=True)
class Int8Kernel:
    """An integer kernel of a target.

    Attributes:
        form: What the graph must look like for the kernel to be used.
        absorbs: Kinds of activation that vanish into the quantizer behind this op.
        same_scale: Input and output must share scale and zero point.
        worth: Why, or when, it pays; for the report.
        also: Other forms that are run in integers, too; where accuracy asks for it, one of them may be taken.
    """

    form: Int8Form = Int8Form.QDQ
    absorbs: frozenset[str] = frozenset()
    same_scale: bool = False
    worth: str = ""
    also: frozenset[Int8Form] = frozenset()

    def form_with(self, *, dynamic: bool) -> Int8Form | None:
        """Return the form whose activations are quantized at run time, or ahead of it; None where there is none."""
        forms = (self.form, *sorted(self.also))
        return next((form for form in forms if (form is Int8Form.DYNAMIC) == dynamic), None)


@dataclass(frozen=True, slots=True)
class WideActivations:
    """What a target makes of activations of 16 bits beside INT8 weights.

    Attributes:
        dtype: UINT16 or INT16.
        pays: They are faster than float; otherwise they are only right.
        worth: When they pay; for the report.
    """

    dtype: DataType
    pays: bool
    worth: str = ""


@dataclass(frozen=True, slots=True)
class Int8Support:
    """What a target's integer kernels ask for.

    Attributes:
        activation: Type of activations.
        weight: Type of weights.
        per_channel_weights: One scale per output channel costs nothing.
        pair_saturation: On some CPUs, dense kernels add products two at a time in 16 bits: neighbouring weights must
            leave room for that, or results depend on the CPU.
        kernels: By operator kind (ONNX's own domain).
        float_causes: For kinds without an integer kernel: what to tell the user.
        narrow_weights: Types narrower than ``weight`` that the kernels take beside it, cheaper than that.
        wide: Activations of 16 bits, for all that has a kernel in ``kernels``; None if it does not take them.
    """

    activation: DataType = DataType.UINT8
    weight: DataType = DataType.INT8
    per_channel_weights: bool = True
    pair_saturation: bool = False
    kernels: Mapping[str, Int8Kernel] = field(default_factory=dict)
    float_causes: Mapping[str, str] = field(default_factory=dict)
    narrow_weights: frozenset[DataType] = frozenset()
    wide: WideActivations | None = None


class WeightForm(StrEnum):
    """How a target wants a product whose weights are integers and whose activations are float."""

    MATMUL_NBITS = "matmul-nbits"
    """``com.microsoft.MatMulNBits``: packed codes, output channels first, one scale a block of inputs."""
    BLOCKED_QDQ = "blocked-qdq"
    """DequantizeLinear with ``block_size`` (opset 21) on the weight, and the product as it was."""


@dataclass(frozen=True, slots=True)
class WeightKernel:
    """What a target takes in one :class:`WeightForm`.

    Attributes:
        blocks: Inputs that may share a scale, by bits of a code; other numbers of bits are not taken.
        accuracy_level: What MatMulNBits computes in: 0 float, 4 activations as INT8, one scale a block.
        worth: When it pays; for the report.
    """

    blocks: Mapping[int, frozenset[int]]
    accuracy_level: int = 0
    worth: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can do, without importing its library.

    Attributes:
        max_ir_version: Newest ONNX IR version it reads.
        opsets: Lowest and highest version of ONNX's own opset that it reads.
        int8: Integer kernels, None if it has none.
        weight_only: Forms of products with integer weights and float activations, the fastest first.
        half_weights: Types that float weights may be stored in, with a Cast behind them, at no cost in time.
        channel_alignment: Channel counts are best kept at multiples of this.
        domains: Other operator domains that it runs.
        sparse_weights: Patterns of zeros in weights that make it faster: ``element``, ``balanced`` (equally many in
            each row or sub-matrix), ``n:m``, ``block``.
    """

    max_ir_version: int
    opsets: tuple[int, int]
    int8: Int8Support | None = None
    weight_only: Mapping[WeightForm, WeightKernel] = field(default_factory=dict)
    half_weights: frozenset[DataType] = frozenset()
    channel_alignment: int = 1
    domains: frozenset[str] = frozenset()
    sparse_weights: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``check`` has to say about a model on a target.

    Attributes:
        level: ``ok``, ``float`` (runs, but not in integers), ``refused``.
        node: label of the op, or "" for the model.
        kind: operator kind.
        reason: why.
    """

    level: str
    node: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A latency comparison: medians of pairwise ratios, taken interleaved in one process.

    Attributes:
        latency_us: median of the artifact, microseconds.
        baseline_us: median of the model it came from, microseconds.
        ratio: median over pairs of baseline / artifact; above 1 is faster.
        spread: 10th and 90th percentile of the ratios.
        pairs: number of pairs.
        threads: threads used.
    """

    latency_us: float
    baseline_us: float
    ratio: float
    spread: tuple[float, float]
    pairs: int
    threads: int = 1


@dataclass(frozen=True, slots=True)
class OpCost:
    """What a target that computes its prices says of one op, in one run.

    Attributes:
        latency_us: Time, microseconds; ops run one behind the other.
        energy_pj: Energy, picojoules; relative where the target cannot say absolute ones.
    """

    latency_us: float
    energy_pj: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of what a target executes.

    Attributes:
        kind: What the target calls it.
        outputs: Names of the graph's values that it computes; empty for one that the target put in by itself.
        integer: Whether it computes in integers; None for one that only moves or converts numbers.
        latency_us: Of one run, microseconds; None when it was not timed.
    """

    kind: str
    outputs: tuple[str, ...]
    integer: bool | None
    latency_us: float | None = None


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table for people.

    Attributes:
        title: above it.
        columns: heads.
        rows: cells.
        right: columns of numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


class Artifact(ABC):
    """What a target built from a graph."""

    @abstractmethod
    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """Write the artifact's files into ``folder`` atomically, the main one first; return them."""

    @abstractmethod
    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once; outputs by name."""

    def unrunnable(self) -> str:
        """Return why this machine cannot run it, such as for want of a GPU; "" when it can."""
        return ""

    @abstractmethod
    def measure(self, feeds: Feeds, baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """Compare latency with ``baseline`` on the same target."""

    def compare_with(self, baseline: Artifact, feeds: Feeds, *, seconds: float = 2.0) -> Measurement:
        """Compare latency with another artifact of the same target.

        Both run in turn; an artifact whose latency is computed, not measured, overrides this.
        """
        from nncomp.bench import compare_latency

        return compare_latency(lambda: self.run(feeds), lambda: baseline.run(feeds), seconds=seconds)

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Return what the target found out while building, JSON-able."""

    def kernels(self, feeds: Feeds, *, graph: Graph | None = None, seconds: float = 0.25) -> tuple[Kernel, ...]:
        """Return the kernels of one run, each timed; none by default, which says that nobody knows them.

        Args:
            feeds: What to run on.
            graph: Another graph to run instead, such as the model that this came from.
            seconds: Wall time to spend, at the most; 0 runs once, for what is executed and not for how long it takes.

        Raises:
            UnsupportedError, RuntimeFailure: it cannot be run.
        """
        del feeds, graph, seconds
        return ()

    def costs(self) -> Mapping[str, OpCost] | None:
        """Return what each op costs, by its label; None when the target computes no prices, but has to be measured.

        Ops that are free have no entry.
        """
        return None

    def tables(self) -> tuple[TextTable, ...]:
        """Return tables of it that ``nncomp compile`` shows; none by default."""
        return ()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what the target says, and its tables."""
        from nncomp.htmltable import html_table

        rows = [(key, value) for key, value in self.report().items() if not isinstance(value, Mapping | list | tuple)]
        tables = [html_table(one.title, one.rows, head=one.columns) for one in self.tables()]
        return "\n".join([html_table(type(self).__name__, rows), *tables])


class TargetOptions(BaseModel):
    """Base of the options of targets, whose fields they are; each is declared with :func:`nncomp.option`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Target(ABC):
    """A backend.

    A target with options names their model in ``option_type``; it is made with an instance of it, or with None for
    the defaults.

    Class attributes:
        name: as given to ``-t``.
        summary: one line for ``nncomp targets``.
        capabilities: plain data.
        default_recipe: name of the recipe that ``compile`` takes when none is given.
        library: distribution that it cannot do without, "" for none; for the message of who lacks it.
        prices: True for a cost model: its artifact is a price and no program, so that nothing need be written.
        option_type: model of the options; the base's has none.

    Attributes:
        options: of this one.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    default_recipe: ClassVar[str]
    library: ClassVar[str] = ""
    prices: ClassVar[bool] = False
    option_type: ClassVar[type[TargetOptions]] = TargetOptions
    options: TargetOptions = TargetOptions()

    def __init__(self, options: TargetOptions | None = None) -> None:
        self.options = self.option_type() if options is None else options

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Return the target with its options set, as in ``-t 'sparse{hw="eie"}'``.

        Raises:
            RecipeError: an option is unknown, of the wrong type, or out of range (NNC-R010).
        """
        found = read_options(cls.option_type, options, owner=cls.name)
        return cls(found) if cls.option_type.model_fields else cls()

    @property
    def spec(self) -> str:
        """The target as a recipe writes it, options at their defaults left out: ``sparse{hw="eie"}``."""
        return spec_of(self.name, self.options)

    @abstractmethod
    def missing(self) -> str:
        """Return the pip command that installs what this target lacks, "" when it is complete."""

    def require(self) -> None:
        """Refuse to work without the library.

        Raises:
            UnsupportedError: it is not installed (NNC-T001).
        """
        if self.missing():
            needs = self.library or "a library that is not installed"
            raise UnsupportedError(f"target {self.name!r} needs {needs}: {self.missing()}", code="NNC-T001")

    @abstractmethod
    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Say, before any work, what of ``graph`` this target will refuse and what it will run how."""

    @abstractmethod
    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Build the artifact.

        Raises:
            UnsupportedError: the target cannot take the graph (NNC-T002), or its library is missing (NNC-T001).
        """
