"""How a machine works through a layer: one small schema a kind of dataflow, told apart by ``kind``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from nncomp_sparse.hardware.schema import Hardware

Count = Annotated[int, Field(ge=1, le=1 << 31, strict=True)]


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def check(self, machine: Hardware) -> None:
        """Refuse a machine that cannot work so; ValueError says why."""
        del machine


class Nest(_Kind):
    """Loops tiled over the levels by search.

    ``weight``, ``output`` and ``input`` say what stays in the array while the rest streams by; ``any`` leaves that to
    the search.
    """

    kind: Literal["any", "weight-stationary", "output-stationary", "input-stationary"]


class RowStationary(_Kind):
    """Eyeriss: rows of a filter and of the input meet in an element, sums of a column add up (ISSCC/ISCA 2016).

    Attributes:
        psum_words, filter_words, input_words: Words a cycle on the networks between buffer and array.
    """

    kind: Literal["row-stationary"]
    psum_words: Count = 4
    filter_words: Count = 4
    input_words: Count = 1

    def check(self, machine: Hardware) -> None:
        """It needs a scratchpad for each tensor, and a buffer of its own size."""
        inner = machine.levels[-1]
        if not inner.per_pe or set(inner.words) != {"weight", "input", "output"}:
            raise ValueError("dataflow: row-stationary needs a level in each element, with words for each tensor")
        if len(machine.levels) < 3 or machine.levels[1].kb is None:
            raise ValueError("dataflow: row-stationary needs a global buffer with a size (kb) between them")


class Systolic(_Kind):
    """A systolic array: operands enter at the edges, skewed by one cycle a row.

    Attributes:
        stationary: What stays in the array.
    """

    kind: Literal["systolic"]
    stationary: Literal["weight", "output", "input"] = "weight"


class ColumnSerial(_Kind):
    """EIE: one non-zero input after the other is sent to all elements, which hold interleaved output rows."""

    kind: Literal["column-serial"]


class Cartesian(_Kind):
    """SCNN: all products of a vector of non-zero weights and a vector of non-zero inputs of a channel.

    Attributes:
        weights, inputs: Lengths of the vectors.
        accumulators: Output elements that an element holds.
    """

    kind: Literal["cartesian"]
    weights: Count = 4
    inputs: Count = 4
    accumulators: Count = 1024


class OuterProduct(_Kind):
    """A tensor core that multiplies condensed columns by condensed rows.

    Attributes:
        tile: Elements of a column, and of a row, that are condensed together.
        left, right: Non-zeros of a column and of a row that one step takes.
    """

    kind: Literal["outer-product"]
    tile: Count = 32
    left: Count = 8
    right: Count = 16


class FusionArray(_Kind):
    """Bit Fusion: a systolic array whose units split by the widths of their operands; channels go along rows."""

    kind: Literal["fusion-array"]


class TensorTrain(_Kind):
    """TIE: a chain of small products whose intermediate results stay on chip."""

    kind: Literal["tensor-train"]


Dataflow = Annotated[
    Nest | RowStationary | Systolic | ColumnSerial | Cartesian | OuterProduct | FusionArray | TensorTrain,
    Field(discriminator="kind"),
]
