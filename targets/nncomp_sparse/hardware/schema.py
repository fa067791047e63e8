"""What a machine is: array, precision, memories, dataflow, sparsity and energy, as checked data read from TOML.

A field that is not given takes a value that adds nothing: no sparsity, no static power, no port limit.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nncomp_sparse.hardware.dataflows import Count, Dataflow, Nest

TENSORS: Final = ("weight", "input", "output")

TensorName = Literal["weight", "input", "output"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Bits = Annotated[int, Field(ge=1, le=64, strict=True)]


class Section(BaseModel):
    """Base of all parts: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Array(Section):
    """Processing elements.

    Attributes:
        rows, cols: Size of the array.
        macs_per_pe: Multipliers in each element.
    """

    rows: Count
    cols: Count
    macs_per_pe: Count = 1

    @property
    def pes(self) -> int:
        """Number of processing elements."""
        return self.rows * self.cols

    @property
    def macs(self) -> int:
        """Multipliers at the native width."""
        return self.pes * self.macs_per_pe


class Precision(Section):
    """Widths, and what narrower or wider operands cost.

    ``fixed``: ceil(bits / native) passes for each operand. ``bit-serial``: cycles in proportion to the bits of the
    operands in ``serial``, those of the native width being one. ``bit-fusion``: a unit splits into
    (max / weight bits) * (max / input bits) multipliers, widths rounded up to powers of two.

    Attributes:
        mode: What widths that are not native cost.
        weight_bits, input_bits, output_bits: Native width of each tensor, where the model says nothing.
        psum_bits: Width of partial sums.
        serial: With ``bit-serial``: the operands whose bits take time.
        min_bits: With ``bit-fusion``: narrower operands count as so wide.
        max_bits: With ``bit-fusion``: width of a unit that is not split.
    """

    mode: Literal["fixed", "bit-serial", "bit-fusion"] = "fixed"
    weight_bits: Bits = 16
    input_bits: Bits = 16
    output_bits: Bits = 16
    psum_bits: Bits = 32
    serial: tuple[Literal["weight", "input"], ...] = ()
    min_bits: Bits = 2
    max_bits: Bits = 8

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode == "bit-serial" and not self.serial:
            raise ValueError("serial: expected at least one operand for a bit-serial machine")
        if self.min_bits > self.max_bits:
            raise ValueError(f"min_bits: expected at most max_bits {self.max_bits}, got {self.min_bits}")
        return self

    def native(self, tensor: str) -> int:
        """Return the width of a tensor that the model says nothing about."""
        return {"weight": self.weight_bits, "input": self.input_bits, "output": self.output_bits}[tensor]


class Level(Section):
    """One memory, the outermost first.

    Attributes:
        name: As reports call it.
        kb: Capacity shared by what it keeps, 1024 bytes; without it there is no limit.
        words: Capacity by tensor, words, instead of ``kb``.
        keeps: Tensors that are stored here; the others pass through.
        per_pe: One in each processing element.
        double_buffered: Half of it is being filled while the other half is read.
        read_bits, write_bits: Width of the ports, bits a cycle; without it there is no limit.
        gb_per_s: Bandwidth of both directions together, 1e9 bytes a second; instead of the ports.
        pj_per_bit: Energy of an access; without it, the energy table's, by capacity.
        off_chip: Costs the table's DRAM energy; process scaling does not reach it.
    """

    name: str = Field(min_length=1)
    kb: Positive | None = None
    words: dict[TensorName, Count] = Field(default_factory=dict)
    keeps: tuple[TensorName, ...] = TENSORS
    per_pe: bool = False
    double_buffered: bool = False
    read_bits: Positive | None = None
    write_bits: Positive | None = None
    gb_per_s: Positive | None = None
    pj_per_bit: NotNegative | None = None
    off_chip: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kb is not None and self.words:
            raise ValueError("words: expected kb or words, got both")
        if not self.keeps:
            raise ValueError("keeps: expected at least one tensor")
        if len(set(self.keeps)) != len(self.keeps):
            raise ValueError(f"keeps: a tensor is named twice in {list(self.keeps)}")
        strange = [name for name in self.words if name not in self.keeps]
        if strange:
            raise ValueError(f"words: {strange[0]!r} is not kept here")
        if self.gb_per_s is not None and (self.read_bits is not None or self.write_bits is not None):
            raise ValueError("gb_per_s: expected a bandwidth or ports, got both")
        return self


