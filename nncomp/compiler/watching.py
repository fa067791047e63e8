"""What a pass that changes numbers does to each value: its error, and how numbers are spread against the chosen range.

Looked at once, on the first sample, right behind the pass, while the graph in front of it is at hand: values with the
same name stand for the same thing in both. What is found lies with the results of the passes, so a compilation that is
resumed finds it there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

import numpy as np

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, TensorType, Value
from nncomp.narrow import widened
from nncomp.passes import Context, Effect, Pass
from nncomp.pipeline import PassRecord
from nncomp.report import Spread, spread_of, stored_weight
from nncomp.runtime import Array, Feeds, RuntimeFailure, Session

SEEN: Final = "seen values"
"""Where among the results of passes it lies; no name of a pass."""

_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ROUNDING_DB: Final = 80.0
"""A pass whose outputs are nearer than that rounds; what is inside may stand for other numbers then (equalization)."""

_AT_A_TIME: Final = 1 << 27  # bytes of values that are held together


class ValueWatch:
    """Looks behind each lossy pass; the last one that did more than rounding is what the report tells of.

    Args:
        ctx: Of the passes.
        feeds: What to run on; without any nothing is looked at.
    """

    name: ClassVar[str] = "values"

    def __init__(self, ctx: Context, feeds: Sequence[Feeds]) -> None:
        self._ctx, self._feeds = ctx, feeds
        self._before: Graph | None = None

    def before_pass(self, step: Pass, graph: Graph) -> None:
        """Keep the graph in front of a lossy pass."""
        self._before = graph if step.effect is Effect.LOSSY and self._feeds else None

    def after_pass(self, step: Pass, graph: Graph, record: PassRecord) -> None:
        """Compare."""
        if self._before is not None and record.changed and not _only_rounds(record):
            self._ctx.results[SEEN] = seen_values(self._before, graph, self._feeds[0], self._ctx, step.name)
        self._before = None


def seen_values(before: Graph, after: Graph, feeds: Feeds, ctx: Context, step: str) -> dict[str, Any]:
    """Return ``{pass, errors, activations, weights, skipped}``: relative errors (L2) and spreads by name of a value.

    Weights are named by the output of their op. ``skipped`` says why nothing could be compared.
    """
    found: dict[str, Any] = {
        "pass": step, "errors": {}, "activations": {}, "weights": dict(_weights(before, after, ctx)), "skipped": "",
    }  # fmt: skip
    try:
        for value, a, b in _pairs(before, after, feeds):
            found["errors"][value.name] = _error(a, b)
            found["activations"][value.name] = _plain(spread_of(a, _covered(after, value)))
    except (RuntimeFailure, UnsupportedError) as error:
        found["skipped"] = error.message
    return found


def _only_rounds(record: PassRecord) -> bool:
    deviation = record.gate.deviation if record.gate is not None else None
    return deviation is not None and deviation.sqnr_db > _ROUNDING_DB


def _pairs(before: Graph, after: Graph, feeds: Feeds) -> Iterator[tuple[Value, Array, Array]]:
    """Yield each value of ``after`` that is in both, what it was and what it is."""
    shared = [
        value
        for op in after.ops()
        if op.kind not in _QUANTIZERS
        for value in op.outputs
        if value.name and before.has_name(value.name) and _comparable(before.find(value.name), value)
    ]
    start = 0
    while start < len(shared):
        stop, held = start, 0
        while stop < len(shared) and (held <= _AT_A_TIME or stop == start):
            type_ = shared[stop].type
            held += (type_.nbytes or 0) if isinstance(type_, TensorType) else 0
            stop += 1
        part = shared[start:stop]
        names = [value.name for value in part]
        old, new = (Session(graph, outputs=names, frugal=True).run(feeds) for graph in (before, after))
        for value in part:
            a, b = (widened(np.asarray(run[value.name])) for run in (old, new))
            if a.shape == b.shape and a.size:
                yield value, a, b
        start = stop


def _comparable(old: Value, new: Value) -> bool:
    types = old.type, new.type
    return (
        old.producer is not None
        and isinstance(types[0], TensorType)
        and isinstance(types[1], TensorType)
        and types[0].dtype.is_floating_point()
        and types[1].dtype.is_floating_point()
    )


def _error(a: Array, b: Array) -> float | None:
    """Return ||a - b|| / ||a||; None where that is no number."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    with np.errstate(all="ignore"):
        power, noise = float(x @ x), float((x - y) @ (x - y))
    if not (math.isfinite(power) and math.isfinite(noise)) or (noise and not power):
        return None
    return math.sqrt(noise / power) if noise else 0.0


def _covered(graph: Graph, value: Value) -> tuple[float, float] | None:
    """Return the range of the quantizer that reads ``value``, None where none does."""
    op = next((user for user in graph.users(value) if user.is_a("QuantizeLinear")), None)
    if op is None:
        return None
    code = op.output.type
    return _range(graph, op.input(1), op.input(2), code.dtype.numpy() if isinstance(code, TensorType) else None)


def _weights(before: Graph, after: Graph, ctx: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield how the weights of ops of ``after`` were spread, where they are stored in integers now."""
    for op in after.ops():
        slot = ctx.ops.quant(op, after.opsets).weight
        value = None if slot is None else op.input(slot)
        scaled = None if value is None else value.producer
        if scaled is None or not scaled.is_a("DequantizeLinear") or not before.has_name(op.output.name):
            continue
        was = before.find(op.output.name).producer
        stored = None if was is None else stored_weight(before, ctx.ops, was)
        codes = after.constant(scaled.input(0))
        if stored is None or codes is None or not stored[0].dtype.is_floating_point():
            continue
        covered = _range(after, scaled.input(1), scaled.input(2), codes.dtype.numpy())
        spread = spread_of(widened(stored[0].numpy()), covered)
        if spread is not None:
            yield op.output.name, asdict(spread)


def _range(
    graph: Graph, scale: Value | None, zero: Value | None, dtype: np.dtype[Any] | None
) -> tuple[float, float] | None:
    """Return the widest range that codes of ``dtype`` cover, over all scales; None when they are no constants."""
    scales, zeros = graph.array(scale), graph.array(zero)
    if zeros is not None:
        dtype = zeros.dtype
    if scales is None or dtype is None or dtype.kind not in "iu" or not scales.size:
        return None
    steps = np.asarray(scales, np.float64)
    offset = np.zeros_like(steps) if zeros is None else np.asarray(zeros, np.float64)
    limits = np.iinfo(dtype)
    low, high = (limits.min - offset) * steps, (limits.max - offset) * steps
    widest = int(np.argmax(high - low))
    return float(low.reshape(-1)[widest]), float(high.reshape(-1)[widest])


def _plain(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else asdict(spread)
