"""How numbers are written for people: sizes, counts, times and ratios; the same on a terminal and on a page."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_COUNTS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


def bytes_text(count: int | None) -> str:
    """Return a size: ``1.25 MiB``."""
    if count is None:
        return "?"
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"


def count_text(count: int | None) -> str:
    """Return a number: ``1.25 M``; exact below ten thousand."""
    if count is None:
        return "?"
    for size, unit in _COUNTS:
        if count >= size:
            divisor = 1e3 if unit == "k" else size
            return f"{count / divisor:.2f} {unit}"
    return str(count)


def ratio_text(before: float | None, after: float | None) -> str:
    """Return how much of ``before`` is left: ``0.26x``."""
    return f"{after / before:.2f}x" if before and after is not None else ""


def time_text(microseconds: float) -> str:
    """Return a time: ``1.25 ms``."""
    if microseconds < 1e3:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def energy_text(microjoules: float, unit: str = "uJ") -> str:
    """Return an energy with three digits, or all in front of the point: ``2287 uJ``."""
    return f"{microjoules:.0f} {unit}" if microjoules >= 999.5 else f"{microjoules:.3g} {unit}"


def decibel_text(value: float) -> str:
    """Return a ratio in decibels; ``exact`` when nothing differs, ``not comparable`` when nothing can be said."""
    if value == float("inf"):
        return "exact"
    return "not comparable" if value == float("-inf") else f"{value:.1f} dB"
