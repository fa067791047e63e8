"""The report of a price: what is said of each layer and of the network, as JSON and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from nncomp_sparse.price import LayerPrice, Price
from nncomp_sparse.workload import Unpriced, Workload

_DIGITS: Final = 6


def price_report(price: Price, work: Workload, *, baseline: Price | None = None) -> dict[str, Any]:
    """Return the JSON form.

    ``{hardware: {name, confidence, clock_mhz, multipliers}, cycles, latency_us, energy_uj, energy: relative|absolute,
    energy_uj_by_part, dram_bytes, macs, executed_macs, utilization, unpriced: {macs_share, ops}, layers, dense}``.
    """
    machine = price.machine
    found: dict[str, Any] = {
        "hardware": {
            "name": machine.name,
            "confidence": machine.confidence,
            "clock_mhz": machine.clock_mhz,
            "multipliers": machine.array.macs,
        },
        **_totals(price),
        "energy_is": "absolute" if machine.energy.calibrated else "relative",
        "unpriced": _unpriced(work.unpriced, price.macs),
        "layers": [_layer(layer) for layer in price.layers],
    }
    if baseline is not None:
        found["dense"] = _totals(baseline) | {
            "speedup": _rounded(baseline.cycles / price.cycles) if price.cycles else None,
            "energy_ratio": _rounded(baseline.energy_uj / price.energy_uj) if price.energy_uj else None,
        }
    return found


def _totals(price: Price) -> dict[str, Any]:
    return {
        "cycles": _rounded(price.cycles),
        "latency_us": _rounded(price.latency_us),
        "energy_uj": _rounded(price.energy_uj),
        "energy_uj_by_part": {part: _rounded(value) for part, value in price.energy_uj_by_part.items()},
        "dram_bytes": _rounded(price.dram_bytes),
        "macs": price.macs,
        "executed_macs": _rounded(price.executed),
        "utilization": _rounded(price.utilization),
    }


def _layer(layer: LayerPrice) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "macs": layer.macs,
        "executed_macs": _rounded(layer.executed),
        "cycles": _rounded(layer.cycles),
        "compute_cycles": _rounded(layer.compute_cycles),
        "bound": layer.bound,
        "utilization": {name: _rounded(value) for name, value in layer.utilization.items()},
        "energy_pj": {part: _rounded(value) for part, value in layer.energy_pj.items()},
        "traffic": [
            {key: value if isinstance(value, str) else _rounded(value) for key, value in asdict(one).items()}
            for one in layer.traffic
        ],
        "bits": {tensor: {"bits": bits, "from_model": given} for tensor, (bits, given) in layer.bits.items()},
        "density": {
            tensor: {"share": _rounded(share), "known": known} for tensor, (share, known) in layer.densities.items()
        },
        "mapping": layer.mapping,
        "evaluated": layer.evaluated,
        "proved": layer.proved,
    }


def _unpriced(ops: Sequence[Unpriced], priced: int) -> dict[str, Any]:
    macs = sum(op.macs or 0 for op in ops)
    groups: Counter[tuple[str, str]] = Counter((op.kind, op.reason) for op in ops)
    total = priced + macs
    return {
        "macs_share": _rounded(macs / total) if total else 0.0,
        "unknown": sum(op.macs is None for op in ops),
        "ops": [
            {
                "kind": kind,
                "count": number,
                "reason": reason,
                "macs": sum(op.macs or 0 for op in _of(ops, kind, reason)),
                "elementary": sum(op.elementary or 0 for op in _of(ops, kind, reason)),
                "first": next(op.node for op in _of(ops, kind, reason)),
            }
            for (kind, reason), number in sorted(groups.items())
        ],
    }


def _of(ops: Iterable[Unpriced], kind: str, reason: str) -> list[Unpriced]:
    return [op for op in ops if (op.kind, op.reason) == (kind, reason)]


def _rounded(value: float) -> float:
    """Return a number with six digits: prices are no better known, and files do not depend on the last bit."""
    return float(f"{value:.{_DIGITS}g}")
