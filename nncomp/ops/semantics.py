"""What one row of the op-semantics table says: the only place where nncomp knows what an operator means.

A row holds for a range of opset versions of its domain. Whatever a row does not say is unknown, and what is unknown is
left alone: an op without a row is a barrier, kept, never touched, and named in the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from nncomp.ir import Graph, Op, Type
from nncomp.ops.coupling import AxesRule
from nncomp.ops.matrix import MatrixView
from nncomp.ops.nests import NestRule


class Role(StrEnum):
    """What quantization may do with an op."""

    COMPUTE = "compute"
    """Holds weights or multiplies activations; worth an integer kernel (Conv, Gemm, MatMul)."""
    ELEMENTWISE = "elementwise"
    """Computes new values at every element; each output needs its own scale (Add, Sigmoid, AveragePool)."""
    PASSTHROUGH = "passthrough"
    """Moves or selects values only; input and output share one scale (Reshape, MaxPool, Slice)."""
    ACTIVATION = "activation"
    """Elementwise and clipping: an integer kernel in front may absorb it (Relu, Clip)."""
    SENSITIVE = "sensitive"
    """Loses too much in integers (LayerNormalization, Softmax, Exp); stays float by default."""
    BARRIER = "barrier"
    """Nothing is known, or nothing can be done."""


@dataclass(frozen=True, slots=True)
class QuantRole:
    """How quantization treats an op. Outputs of an integer or boolean type (ArgMax, TopK's indices) carry no scale.

    Attributes:
        role: See :class:`Role`.
        data: Input slots that carry activations.
        variadic: All inputs carry activations, however many there are (Concat, Sum); ``data`` is not read then.
        weight: Input slot of the weight, None if the op has none. Where it is a data slot too (MatMul, Gemm), the
            operand is a weight when it is constant and an activation otherwise.
        weight_axis: Axis of the weight's output channels, given the op (``transB`` moves Gemm's); None when one scale
            must do for the whole weight.
        bias: Input slot of the bias, None if the op has none.
        reason: For SENSITIVE and BARRIER: why, in words for the report.
    """

    role: Role
    data: tuple[int, ...] = (0,)
    variadic: bool = False
    weight: int | None = None
    weight_axis: Callable[[Op], int] | None = None
    bias: int | None = None
    reason: str = ""

    def activation_slots(self, op: Op, graph: Graph) -> tuple[int, ...]:
        """Return the input slots of ``op`` that carry activations: the data slots given, less a constant weight."""
        slots = range(len(op.inputs)) if self.variadic else self.data
        given = [slot for slot in slots if op.input(slot) is not None]
        return tuple(slot for slot in given if slot != self.weight or graph.constant(op.input(slot)) is None)


class Scaling(StrEnum):
    """What a positive factor per channel does to an op, whatever the factors. Channels are axis 1, but for GAIN."""

    CHANNELWISE = "channelwise"
    """f(s x) = s f(x): the factor of the first input passes through, others need none (Relu, MaxPool, PRelu's x)."""
    SUM = "sum"
    """The factor passes through if all inputs have it (Add)."""
    CLIP = "clip"
    """Passes through as long as nothing that was inside the bounds leaves them (Clip at zero and above)."""
    LINEAR = "linear"
    """The weight takes it in: an input's factor divides its input channels, an output's multiplies its output channels
    and the bias (Conv, Gemm)."""
    GAIN = "gain"
    """All inputs behind the first are vectors along the last axis, where the op normalizes that alone, and take in an
    output's factor on it; an input's factor changes the op (LayerNormalization)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of an op costs.

    Attributes:
        macs: Multiply-accumulates (0 for ops that only move or compare).
        elementary: Other scalar operations (one an output element for element-wise ops).
        params: Elements of constant inputs that are weights; a tensor that two ops share counts at each.
        bytes_read, bytes_written: Tensor traffic, each operand once.
    """

    macs: int = 0
    elementary: int = 0
    params: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.elementary + other.elementary,
            self.params + other.params,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )


Infer: TypeAlias = Callable[[Op], tuple[Type | None, ...]]
"""Output types from the input values' types and constants."""

CostRule: TypeAlias = Callable[[Op], tuple[int, int] | None]
"""(macs, elementary) from the types of inputs and outputs; None when a needed shape is not static."""

QuantRule: TypeAlias = Callable[[Op], QuantRole]
"""The role of an op where it depends on attributes (Resize, BatchNormalization) or on a constant (Pad)."""

MatrixRule: TypeAlias = Callable[[Op, Graph], MatrixView | None]
"""The op as a matrix times rows of its data; None where its weight is no constant."""


@dataclass(frozen=True, slots=True)
class OpSemantics:
    """One row of the table.

    Attributes:
        kind, domain: The operator.
        since, until: First and last opset version that the row holds for; ``until`` None means still.
        infer: Output types; None falls back on onnx's shape inference.
        axes: What ties the elements of the op's tensors (:mod:`nncomp.ops.coupling`); None pins all axes.
        cost: Multiply-accumulates and elementary operations; None is one elementary operation an output element.
        quant: Role in quantization, or a rule that tells it from the op; None is a barrier.
        scaling: What a factor per channel does; None says that nothing is known, and channels keep their size.
        matrix: How its weight is a matrix; None for ops that are not linear in one constant operand.
        nest: The loops of its multiply-accumulates; None for ops that have none, or whose loops nobody wrote down.
        foldable: May be evaluated at compile time when all inputs are constants.
        deterministic: Same inputs, same outputs: two equal ones may be merged. False for random ops.
    """

    kind: str
    domain: str = ""
    since: int = 1
    until: int | None = None
    infer: Infer | None = None
    axes: AxesRule | None = None
    cost: CostRule | None = None
    quant: QuantRole | QuantRule | None = None
    foldable: bool = True
    deterministic: bool = True
    scaling: Scaling | None = None
    matrix: MatrixRule | None = None
    nest: NestRule | None = None


def rows(
    kinds: str,
    *,
    domain: str = "",
    since: int = 1,
    until: int | None = None,
    infer: Infer | None = None,
    axes: AxesRule | None = None,
    cost: CostRule | None = None,
    quant: QuantRole | QuantRule | None = None,
    foldable: bool = True,
    deterministic: bool = True,
    scaling: Scaling | None = None,
    matrix: MatrixRule | None = None,
    nest: NestRule | None = None,
) -> tuple[OpSemantics, ...]:
    """Return a row for each operator in ``kinds``, names with spaces between, that mean the same to us."""
    return tuple(
        OpSemantics(
            kind,
            domain,
            since,
            until,
            infer=infer,
            axes=axes,
            cost=cost,
            quant=quant,
            foldable=foldable,
            deterministic=deterministic,
            scaling=scaling,
            matrix=matrix,
            nest=nest,
        )
        for kind in kinds.split()
    )
