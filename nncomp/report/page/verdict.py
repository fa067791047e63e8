"""The answer at a glance: which layer costs most, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from nncomp.report.page.rendering import percent_text
from nncomp.report.page.rows import Row, slowest_first
from nncomp.wording import bytes_text, count_text

_MEMORY_BOUND: Final = 8.0
"""Multiplications for each byte below which a layer waits for memory rather than for its multipliers."""

_SLOW: Final = 1.8
_FAST: Final = 1.3


@dataclass(frozen=True, slots=True)
class Costly:
    """A layer that costs much, and why, in a sentence."""

    row: Row
    why: str


def costly_layers(rows: Sequence[Row], target_report: Mapping[str, Any], most: int = 3) -> list[Costly]:
    """Return the layers that cost most, the worst first; none when nothing is known of costs."""
    ranked = [row for row in slowest_first(rows) if row.share]
    bounds = _bounds(target_report)
    usual = median(speeds) if (speeds := [_speed(row) for row in rows if _speed(row)]) else 0.0
    return [Costly(row, _why(row, rows, usual, bounds.get(row.layer["name"], ""))) for row in ranked[:most]]


def _why(row: Row, rows: Sequence[Row], usual: float, bound: str) -> str:
    """Return the reason: float first, which can be changed; then what it waits for; then how much it multiplies."""
    layer = row.layer
    macs = layer["macs"] or 0
    total = sum(one.layer["macs"] or 0 for one in rows) or 1
    parts = []
    if layer["cause"] and layer["precision"] == "float" and any(one.layer["precision"] == "integer" for one in rows):
        parts.append(f"it runs in float: {layer['cause']}")
    if bound:
        parts.append(f"it waits for {bound}" if bound != "compute" else "its multipliers are the limit")
    if not macs:
        moved = f"{bytes_text(layer['moved_bytes'])} through memory" if layer["moved_bytes"] else "data"
        parts.append(f"it multiplies nothing and moves {moved}")
        return "; ".join(parts)
    share = macs / total
    amount = f"{count_text(macs)} multiplications, {percent_text(share)} of the model's"
    intensity = macs / layer["moved_bytes"] if layer["moved_bytes"] else None
    speed = _speed(row)
    if row.time_us is None or bound:
        parts.append(f"it does {amount}")
    elif speed and usual and speed < usual / _SLOW:
        waits = f", only {intensity:.1f} for each byte that it moves" if intensity and intensity < _MEMORY_BOUND else ""
        parts.append(f"it is slow for its work: {amount}{waits}, at {speed / usual:.2f}x the speed of the median layer")
    elif intensity is not None and intensity < _MEMORY_BOUND:
        parts.append(f"it moves {bytes_text(layer['moved_bytes'])} for {amount}: memory is the limit")
    else:
        parts.append(f"it has much to do: {amount}")
    return "; ".join(parts)


def _speed(row: Row) -> float:
    """Return multiplications a microsecond; 0 when unknown."""
    macs = row.layer["macs"]
    return macs / row.time_us if macs and row.time_us else 0.0


def _bounds(target_report: Mapping[str, Any]) -> dict[str, str]:
    priced = target_report.get("layers")
    if not isinstance(priced, list):
        return {}
    return {one["name"]: str(one["bound"]) for one in priced if "bound" in one}
