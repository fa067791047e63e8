"""The ``equalize`` pass: give the channels of an activation like ranges, so that one scale fits them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError, UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.ops import OpTable
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.statistics import observe
from nncomp_quant.channels import ChannelClass, channel_classes

Factors = npt.NDArray[np.float64]

_RARE: Final = 0.01
_TINY: Final = 1e-30


@dataclass
class ChannelRange:
    """Lowest and highest value of each channel (axis 1)."""

    low: npt.NDArray[np.float32] = field(default_factory=lambda: np.full(1, np.inf, np.float32))
    high: npt.NDArray[np.float32] = field(default_factory=lambda: np.full(1, -np.inf, np.float32))

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor, (N, C, ...)."""
        axes = tuple(axis for axis in range(array.ndim) if axis != 1)
        self.low = np.minimum(self.low, array.min(axis=axes))
        self.high = np.maximum(self.high, array.max(axis=axes))

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    @property
    def peak(self) -> npt.NDArray[np.float64]:
        """Largest absolute value."""
        return np.maximum(np.maximum(self.high, -self.low), 0.0).astype(np.float64)


@dataclass
class ClippedRange(ChannelRange):
    """The same of what a Clip reads, and the highest value of each channel in each sample.

    Attributes:
        highs: (C,) a sample, in no order.
    """

    highs: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor, (N, C, ...)."""
        super().update(array)
        self.highs.extend(np.array(array.max(axis=tuple(range(2, array.ndim))), np.float32))

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        super().merge(other)
        self.highs.extend(other.highs)

    def reach(self, margin: float) -> npt.NDArray[np.float64]:
        """Return what each channel may come to on inputs that were not seen.

        How far samples surprise is seen among them: by how many standard deviations of a channel's highest values one
        half of the samples goes beyond the other, in the hundredth of the channels where it is most. Features of whole
        classes, which most images lack, make that large, edges and colours small. Room is left for ``margin`` times
        that above all seen, at least for ``margin`` standard deviations.
        """
        rows = np.array([row for row in sorted(self.highs, key=lambda row: row.tobytes()) if np.isfinite(row).all()])
        if len(rows) < 2:
            return np.full(self.high.shape, np.inf)
        rows = rows.astype(np.float64)
        spread = rows.std(axis=0)
        jump = np.abs(rows[0::2].max(axis=0) - rows[1::2].max(axis=0)) / np.maximum(spread, _TINY)
        surprise = max(float(np.quantile(jump, 1.0 - _RARE)), 1.0)
        return np.asarray(np.maximum(rows.max(axis=0) + margin * surprise * spread, 0.0))


class Equalize(Pass):
    """Scale channels towards one range, the factor going into the weights before and out of the weights behind.

    Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction",
    ICCV 2019, section 4.1), with ranges of activations from calibration: weights have a scale per channel and do not
    need it, activations have one scale in all and do. Nothing changes but rounding, and that a channel behind
    Clip(0, c) that grows s times is bounded by c / s: as long as that lies well above all that the Clip reads.
    """

    name: ClassVar[str] = "equalize"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "cleanup", "fuse", "fold-batchnorm", "fold-scales", "fold-pad", "decompose", "prune-structured",
    )  # fmt: skip
    because: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "decompose": "the channels between two factors are to be evened out, too",
            "prune-structured": "refitted weights have other ranges",
        }
    )

    samples: int = option(64, help="calibration samples to see channel ranges on", ge=1)
    strength: float = option(
        0.5,
        help="exponent of the factor where dense layers read the channels; 1 equalizes activations fully",
        ge=0,
        le=1,
    )
    max_factor: float = option(8.0, help="largest factor a channel may get", ge=1)
    through_clips: bool = option(
        True, help="scale channels behind an upper bound, too, as far as what was seen in front of it leaves room"
    )
    margin: float = option(
        2.0,
        help="room above all seen that channels behind an upper bound keep, as a multiple of how far samples surprise",
        ge=0,
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        """Equalize every class of channels that can be.

        Raises:
            DataError: there is no calibration data (NNC-D006).
        """
        classes = [
            one
            for one in channel_classes(graph, ctx.ops)
            if _deciding(one, graph) and (self.through_clips or not one.ceilings)
        ]
        if not classes:
            ctx.note("skipped", "equalize", reason="no channels lie between layers that could share a factor")
            return
        if ctx.data is None:
            raise DataError(
                "equalize: channel ranges need calibration data",
                code="NNC-D006",
                hint="give --data with a folder of images, an .npz, or module:function; --data random to try it out",
            )
        clipped = {value.name for one in classes for value in _clipped(one)}
        names = [value.name for one in classes for value in (*_deciding(one, graph), *_clipped(one))]
        names = list(dict.fromkeys(names))

        def make(name: str) -> ChannelRange:
            return ClippedRange() if name in clipped else ChannelRange()

        seen = observe(graph, ctx, names, make, samples=self.samples)
        inputs: dict[Op, Factors] = {}
        outputs: dict[Op, Factors] = {}
        for one in classes:
            factors = self._factors(one, graph, seen)
            inputs.update(dict.fromkeys(one.readers, factors))
            outputs.update(dict.fromkeys(one.writers, factors))
        changed = [op for op in graph.ops() if op in inputs or op in outputs]
        for op in changed:
            _rescale(graph, op, ctx.ops, inputs.get(op), outputs.get(op))
        ctx.note("info", "equalize", reason=f"{len(classes)} groups of channels between {len(changed)} layers")

    def _factors(self, one: ChannelClass, graph: Graph, seen: Mapping[str, ChannelRange]) -> Factors:
        members = _deciding(one, graph)
        share = np.zeros(one.channels or 0)
        for value in members:
            peak = seen[value.name].peak
            share = np.maximum(share, peak / max(float(peak.max(initial=0.0)), 1e-30))
        dense = any(op.attr("group", 1) == 1 for op in one.readers)
        factors = np.where(share > 0, np.maximum(share, 1e-30), 1.0) ** -(self.strength if dense else 1.0)
        factors = np.clip(factors, 1.0, self.max_factor)
        for value, ceiling in one.ceilings.items():
            # clip(s x, 0, c) is s clip(x, 0, c / s): the channel saturates earlier.
            read = seen[_clip_input(value).name]
            assert isinstance(read, ClippedRange)
            reach = read.reach(self.margin)
            factors = np.minimum(factors, np.maximum(ceiling / np.maximum(reach, 1e-30), 1.0))
        return factors


def _clipped(one: ChannelClass) -> list[Value]:
    """Return what the members' Clips read."""
    return [_clip_input(value) for value in one.ceilings]


