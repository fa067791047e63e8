"""What the page of several results says: a table, accuracy against speed, and the layers that differ most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nncomp.report.comparing import Result, layer_times
from nncomp.report.page.plots import plot
from nncomp.report.page.rendering import duration_text, percent_text
from nncomp.wording import bytes_text, count_text, energy_text

_MOST_LAYERS: Final = 40
_TIMES: Final = ("Latency", "As fast as the original")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: what it is, its text for each result, and which of them are best."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


def comparison_content(results: Sequence[Result], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the template ``comparison.html.j2`` prints."""
    layers = layer_times(reports)
    longest = max((time for _, times in layers for time in times if time is not None), default=0.0) or 1.0
    shown = [
        {
            "name": name,
            "times": [None if time is None else {"us": time, "bar": round(100 * time / longest, 2)} for time in times],
        }
        for name, times in layers[:_MOST_LAYERS]
    ]
    return {
        "results": results,
        "lines": [line for line in _lines(results) if any(cell not in ("", "–") for cell in line.cells)],
        "same": len({result.digest for result in results}) == 1,
        "chart": _chart(results),
        "layers": shown,
        "all_layers": len(layers),
    }


def _lines(results: Sequence[Result]) -> list[Line]:
    def line(name: str, value: Callable[[Result], Any], text: Callable[[Any], str], best: Any = None) -> Line:
        values = [value(result) for result in results]
        known = [one for one in values if one is not None]
        winner = best(known) if best is not None and len(set(known)) > 1 else None
        if name in _TIMES:  # a price and a measurement do not compete
            winner = winner if len({result.priced for result in results}) == 1 else None
        cells = tuple("–" if one is None else text(one) for one in values)
        if name in _TIMES:
            cells = tuple(f"{cell} (priced)" if one.priced else cell for cell, one in zip(cells, results, strict=True))
        chosen = frozenset(number for number, one in enumerate(values) if winner is not None and one == winner)
        return Line(name, cells, chosen)

    return [
        line("Model", lambda one: one.model, str),
        line("Target", lambda one: one.target, str),
        line("Status", lambda one: one.status, str),
        line("Files", lambda one: one.file_bytes, bytes_text, min),
        line("Smaller than the original", lambda one: one.size_ratio, lambda value: f"{value:.2f}×", max),
        line("Parameters", lambda one: one.params, count_text, min),
        line("Multiplications (MACs)", lambda one: one.macs, count_text, min),
        line("Peak of activations", lambda one: one.peak_activation_bytes, bytes_text, min),
        line("Latency", lambda one: one.latency_us, duration_text, min),
        line("As fast as the original", lambda one: one.ratio, lambda value: f"{value:.2f}×", max),
        line("80 % of pairs", lambda one: one.spread, lambda value: f"{value[0]:.2f} to {value[1]:.2f}"),
        line("SQNR", _decibel, lambda value: "exact" if value == float("inf") else f"{value:.1f} dB", max),
        line("Same best class", lambda one: one.agreement, percent_text, max),
        line("Accuracy", lambda one: one.accuracy, lambda value: percent_text(value, 2), max),
        line("In integers", lambda one: one.int8_coverage, lambda value: percent_text(value, 0), max),
        line("Energy of a run", lambda one: one.energy_uj, lambda value: energy_text(value, "µJ"), min),
        line("Layer that takes longest", lambda one: one.slowest or None, str),
        line("Passes", lambda one: one.recipe, " → ".join),
    ]


def _decibel(result: Result) -> float | None:
    return float("inf") if result.identical else result.sqnr_db


def _chart(results: Sequence[Result]) -> dict[str, Any] | None:
    """Return speed and accuracy as points; None when fewer than two results have both."""
    scored = all(result.accuracy is not None for result in results)
    drawn = []
    for number, result in enumerate(results):
        height = 100 * (result.accuracy or 0.0) if scored else result.sqnr_db
        if result.ratio is not None and height is not None:
            drawn.append((result.ratio, height, number))
    if len(drawn) < 2:
        return None
    found = plot([(x, y) for x, y, _ in drawn])
    return {
        "plot": found,
        "up": "accuracy, %" if scored else "SQNR, dB",
        "exact": [result.name for result in results if result.identical] if not scored else [],
        "points": [
            {"x": x, "y": y, "number": number + 1, "name": results[number].name, "left": x > 308}
            for (x, y), (_, _, number) in zip(found.points, drawn, strict=True)
        ],
    }
