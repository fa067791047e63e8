"""One layer to be priced: its loop nest, and what is known of the zeros and the widths of its three tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nncomp.ops import LoopNest
from nncomp_sparse.space import Space

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Operand:
    """A tensor of a layer.

    Attributes:
        elements: Words as stored, padding of convolutions not among them.
        bits: Width; None when the model does not say (floats): the machine's own.
        nonzeros: Words that are not zero; the mean over samples for activations.
        channels: (groups, channels) mean share of non-zeros, 0 to 1; None when only the total is known.
        pads: Padding entries of a run-length code by width of the run, from the data in storage order (entry r: runs up
            to 2^r); None when unknown.
        mask: Of a weight, (g, m, c, r...): True where it is not zero; None when the values are not known.
        codes: Of a weight, how many distinct values it has and how often each occurs; None when unknown.
        known: Where the zeros come from, for the report: ``measured``, ``given`` or ``assumed dense``.
    """

    elements: int
    bits: int | None = None
    nonzeros: float = math.nan
    channels: Floats | None = None
    pads: Floats | None = None
    mask: Mask | None = field(default=None, repr=False)
    codes: Floats | None = field(default=None, repr=False)
    known: str = "assumed dense"

    def __post_init__(self) -> None:
        if math.isnan(self.nonzeros):
            object.__setattr__(self, "nonzeros", float(self.elements))

    @classmethod
    def given(cls, elements: int, density: float, bits: int | None = None) -> Self:
        """Return a tensor with zeros spread evenly."""
        return cls(elements, bits, elements * density, known="given")

    @property
    def density(self) -> float:
        """Share of non-zeros, 0 to 1; 1 for an empty tensor."""
        return self.nonzeros / self.elements if self.elements else 1.0

    def dense(self) -> Self:
        """Return the same tensor without zeros."""
        return replace(
            self, nonzeros=float(self.elements), channels=None, pads=None, mask=None, codes=None, known="counted dense"
        )


@dataclass(frozen=True)
class Layer:
    """One loop nest with its tensors.

    Attributes:
        name: Label of the op, with a number if the op has several nests.
        kind: Operator.
        nest: Its loops.
        weight, input, output: Its tensors.
        op: Label of the op, "" for a layer that comes from no graph.
        chained: Which of ``input`` and ``output`` are only passed between two layers with constant weights, with no
            activation between them, as in a tensor train.
    """

    name: str
    kind: str
    nest: LoopNest
    weight: Operand
    input: Operand
    output: Operand
    op: str = ""
    chained: frozenset[str] = frozenset()

    @classmethod
    def given(
        cls, name: str, nest: LoopNest, *, weight: float = 1.0, input: float = 1.0, output: float = 1.0, **bits: int
    ) -> Self:
        """Return a layer with evenly spread zeros; densities 0 to 1, widths as ``weight_bits=`` and so on."""
        stored = stored_elements(nest)
        densities = {"weight": weight, "input": input, "output": output}
        operands: dict[str, Any] = {
            tensor: Operand.given(stored[tensor], density, bits.get(f"{tensor}_bits"))
            for tensor, density in densities.items()
        }
        return cls(name, "Conv" if nest.spatial else "MatMul", nest, **operands)

    @cached_property
    def space(self) -> Space:
        """Its iteration space."""
        return Space.of(self.nest)

    @property
    def macs(self) -> int:
        """Multiply-accumulates when nothing is skipped."""
        return self.nest.macs

    def operand(self, tensor: str) -> Operand:
        """Return a tensor by name."""
        found: Operand = getattr(self, tensor)
        return found

    def dense(self) -> Self:
        """Return the same layer without zeros: the dense baseline."""
        return replace(self, weight=self.weight.dense(), input=self.input.dense(), output=self.output.dense())


def stored_elements(nest: LoopNest) -> dict[str, int]:
    """Return the words of each tensor as stored."""
    positions = nest.sizes or nest.spatial
    return {
        "weight": nest.groups * nest.outputs * nest.inputs * math.prod(nest.kernel),
        "input": nest.batch * nest.groups * nest.inputs * math.prod(positions),
        "output": nest.batch * nest.groups * nest.outputs * math.prod(nest.spatial),
    }