def _clip_input(value: Value) -> Value:
    assert value.producer is not None and value.producer.inputs[0] is not None
    return value.producer.inputs[0]


def _deciding(one: ChannelClass, graph: Graph) -> list[Value]:
    """Return the members whose range decides: those that are quantized, and not merely read by an activation."""
    absorbed = {
        value
        for value in one.values
        if graph.single_use(value) and graph.users(value)[0].kind in ("Relu", "Clip", "LeakyRelu")
    }
    return [value for value in one.values if value not in absorbed]


def _rescale(graph: Graph, op: Op, ops: OpTable, inputs: Factors | None, outputs: Factors | None) -> None:
    """Set W[o, i] <- W[o, i] s_out[o] / s_in[i], b[o] <- b[o] s_out[o]."""
    role = ops.quant(op, graph.opsets)
    assert role.weight is not None and role.weight_axis is not None
    weight = op.inputs[role.weight]
    old = graph.array(weight)
    assert weight is not None and old is not None
    rows = np.moveaxis(old.astype(np.float64), role.weight_axis(op), 0)
    if inputs is not None:
        group = op.attr("group", 1)
        # Input channel of each (output channel, column): groups read disjoint runs of channels.
        start = (np.arange(rows.shape[0]) // (rows.shape[0] // group)) * rows.shape[1]
        index = start[:, None] + np.arange(rows.shape[1])
        rows = rows / inputs[index].reshape(*index.shape, *[1] * (rows.ndim - 2))
    if outputs is not None:
        rows = rows * outputs.reshape(-1, *[1] * (rows.ndim - 1))
    new = np.ascontiguousarray(np.moveaxis(rows, 0, role.weight_axis(op)), np.float32)
    if not np.isfinite(new).all() and np.isfinite(old).all():
        raise UnsupportedError(f"equalize: the weight of {op.label!r} leaves float32", code="NNC-M053")
    graph.set_input(op, role.weight, graph.add_constant(f"{weight.name}_equalized", new))
    graph.remove_unused([weight])
    bias = op.input(role.bias) if role.bias is not None else None
    before = graph.array(bias)
    if outputs is not None and bias is not None and before is not None and role.bias is not None:
        scaled = (before.astype(np.float64) * outputs).astype(np.float32)
        graph.set_input(op, role.bias, graph.add_constant(f"{bias.name}_equalized", scaled))
        graph.remove_unused([bias])
