"""The answer at a glance: which layer costs most, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from nncomp.report.page import told
from nncomp.report.page.rendering import percent_text
from nncomp.report.page.rows import Row, slowest_first
from nncomp.report.page.told import PricedLayer
from nncomp.wording import bytes_text, count_text

_MEMORY_BOUND: Final = 8.0
"""Multiplications for each byte below which a layer waits for memory rather than for its multipliers."""

_SLOW: Final = 1.8
"""A layer that is so many times slower for each multiplication than the median is slow for its work."""

_IDLE: Final = 0.5

_SLOWER: Final = 0.9
"""A layer at less of the original's speed has become slower, beyond noise."""


@dataclass(frozen=True, slots=True)
class Costly:
    """A layer that costs much, and why, in a sentence."""

    row: Row
    why: str


def costly_layers(rows: Sequence[Row], target_report: Mapping[str, Any], most: int = 3) -> list[Costly]:
    """Return the layers that cost most, the worst first; none when nothing is known of costs."""
    ranked = [row for row in slowest_first(rows) if row.share]
    priced = {one.name: one for one in told.priced(target_report) if one.bound}
    usual = median(speeds) if (speeds := [_speed(row) for row in rows if _speed(row)]) else 0.0
    return [Costly(row, _why(row, rows, usual, priced.get(row.layer["name"]))) for row in ranked[:most]]


def _why(row: Row, rows: Sequence[Row], usual: float, priced: PricedLayer | None) -> str:
    """Return the reason: float first, which can be changed; then what it waits for; then how much it multiplies."""
    layer = row.layer
    macs, moved = layer["macs"] or 0, layer["moved_bytes"]
    parts = []
    if row.speedup is not None and row.speedup < _SLOWER:
        advice = ": leave it out of quantization" if layer["precision"] == "integer" else ""
        parts.append(f"it is slower than the original, at {row.speedup:.2f}x its speed{advice}")
    if layer["cause"] and layer["precision"] == "float" and any(one.layer["precision"] == "integer" for one in rows):
        parts.append(f"it runs in float: {layer['cause']}")
    if priced:
        parts.append(_priced_reason(priced))
    if not macs:
        parts.append(f"it multiplies nothing and moves {bytes_text(moved) if moved else 'data'} through memory")
        return "; ".join(parts)
    total = sum(one.layer["macs"] or 0 for one in rows)
    amount = f"{count_text(macs)} multiplications, {percent_text(macs / total)} of the model's"
    few = macs / moved if moved and macs / moved < _MEMORY_BOUND else None
    speed = _speed(row)
    if speed and usual and speed < usual / _SLOW:
        waits = f", only {few:.1f} for each byte that it moves" if few and not priced else ""
        parts.append(f"it is slow for its work: {amount}{waits}, at {speed / usual:.2f}x the speed of the median layer")
    elif few and row.time_us is not None and not priced:
        parts.append(f"it moves {bytes_text(moved)} for {amount}: memory is the limit")
    else:
        parts.append(f"it has much to do: {amount}")
    return "; ".join(parts)


def _priced_reason(priced: PricedLayer) -> str:
    """Return what a cost model says that a layer waits for, and how much of its multipliers' time is used."""
    reason = "its multipliers are the limit" if priced.bound == "compute" else f"it waits for {priced.bound}"
    factors = priced.utilization
    cause = min(factors, key=lambda name: (factors[name], name), default="")
    if cause and factors[cause] < _IDLE:
        reason += f"; {percent_text(factors[cause])} of its multipliers' time is used ({cause})"
    return reason


def _speed(row: Row) -> float:
    """Return multiplications a microsecond; 0 when unknown."""
    macs = row.layer["macs"]
    return macs / row.time_us if macs and row.time_us else 0.0
