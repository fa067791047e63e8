"""The ``smooth`` pass: take outlier channels out of the inputs of matrix products, so that one scale fits them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op, Value
from nncomp.ops import OpTable, Scaling
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.statistics import observe
from nncomp_quant.plan import plan_quantization

Array64 = npt.NDArray[np.float64]

_STRENGTHS: Final = tuple(np.linspace(0.3, 1.0, 8))
_CEILINGS: Final = (1.0, 1.5, 2.0, 3.0, 4.0)
_TINY: Final = 1e-12


class Smooth(Pass):
    """Divide the channels that products read by factors that go into their weights: x W = (x / s) (s W).

    A handful of channels of a transformer's activations are ten times as large as the rest and leave them three or four
    bits (Xiao et al., "SmoothQuant: accurate and efficient post-training quantization for large language models", ICML
    2023). The factors go into the gain and bias of a normalization in front where the products alone read it, and into
    a multiplication by a vector otherwise, where that is worth its time. Among SmoothQuant's
    s = max|x|^a / max|W|^(1 - a) and s = max(1, max|x| / c), those are taken that leave the least error at the output,
    as predicted from the ranges of calibration samples. Without calibration data nothing is done.
    """

    name: ClassVar[str] = "smooth"
    effect: ClassVar[Effect] = Effect.REASSOCIATES
    after: ClassVar[tuple[str, ...]] = ("cleanup", "lift-constants", "fold-constants", "fuse", "fold-scales")

    samples: int = option(128, help="calibration samples to see channel ranges on", ge=1)
    multiply: bool = option(True, help="where no normalization takes the factors, multiply by a vector")
    enough_db: float = option(
        28.0, help="no multiplication where rounding leaves a product this SQNR as it is; inf for everywhere"
    )
    gain_db: float = option(6.0, help="no multiplication for less gain in SQNR than this", ge=0)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Smooth the inputs of all products whose activations the target quantizes at run time."""
        if ctx.target is None or ctx.target.int8 is None:
            ctx.note("skipped", self.name, reason="the target has no integer kernels")
            return
        groups = _groups(graph, ctx.ops, plan_quantization(graph, ctx.ops, ctx.target.int8).dynamic)
        if not groups or ctx.data is None:
            why = "no products with activations that are quantized at run time" if not groups else "no calibration data"
            ctx.note("skipped", self.name, reason=why)
            return
        watched = list(dict.fromkeys(name for one in groups for name in one.watched))
        seen = observe(graph, ctx, watched, lambda name: ChannelRanges(), samples=self.samples)
        for one in groups:
            data = one.data
            error = _Error(seen[data.name], [_relative_weight(graph, op, seen[op.output.name]) for op in one.products])
            before = error.of(np.ones(error.channels))
            factors = error.best_factors()
            after = error.of(factors)
            if not after < before:
                continue
            gain, sqnr = 10 * np.log10(before / after), 10 * np.log10(1 / before)
            told = f"{sqnr:.1f} dB, {gain:.1f} dB gained"
            if one.normalization is not None:
                _divide_normalization(graph, one.normalization, factors)
            elif self.multiply and sqnr < self.enough_db and gain >= self.gain_db:
                _insert_multiplication(graph, one, factors)
            else:
                ctx.note("declined", self.name, node=data.name, reason=f"not worth a multiplication: {told}")
                continue
            for op in one.products:
                _multiply_weight(graph, op, factors)
            ctx.note("fired", self.name, node=data.name, reason=told)


