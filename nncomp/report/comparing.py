"""Several reports side by side: the few numbers by which results are chosen, and layers that differ most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from nncomp.errors import UsageError, Where
from nncomp.ops.components import components
from nncomp.report.form import ReportForm, in_form, told_number
from nncomp.report.report import SCHEMA
from nncomp.validation import refusal

_NAMES: Final = ("report.json", "report.rejected.json")
_LARGEST: Final = 1 << 28
"""Bytes of a report: those of 3,000 layers have under 8 MiB."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result; what is not known is None.

    Attributes:
        name: What to call it.
        model, digest, target, status, recipe: As in its report.
        file_bytes, params, macs, peak_activation_bytes: Of the result.
        size_ratio: Of files, original over result; of constants where no file was written.
        latency_us, ratio, spread: As measured; above 1 is faster than the original.
        sqnr_db, agreement: Of the worst output.
        identical: Whether outputs are, bit for bit.
        accuracy, drop: On labelled samples.
        int8_coverage: Share of kernels that multiply in integers.
        energy_uj: Of a run, on an accelerator.
        slowest: Name of the layer that takes longest.
        priced: Latency is what a cost model computes, not measured.
    """

    name: str
    model: str
    digest: str
    target: str
    status: str
    recipe: tuple[str, ...]
    file_bytes: int | None
    params: int
    macs: int
    peak_activation_bytes: int
    size_ratio: float | None
    latency_us: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    sqnr_db: float | None
    agreement: float | None
    identical: bool | None
    accuracy: float | None
    drop: float | None
    int8_coverage: float | None
    energy_uj: float | None
    slowest: str
    priced: bool = False


def read_report(path: Path) -> dict[str, Any]:
    """Read a report.

    Args:
        path: A result's folder, or the report's file.

    Raises:
        UsageError: there is none, or it is none of ours (NNC-R021).
    """
    where = Where(file=str(path))
    files = [path / name for name in _NAMES] if path.is_dir() else [path]
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        raise UsageError(f"there is no report in {str(path)!r}", where=where, hint="expected a folder with report.json")
    try:
        if file.stat().st_size > _LARGEST:
            raise UsageError(f"report {str(file)!r} is larger than {_LARGEST} bytes", where=where)
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read report {str(file)!r}: {error}", where=where) from None
    if not isinstance(found, dict) or "nncomp" not in found or "schema" not in found:
        raise UsageError(f"{str(file)!r} is no report of nncomp", where=where)
    if found["schema"] != SCHEMA:
        raise UsageError(
            f"report {str(file)!r} has schema {found['schema']!r}, expected {SCHEMA}",
            where=where,
            hint="compile again with this version",
        )
    try:
        return in_form(found)
    except ValidationError as error:
        raise UsageError(f"report {str(file)!r}: {refusal(error, ReportForm).told()}", where=where) from None


def result_of(name: str, report: Mapping[str, Any]) -> Result:
    """Return the numbers of one report."""
    before, after, accuracy = report["before"], report["after"], report["accuracy"]
    latency = report["measured"]["latency"] or {}
    sizes = before["file_bytes"], after["file_bytes"]
    if not all(sizes):
        sizes = before["weight_bytes"], after["weight_bytes"]
    target = report["target_report"]
    return Result(
        name=name,
        model=report["model"]["name"],
        digest=report["model"]["digest"],
        target=report["target"],
        status=report["status"],
        recipe=tuple(report["recipe"]),
        file_bytes=after["file_bytes"],
        params=after["params"],
        macs=after["macs"],
        peak_activation_bytes=after["peak_activation_bytes"],
        size_ratio=sizes[0] / sizes[1] if sizes[0] and sizes[1] else None,
        latency_us=latency.get("latency_us"),
        ratio=latency.get("ratio"),
        spread=tuple(latency["spread"]) if latency else None,
        sqnr_db=accuracy.get("sqnr_db"),
        agreement=accuracy.get("agreement"),
        identical=accuracy.get("identical"),
        accuracy=accuracy.get("after"),
        drop=accuracy.get("drop"),
        int8_coverage=told_number(target, "int8_coverage") if target.get("integer_kernels") else None,
        energy_uj=told_number(target, "energy_uj"),
        slowest=_slowest(report),
        priced=latency.get("pairs") == 0,
    )


def layer_times(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float | None]]]:
    """Return the times of the same work in each report, the one that differs most first.

    Layers of one model are the same work when they have the same main op, or compute the same value: where one result
    has in one layer what another has in two, the two count together. What is timed in one report only is left out.
    """
    timed = [
        (number, report["model"]["digest"], layer, time["latency_us"])
        for number, report in enumerate(reports)
        for layer, time in zip(report["layers"]["items"], report["measured"]["layers"], strict=False)
        if time["latency_us"] is not None
    ]
    names: dict[tuple[str, str, str], int] = {}
    pairs = [
        (names.setdefault((key, digest, layer[key]), place), place)
        for place, (_, digest, layer, _) in enumerate(timed)
        for key in ("name", "output")
    ]
    groups: dict[int, list[int]] = {}
    for place, root in enumerate(components(len(timed), *np.array(pairs, np.int64).reshape(-1, 2).T)):
        groups.setdefault(int(root), []).append(place)
    found: list[tuple[str, list[float | None]]] = []
    for members in groups.values():
        times: list[float | None] = [None] * len(reports)
        for place in members:
            number, _, _, time = timed[place]
            times[number] = (times[number] or 0.0) + time
        if sum(one is not None for one in times) > 1:
            found.append((timed[members[0]][2]["name"], times))

    def difference(work: tuple[str, list[float | None]]) -> float:
        known = [one for one in work[1] if one is not None]
        return max(known) - min(known)

    return sorted(found, key=lambda work: (-difference(work), work[0]))


def _slowest(report: Mapping[str, Any]) -> str:
    times = report["measured"]["layers"]
    known = [(time["latency_us"], -number) for number, time in enumerate(times) if time["latency_us"] is not None]
    return str(report["layers"]["items"][-max(known)[1]]["name"]) if known else ""
