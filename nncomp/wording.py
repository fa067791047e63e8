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
    while size >= (1023.995 if unit else 1024) and unit < len(_UNITS) - 1:  # what would be written as 1024.00
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"


def count_text(count: int | None) -> str:
    """Return a number: ``1.25 M``; exact below ten thousand."""
    if count is None:
        return "?"
    for size, unit in _COUNTS:
        if count >= size * (1 - 5e-6):  # what would be written as 1000.00 of the unit below
            divisor = 1e3 if unit == "k" else size
            return f"{count / divisor:.2f} {unit}"
    return str(count)


def change_text(
    before: float | None, after: float | None, less: str = "smaller", more: str = "larger", *, times: str = "x"
) -> str:
    """Return how many times less there is, or more: ``3.31x smaller``; "" where that cannot be said.

    Args:
        before, after: Not negative.
        less, more: What it has become.
        times: Sign behind the number.
    """
    if not before or after is None:
        return ""
    if not after:
        return "none left"
    ratio = max(before / after, after / before)
    if ratio < 1.005:
        return "unchanged" if before == after else "nearly unchanged"
    return f"{ratio:.2f}{times} {less if after < before else more}"


def points_text(drop: float) -> str:
    """Return what accuracy has gained, in points: ``-0.54`` for a drop of 0.0054, and ``+0.00`` for none."""
    return f"{round(-100 * drop, 2) + 0.0:+.2f}"


def time_text(microseconds: float) -> str:
    """Return a time: ``1.25 ms``."""
    if microseconds < 999.95:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 999_995 else f"{microseconds / 1e6:.2f} s"


def energy_text(microjoules: float, unit: str = "uJ") -> str:
    """Return an energy with three digits, or all in front of the point: ``2287 uJ``."""
    return f"{microjoules:.0f} {unit}" if microjoules >= 999.5 else f"{microjoules:.3g} {unit}"


def decibel_text(value: float) -> str:
    """Return a ratio in decibels; ``exact`` when nothing differs, ``not comparable`` when nothing can be said."""
    if value == float("inf"):
        return "exact"
    return "not comparable" if value == float("-inf") else f"{value:.1f} dB"
