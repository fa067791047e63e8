"""The price as tables for people."""

from __future__ import annotations

from typing import Final

from nncomp.targets import TextTable
from nncomp_sparse.price import LayerPrice, Price
from nncomp_sparse.workload import Workload

_MOST_LAYERS: Final = 200


def price_tables(price: Price, work: Workload, *, baseline: Price | None) -> tuple[TextTable, ...]:
    """Return the network's totals, with the dense baseline beside them if there is one, and the layers."""
    return (_totals(price, work, baseline), _layers(price))


def _totals(price: Price, work: Workload, baseline: Price | None) -> TextTable:
    sides = [price] if baseline is None else [price, baseline]
    lost = sum(op.macs or 0 for op in work.unpriced)
    unknown = sum(op.macs is None for op in work.unpriced)
    rows = [
        ("cycles", *(_number(side.cycles) for side in sides)),
        ("latency", *(f"{side.latency_us / 1e3:.4g} ms" for side in sides)),
        ("energy", *(f"{side.energy_uj:.4g} uJ" for side in sides)),
        *(
            (f"  {part}", *(f"{side.energy_uj_by_part[part]:.4g} uJ" for side in sides))
            for part in price.energy_uj_by_part
        ),
        ("DRAM traffic", *(f"{side.dram_bytes / 1e6:.4g} MB" for side in sides)),
        ("products", *(_number(side.macs) for side in sides)),
        ("  that take time", *(_number(side.executed) for side in sides)),
        ("utilization", *(f"{side.utilization:.1%}" for side in sides)),
        ("products not priced", f"{lost / max(lost + price.macs, 1):.2%}" + (f" and {unknown} ops" * bool(unknown))),
    ]
    width = 1 + len(sides)
    if baseline is not None:
        width += 1
        ratios = {
            "cycles": _ratio(baseline.cycles, price.cycles) + " as fast",
            "energy": _ratio(baseline.energy_uj, price.energy_uj) + " less",
            "DRAM traffic": _ratio(baseline.dram_bytes, price.dram_bytes) + " less",
        }
        rows = [(*row, *[""] * (3 - len(row)), ratios.get(row[0], "")) for row in rows]
    kind = "absolute energy" if price.machine.energy.calibrated else "energy is relative"
    title = f"{price.machine.name}, {price.machine.confidence}, {kind}"
    return TextTable(
        title, ("", "priced", "dense", "")[:width], tuple(tuple(row) for row in rows), (1, 2)[: len(sides)]
    )


def _layers(price: Price) -> TextTable:
    rows = [_row(layer) for layer in price.layers[:_MOST_LAYERS]]
    more = len(price.layers) - len(rows)
    title = "layers" if not more else f"the first {len(rows)} of {len(price.layers)} layers: report.json has all"
    columns = ("layer", "cycles", "bound", "used", "energy uJ", "DRAM kB", "w bits", "w", "x")
    return TextTable(title, columns, tuple(rows), (1, 3, 4, 5, 6, 7, 8))


def _row(layer: LayerPrice) -> tuple[str, ...]:
    used = 1.0
    for factor in layer.utilization.values():
        used *= factor
    return (
        layer.name,
        _number(layer.cycles),
        layer.bound,
        f"{used:.0%}",
        f"{layer.energy / 1e6:.3g}",
        f"{layer.dram_bytes / 1e3:.4g}",
        str(layer.bits["weight"][0]),
        f"{layer.densities['weight'][0]:.0%}",
        f"{layer.densities['input'][0]:.0%}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _ratio(before: float, after: float) -> str:
    return f"{before / after:.2f}x" if after else ""
