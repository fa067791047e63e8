"""Layers as rows of the page: what each costs beside the others, and what was done to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nncomp.report.page import told

_FLOAT_BITS: Final = 16
"""Weights of so many bits beside activations that are no integers are no integers either."""


@dataclass(frozen=True, slots=True)
class Row:
    """One layer; None stands for what is not known.

    Attributes:
        number: Position in the graph.
        layer: As ``report.json`` has it.
        time_us, baseline_us: Of the result, and of the same in the original.
        share: Of what all layers cost together: time, or multiplications where nothing was timed.
        bar, baseline_bar: Lengths in percent of the longest.
        sqnr_db: From its error; inf when nothing differs.
        error_bar: Length in percent of the largest error's.
        energy_uj: On an accelerator.
        marks: What passes did to it, such as ``rank 32``.
        priced_bits: Of weight and activation, as a cost model counts them; empty where none does.
    """

    number: int
    layer: Mapping[str, Any]
    time_us: float | None
    baseline_us: float | None
    share: float | None
    bar: float
    baseline_bar: float | None
    sqnr_db: float | None
    error_bar: float
    energy_uj: float | None
    marks: tuple[str, ...]
    priced_bits: tuple[int, ...] = ()

    @property
    def speedup(self) -> float | None:
        """Of the layer; None when one of the times is not known."""
        return self.baseline_us / self.time_us if self.baseline_us and self.time_us else None

    @property
    def bits(self) -> str:
        """Bits of weight and activation: ``8 × 8``, ``4 × float``; of both together where nothing is quantized.

        Where a cost model prices a layer, they are what it counts.
        """
        if self.priced_bits:
            return " × ".join(map(str, self.priced_bits))
        weight, activation = self.layer["weight_bits"], self.layer["activation_bits"]
        if weight is None or (activation is None and weight >= _FLOAT_BITS):
            return str(weight or activation or "")
        return f"{weight} × {activation or 'float'}"


def rows_of(report: Mapping[str, Any]) -> list[Row]:
    """Return the layers of a report, in the order of the graph."""
    layers = report["layers"]["items"]
    times = report["measured"]["layers"] or [{"latency_us": None, "baseline_us": None}] * len(layers)
    cost = [one["latency_us"] for one in times]
    if not any(cost):
        cost = [layer["macs"] for layer in layers]
    whole = sum(one or 0 for one in cost) + (report["measured"]["other_kernels_us"] or 0 if any_timed(times) else 0)
    longest = max([one or 0 for one in cost] + [one["baseline_us"] or 0 for one in times], default=0) or 1
    worst = max((layer["error"] or 0 for layer in layers), default=0) or 1
    priced = told.priced(report["target_report"])
    energies = {one.name: sum(one.energy_pj.values()) / 1e6 for one in priced if one.energy_pj}
    bits = {
        one.name: (one.bits["weight"].bits, one.bits["input"].bits)
        for one in priced
        if {"weight", "input"} <= {*one.bits}
    }
    marks = {
        name: (f"rank {' × '.join(map(str, one.ranks))}",) for name, one in told.decomposed(report["results"]).items()
    }
    return [
        Row(
            number=number,
            layer=layer,
            time_us=time["latency_us"],
            baseline_us=time["baseline_us"],
            share=None if mine is None or not whole else mine / whole,
            bar=round(100 * (mine or 0) / longest, 2),
            baseline_bar=None if time["baseline_us"] is None else round(100 * time["baseline_us"] / longest, 2),
            sqnr_db=_decibel(layer["error"]),
            error_bar=round(100 * (layer["error"] or 0) / worst, 2),
            energy_uj=energies.get(layer["name"]),
            marks=marks.get(layer["name"], marks.get(layer["output"], ())),
            priced_bits=bits.get(layer["name"], ()),
        )
        for number, (layer, time, mine) in enumerate(zip(layers, times, cost, strict=True))
    ]


def any_timed(times: Sequence[Mapping[str, Any]]) -> bool:
    """True when the time of any layer is known."""
    return any(one["latency_us"] is not None for one in times)


def slowest_first(rows: Sequence[Row]) -> list[Row]:
    """Return rows, the one that costs most first."""
    return sorted(rows, key=lambda row: (-(row.share or 0.0), row.number))


def _decibel(error: float | None) -> float | None:
    if error is None:
        return None
    return -20 * math.log10(error) if error else math.inf
