"""The ``equalize`` pass: give the channels of an activation like ranges, so that one scale fits them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError, UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.ops import OpTable
from nncomp.passes import Context, Effect, Pass, option
from nncomp.statistics import observe
from nncomp_quant.channels import ChannelClass, channel_classes

Factors = npt.NDArray[np.float64]


@dataclass
class ChannelPeak:
    """Largest absolute value of each channel (axis 1)."""

    peak: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor, (N, C, ...)."""
        axes = tuple(axis for axis in range(array.ndim) if axis != 1)
        self.peak = np.maximum(self.peak, np.maximum(array.max(axis=axes), -array.min(axis=axes)))

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        self.peak = np.maximum(self.peak, other.peak)


class Equalize(Pass):
    """Scale channels towards one range, the factor going into the weights before and out of the weights behind.

    Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction",
    ICCV 2019, section 4.1), with ranges of activations from calibration: weights have a scale per channel and do not
    need it, activations have one scale in all and do. Nothing changes but rounding; only with ``through_clips`` may a
    channel behind Clip(0, c) grow, which then saturates earlier on inputs unlike those seen.
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

    samples: int = option(32, help="calibration samples to see channel ranges on", ge=1)
    strength: float = option(
        0.5,
        help="exponent of the factor where dense layers read the channels; 1 equalizes activations fully",
        ge=0,
        le=1,
    )
    max_factor: float = option(8.0, help="largest factor a channel may get", ge=1)
    through_clips: bool = option(
        False, help="scale channels behind an upper bound, too: right for what calibration saw, a risk beyond"
    )
    margin: float = option(2.0, help="a clipped channel keeps room for this many times the largest value seen", ge=1)

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
                "equalize: channel ranges need calibration data", code="NNC-D006", hint="give --data, as for quantize"
            )
        names = [value.name for one in classes for value in _deciding(one, graph)]
        peaks = observe(graph, ctx, names, lambda name: ChannelPeak(), samples=self.samples)
        inputs: dict[Op, Factors] = {}
        outputs: dict[Op, Factors] = {}
        for one in classes:
            factors = self._factors(one, graph, {name: peaks[name].peak for name in names})
            inputs.update(dict.fromkeys(one.readers, factors))
            outputs.update(dict.fromkeys(one.writers, factors))
        changed = [op for op in graph.ops() if op in inputs or op in outputs]
        for op in changed:
            _rescale(graph, op, ctx.ops, inputs.get(op), outputs.get(op))
        ctx.note("info", "equalize", reason=f"{len(classes)} groups of channels between {len(changed)} layers")

    def _factors(self, one: ChannelClass, graph: Graph, peaks: Mapping[str, npt.NDArray[np.float32]]) -> Factors:
        members = _deciding(one, graph)
        share = np.zeros(one.channels or 0)
        for value in members:
            peak = peaks[value.name].astype(np.float64)
            share = np.maximum(share, peak / max(float(peak.max(initial=0.0)), 1e-30))
        dense = any(op.attr("group", 1) == 1 for op in one.readers)
        factors = np.where(share > 0, np.maximum(share, 1e-30), 1.0) ** -(self.strength if dense else 1.0)
        factors = np.clip(factors, 1.0, self.max_factor)
        for value, ceiling in one.ceilings.items():
            # Above the largest value seen, clip(s x, 0, c) is s clip(x, 0, c / s): the channel saturates earlier.
            room = ceiling / np.maximum(self.margin * peaks[value.name].astype(np.float64), 1e-30)
            factors = np.minimum(factors, np.maximum(room, 1.0))
        return factors


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