@dataclass
class ChannelRanges:
    """Lowest and highest value and mean square of each channel (last axis), one row a sample.

    Rows are kept, since a scale that is chosen at run time depends on one sample alone.
    """

    rows: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor, (..., C)."""
        flat = array.reshape(-1, array.shape[-1])
        if not flat.size or not np.isfinite(flat).all():
            return
        square = np.einsum("nc,nc->c", flat, flat, dtype=np.float64) / flat.shape[0]
        self.rows.append(np.stack([flat.min(axis=0), flat.max(axis=0), square]).astype(np.float32))

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        self.rows.extend(other.rows)

    def low_high(self) -> tuple[Array64, Array64]:
        """Return lowest and highest values, each (samples, C)."""
        rows = np.stack(self.rows).astype(np.float64)
        return rows[:, 0], rows[:, 1]

    def power(self) -> Array64:
        """Return E[x^2] of each channel; sorted sums, whose bits do not depend on the order of samples."""
        return np.asarray(np.sort(np.stack(self.rows)[:, 2].astype(np.float64), axis=0).mean(axis=0))


@dataclass(frozen=True, slots=True)
class _Group:
    """Products that read one value, and the normalization that writes it if nobody else reads it."""

    data: Value
    products: tuple[Op, ...]
    normalization: Op | None

    @property
    def watched(self) -> tuple[str, ...]:
        return (self.data.name, *(op.output.name for op in self.products))


class _Error:
    """Predicted error of products at their outputs, of 8-bit rounding, for any factors: noise over signal.

    It is the mean over output channels: a normalization behind makes a large channel as small as the others.

    Rounding x / s with step d adds d^2 / 12 in each channel, which the weights carry to the output; rounding s W with
    a step a column adds step^2 / 12 times the power of x / s.
    """

    def __init__(self, seen: ChannelRanges, weights: list[Array64]) -> None:
        self.usable = bool(seen.rows)
        self.low, self.high = seen.low_high() if self.usable else (np.zeros((1, 1)), np.zeros((1, 1)))
        self.power = seen.power() if self.usable else np.zeros(1)
        self.weights = weights
        self.channels = weights[0].shape[0]
        self.rows = np.asarray(sum(np.square(one).sum(axis=1) for one in weights))
        self.weight_peak = np.max([np.abs(one).max(axis=1) for one in weights], axis=0)
        self.peak = np.maximum(np.abs(self.low), np.abs(self.high)).max(axis=0)

    def of(self, factors: Array64) -> float:
        if not self.usable:
            return 0.0
        high = np.maximum((self.high / factors).max(axis=1), 0.0)
        low = np.minimum((self.low / factors).min(axis=1), 0.0)
        steps = np.sort(np.square((high - low) / 255))  # sorted: the sum's bits must not depend on the order
        activations = float(steps.mean()) / 12 * float((self.rows * factors**2).sum())
        carried = float((self.power / factors**2).sum())
        peaks = [np.abs(one * factors[:, None]).max(axis=0) / 127 for one in self.weights]
        columns = sum(one.shape[1] for one in self.weights)
        return float((activations + carried / 12 * sum(float(np.square(one).sum()) for one in peaks)) / columns)

    def best_factors(self) -> Array64:
        return min(self._candidates(), key=self.of)

    def _candidates(self) -> Iterable[Array64]:
        peak = np.maximum(self.peak, max(float(self.peak.max(initial=0.0)) * 1e-4, _TINY))
        weight = np.maximum(self.weight_peak, max(float(self.weight_peak.max(initial=0.0)) * 1e-4, _TINY))
        yield np.ones(self.channels)
        for strength in _STRENGTHS:
            factors = peak**strength / weight ** (1 - strength)
            yield factors / np.exp(np.log(factors).mean())
        typical = float(np.median(peak))
        for ceiling in _CEILINGS:
            yield np.maximum(1.0, peak / (ceiling * typical))


def _groups(graph: Graph, ops: OpTable, products: list[Op]) -> list[_Group]:
    """Return the products by what they read, where each has a weight of its own."""
    by_data: dict[Value, list[Op]] = {}
    for op in products:
        data = op.inputs[0]
        assert data is not None
        by_data.setdefault(data, []).append(op)
    groups = []
    for data, readers in by_data.items():
        weights = [op.inputs[1] for op in readers]
        if any(weight is None or len(graph.uses(weight)) > 1 for weight in weights):
            continue
        alone = len(graph.uses(data)) == len(readers) and not graph.is_output(data)
        source = data.producer if alone else None
        takes = source is not None and _takes_factors(graph, ops, source)
        groups.append(_Group(data, tuple(readers), source if takes else None))
    return groups


def _takes_factors(graph: Graph, ops: OpTable, op: Op) -> bool:
    """True for a normalization over the last axis with a gain (and bias) of its own: they may be divided."""
    row = ops.row(op, graph.opsets)
    if row is None or row.scaling is not Scaling.GAIN or op.attr("axis", -1) != -1:
        return False
    parts = [value for value in op.inputs[1:] if value is not None]
    tensors = [graph.constant(value) for value in parts]
    return bool(parts) and all(
        tensor is not None and tensor.dtype == DataType.FLOAT and len(tensor.shape) == 1 for tensor in tensors
    )


def _relative_weight(graph: Graph, op: Op, result: ChannelRanges) -> Array64:
    """Return the weight with each column over the root mean square of what it writes."""
    array = graph.array(op.inputs[1])
    assert array is not None
    power = result.power() if result.rows else np.ones(array.shape[1])
    return np.asarray(array / np.sqrt(np.maximum(power, float(power.max(initial=_TINY)) * 1e-8)), np.float64)


def _divide_normalization(graph: Graph, op: Op, factors: Array64) -> None:
    for slot in range(1, len(op.inputs)):
        _replace_constant(graph, op, slot, 1 / factors)


def _multiply_weight(graph: Graph, op: Op, factors: Array64) -> None:
    _replace_constant(graph, op, 1, factors[:, None])


def _replace_constant(graph: Graph, op: Op, slot: int, factor: Array64) -> None:
    old = op.input(slot)
    array = graph.array(old)
    if old is None or array is None:
        return
    new = np.asarray(np.asarray(array, np.float64) * factor, np.float32)
    graph.set_input(op, slot, graph.add_constant(f"{old.name}_smooth", new))
    graph.remove_unused([old])


def _insert_multiplication(graph: Graph, group: _Group, factors: Array64) -> None:
    data = group.data
    vector = graph.add_constant(f"{data.name}_factors", np.asarray(1 / factors, np.float32))
    product = graph.add_op("Mul", [data, vector], [(f"{data.name}_smooth", data.type)], name=f"{data.name}_Smooth")
    for op in group.products:
        graph.set_input(op, 0, product.output)
