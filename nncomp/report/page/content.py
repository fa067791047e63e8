"""What the page of one report says: taken from ``report.json``, put into words, and ready to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nncomp.report.form import told_number
from nncomp.report.page import told
from nncomp.report.page.blocks import block_name, blocks, drawing
from nncomp.report.page.charts import histogram, sparkline, stacked
from nncomp.report.page.facts import before_after, figures
from nncomp.report.page.rows import Row, any_timed, rows_of, slowest_first
from nncomp.report.page.trials import trial_chart
from nncomp.report.page.verdict import costly_layers

FEW: Final = 25
"""Rows of the table of layers that are shown at first, with a script that can show the others."""

_MOST_ROWS: Final = 5000
"""Layers that the page shows: with more, a browser takes long, and nobody reads them."""
_MOST_SPREADS: Final = 120
_OPEN_UNTIL: Final = 24
"""A model of so few layers is drawn unfolded."""

_TICKS: Final = 600
_MOST_PRICED: Final = 20


def report_content(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template ``report.html.j2`` prints."""
    rows = rows_of(report)
    shown = slowest_first(rows)[:_MOST_ROWS]
    skipped = report["layers"]["skipped"]
    timed = any_timed(report["measured"]["layers"])
    return {
        "report": report,
        "title": report["model"]["name"] or "model",
        "figures": figures(report),
        "facts": before_after(report),
        "rows": shown,
        "more": len(rows) - len(shown),
        "few": FEW,
        "timed": timed,
        "priced": timed and not (report["measured"]["latency"] or {}).get("pairs", 1),
        "known_errors": any(row.layer["error"] is not None for row in rows),
        "known_energy": any(row.energy_uj is not None for row in rows),
        "compared_times": any(row.baseline_us is not None for row in rows),
        "costly": costly_layers(rows, report["target_report"]),
        "untimed": skipped.get("kernels") or skipped.get("latency") or "not measured",
        "no_errors": skipped.get("error") or "not measured",
        "precisions": Counter(row.layer["precision"] for row in rows),
        "profile": _profile(rows),
        "blocks": _blocks(rows) if len(shown) == len(rows) else [],
        "spreads": _spreads(shown),
        "passes": _passes(report),
        "trials": report["search"] and trial_chart(report["search"]["trials"], drop="max_drop" in report["budget"]),
        "pruned": _pruned(report["results"]),
        "ranks": _ranks(report["results"]),
        "zeros": _zeros(report["results"]),
        "energy": _energy(report["target_report"]),
        "hardware": told.hardware(report["target_report"]),
        "kernels_in_float": told.islands(report["target_report"]),
        "coverage": told_number(report["target_report"], "int8_coverage"),
    }


def _profile(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all layers as columns in the order in which they run; neighbours share one in large models."""
    size = -(-len(rows) // _TICKS) or 1
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    tallest = max((sum(row.share or 0 for row in group) for group in groups), default=0) or 1
    width = 1000 / max(len(groups), 1)
    columns = []
    for number, group in enumerate(groups):
        share = sum(row.share or 0 for row in group)
        height = max(round(96 * share / tallest, 1), 1.5)
        kinds = [row.layer["precision"] for row in group]
        columns.append({
            "x": round(number * width, 2), "height": height, "share": share, "rows": group,
            "precision": "float" if "float" in kinds else max(set(kinds), key=lambda kind: (kinds.count(kind), kind)),
        })  # fmt: skip
    return {"columns": columns, "width": round(max(width * 0.86, 0.6), 2)}


def _blocks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    inputs = [row.layer["inputs"] for row in rows]
    found = []
    for number, members in enumerate(blocks(inputs), 1):
        inside = [rows[member] for member in members]
        islands = [row for row in inside if _is_island(row)]
        found.append({
            "number": number,
            "name": block_name([row.layer["name"] for row in inside]),
            "rows": inside,
            "kinds": Counter(row.layer["kind"] for row in inside).most_common(3),
            "share": sum(row.share or 0 for row in inside),
            "islands": islands,
            "open": bool(islands) or len(rows) <= _OPEN_UNTIL,
            "drawing": drawing(members, inputs),
            "by_layer": {row.number: row for row in inside},
        })  # fmt: skip
    if sum(1 for block in found if block["open"]) > _OPEN_UNTIL:  # float all over: unfolded by hand
        for block in found:
            block["open"] = False
    return found


def _is_island(row: Row) -> bool:
    return row.layer["precision"] == "float" and bool(row.layer["macs"])


def _spreads(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the layers with histograms, the one with the largest error first."""
    found = [row for row in rows if row.layer["weight"] or row.layer["activation"]]
    found.sort(key=lambda row: (-(row.layer["error"] or 0.0), row.number))
    shown: list[dict[str, Any]] = [
        {
            "row": row,
            "parts": [
                (what, row.layer[key], histogram(row.layer[key]))
                for what, key in (("weights", "weight"), ("output", "activation"))
                if row.layer[key]
            ],
        }
        for row in found[:_MOST_SPREADS]
    ]
    covered = any(data["covered"] for one in shown for _, data, _ in one["parts"])
    return {"shown": shown, "all": len(found), "covered": covered}


def _passes(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**step, "cpu_s": times["cpu_s"] + times["check_cpu_s"], "outcome": _outcome(step)}
        for step, times in zip(report["passes"], report["measured"]["passes"], strict=True)
    ]


def _outcome(step: Mapping[str, Any]) -> str:
    gate = step["gate"]
    if step["error"]:
        return f"rolled back: {step['error']}"
    if not step["changed"]:
        return "changed nothing"
    if gate is None or gate["skipped"] or "relative" not in gate:
        return "not checked"
    if gate["identical"]:
        return "bit-identical"
    decibel = "" if gate["sqnr_db"] is None else f"{gate['sqnr_db']:.1f} dB, "
    relative = gate["relative"]
    return f"{decibel}relative error {'not finite' if relative is None else format(relative, '.1e')}"


def _pruned(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return dimensions, those that lost most first."""
    found = [
        {"name": name, "size": one.size, "left": one.left, **_share(one.left / max(one.size, 1))}
        for name, one in told.dimensions(results).items()
    ]
    return sorted(found, key=lambda one: (one["share"], one["name"]))


def _zeros(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return layers that were made sparse."""
    return [{"name": name, **_share(one.share)} for name, one in told.sparse(results).items()]


def _share(share: float) -> dict[str, float]:
    return {"share": share, "bar": round(100 * min(max(share, 0.0), 1.0), 1)}


def _ranks(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return layers that were decomposed."""
    return [
        {
            "name": name,
            "facts": one,
            "line": sparkline(one.spectrum, max(one.ranks, default=0)) if one.spectrum else None,
        }
        for name, one in told.decomposed(results).items()
    ]


def _energy(target_report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the energy of an accelerator, by part and by layer."""
    parts = told.energies(target_report)
    if not parts:
        return None
    layers = [(sum(one.energy_pj.values()), one) for one in told.priced(target_report) if one.energy_pj]
    largest = max((total for total, _ in layers), default=0.0) or 1.0
    ranked = sorted(layers, key=lambda one: -one[0])[:_MOST_PRICED]
    return {
        "parts": stacked(parts),
        "total": sum(parts.values()),
        "relative": target_report.get("energy_is") == "relative",
        "hardware": told.hardware(target_report),
        "layers": [
            {"name": one.name, "total": total / 1e6, "bound": one.bound,
             "parts": stacked({part: one.energy_pj.get(part, 0.0) for part in parts}, largest)}
            for total, one in ranked
        ],
        "count": len(layers),
    }  # fmt: skip