class Format(Section):
    """How a tensor with zeros is stored, and what its zeros save.

    Attributes:
        format: ``dense``, ``bitmask``, ``run-length`` (``index_bits`` of zeros before each value), ``relative-index``
            (the same within columns, with a pointer a column: CSC), ``coordinate``, ``codebook`` (relative index,
            values replaced by ``code_bits``), ``structured`` (``n`` of ``m``).
        index_bits: Width of a run or of a relative index.
        group_bits: Entries are packed into words of so many bits (Eyeriss: 3 pairs in 64); 0 packs them tightly.
        group_entries: How many entries go into such a word.
        code_bits: Width of a code of the codebook.
        huffman: Codes and indices are Huffman-coded where ``at`` says.
        pointer_bits: Width of a column pointer.
        bypass: A tensor that the format would make larger is stored dense.
        n, m: With ``structured``: at most ``n`` of each ``m`` values are not zero.
        at: Levels where it is stored so; dense elsewhere.
        action: ``none``, ``gate`` (a zero saves energy, not time), ``skip`` (a zero is not worked on).
        flagged: With ``gate``: a flag tells of a zero before it is read; else it is read to be found.
    """

    format: Literal["dense", "bitmask", "run-length", "relative-index", "coordinate", "codebook", "structured"] = (
        "dense"
    )
    index_bits: Annotated[int, Field(ge=1, le=16, strict=True)] = 4
    group_bits: Annotated[int, Field(ge=0, strict=True)] = 0
    group_entries: Annotated[int, Field(ge=0, strict=True)] = 0
    code_bits: Annotated[int, Field(ge=1, le=16, strict=True)] = 4
    pointer_bits: Annotated[int, Field(ge=0, le=64, strict=True)] = 16
    huffman: bool = False
    bypass: bool = False
    n: Count = 2
    m: Count = 4
    at: tuple[str, ...] = ()
    action: Literal["none", "gate", "skip"] = "none"
    flagged: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n > self.m:
            raise ValueError(f"n: expected at most m = {self.m}, got {self.n}")
        if bool(self.group_bits) != bool(self.group_entries):
            raise ValueError("group_entries: expected together with group_bits")
        return self


class Balance(Section):
    """How work is shared out: a barrier after each so much, and queues that let elements run ahead.

    Attributes:
        barrier: ``layer`` (none before the end), ``group`` (a group of output channels), ``column`` (each input).
        fifo: Entries that a processing element may lag behind; the usable depth is one less.
        spread: Relative deviation of non-zeros between elements, beyond chance, where only a share of non-zeros is
            known.
    """

    barrier: Literal["layer", "group", "column"] = "layer"
    fifo: Count = 1
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Speculation(Section):
    """Outputs that are cut short because ReLU will make them zero anyway.

    Attributes:
        mode: ``none``; ``sign``: weights sorted by sign, exact, stops once the sum is negative (SnaPEA); ``predictor``:
            a product of ``cost_bits`` wide operands decides.
        exit: With ``sign``: share of the products of an output that becomes zero which are done before that is known.
        cost_bits: Width of the predictor's operands.
        recall: Share of the positive outputs that the predictor lets through; the rest is wrong, and a risk.
    """

    mode: Literal["none", "sign", "predictor"] = "none"
    exit: Annotated[float, Field(ge=0, le=1)] = 1.0
    cost_bits: Bits = 4
    recall: Annotated[float, Field(gt=0, le=1)] = 1.0


class Sparsity(Section):
    """What zeros are worth, operand by operand."""

    weight: Format = Format()
    input: Format = Format()
    output: Format = Format()
    balance: Balance = Balance()
    speculation: Speculation = Speculation()

    def of(self, tensor: str) -> Format:
        """Return what holds for a tensor."""
        found: Format = getattr(self, tensor)
        return found


class Multicast(Section):
    """What one read serves.

    ``none``: one element; ``broadcast``: all that work on the same coordinates; ``union``: each word once, also where
    neighbours' windows overlap.

    Attributes:
        weight, input: What one read of the tensor serves.
        output: ``reduce``: partial sums of elements that work on the same output are added on their way up; ``none``:
            each goes up by itself.
    """

    weight: Literal["none", "broadcast", "union"] = "broadcast"
    input: Literal["none", "broadcast", "union"] = "broadcast"
    output: Literal["none", "reduce"] = "reduce"


class Energy(Section):
    """Energies that the table does not say, and power that flows whatever is computed.

    Attributes:
        table: Where energies come from that the machine does not state.
        process_nm: Feature size; energies of the table scale with it linearly, off-chip ones do not.
        mac_pj: One multiply-accumulate at native widths; without it, the table's.
        network_pj_per_bit: Moving one bit into the array, or between its elements.
        static_mw: Power that flows whether or not anything is computed.
        clock_pj_per_cycle: Energy of each cycle.
        calibrated: True when static power or energies are fitted to measurements of a chip: then energies are absolute.
    """

    table: Literal["horowitz-45nm", "eyeriss-65nm-relative"] = "horowitz-45nm"
    process_nm: Positive = 45.0
    mac_pj: NotNegative | None = None
    network_pj_per_bit: NotNegative = 0.0
    static_mw: NotNegative = 0.0
    clock_pj_per_cycle: NotNegative = 0.0
    calibrated: bool = False


class Hardware(Section):
    """A machine.

    Attributes:
        name: As reports call it.
        summary: What it is, in a line.
        source: Where its numbers come from.
        confidence: ``exact`` (checked number by number), ``table-checked`` (against a published table within the bounds
            of docs/accelerator.md), ``headline`` (against one published ratio), ``uncalibrated``.
        clock_mhz: Cycles in a microsecond.
    """

    name: str = Field(min_length=1)
    summary: str = ""
    source: str = ""
    confidence: Literal["exact", "table-checked", "headline", "uncalibrated"] = "uncalibrated"
    clock_mhz: Positive
    array: Array
    precision: Precision = Precision()
    levels: tuple[Level, ...] = Field(min_length=1)
    dataflow: Dataflow = Nest(kind="any")
    multicast: Multicast = Multicast()
    sparsity: Sparsity = Sparsity()
    energy: Energy = Energy()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [level.name for level in self.levels]
        if len(set(names)) != len(names):
            raise ValueError(f"levels: two are called {next(n for n in names if names.count(n) > 1)!r}")
        outermost = self.levels[0]
        if outermost.kb is not None or outermost.words:
            raise ValueError(f"levels: the outermost, {outermost.name!r}, holds whole tensors and must not have a size")
        if set(outermost.keeps) != set(TENSORS):
            raise ValueError(f"levels: the outermost, {outermost.name!r}, must keep weight, input and output")
        inner = [level.per_pe for level in self.levels]
        if inner != sorted(inner):
            raise ValueError("levels: one that is shared stands inside of one in each processing element")
        for tensor in TENSORS:
            strange = [name for name in self.sparsity.of(tensor).at if name not in names]
            if strange:
                raise ValueError(f"sparsity.{tensor}.at: there is no level {strange[0]!r} among {', '.join(names)}")
        self.dataflow.check(self)
        return self

    def level(self, name: str) -> Level:
        """Return a level by name."""
        return next(level for level in self.levels if level.name == name)

    def bytes_per_cycle(self, level: Level) -> float | None:
        """Return a bandwidth as bytes a cycle; None when there is no limit."""
        return None if level.gb_per_s is None else level.gb_per_s * 1e3 / self.clock_mhz
