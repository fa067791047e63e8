"""``nncomp report``: results of compilations side by side, as a table, as JSON, or as a page.

JSON: ``{same_model, results: [...]}``, each as :class:`nncomp.report.comparing.Result` with ``path`` in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncomp.cli.options import Debug, Json

if TYPE_CHECKING:
    from nncomp.report.comparing import Result

Outs = Annotated[
    list[Path],
    typer.Argument(metavar="OUT...", help="Folders that compilations wrote, or report.json files.", show_default=False),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False)
]


def report(outs: Outs, *, html: Html = None, json: Json = False, debug: Debug = False) -> None:
    """Show results of compilations side by side."""
    from dataclasses import asdict

    from nncomp.cli.tables import say, show_json
    from nncomp.onnx_io import write_atomically
    from nncomp.report import plain
    from nncomp.report.comparing import read_report, result_of
    from nncomp.report.page import comparison_page, report_page

    reports = [read_report(path) for path in outs]
    results = [result_of(name, found) for name, found in zip(_names(outs), reports, strict=True)]
    if html is not None:
        page = report_page(reports[0]) if len(reports) == 1 else comparison_page(results, reports)
        write_atomically(html, [page.encode()])
    same = len({result.digest for result in results}) == 1
    if json:
        found = [{"path": str(path), **asdict(result)} for path, result in zip(outs, results, strict=True)]
        show_json(plain({"same_model": same, "results": found}))
        return
    _show(results)
    if not same:
        say("these are results of different models")
    if html is not None:
        say(f"wrote {html}")


def _names(outs: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or all of it where that is not enough to tell them apart."""
    short = [path.resolve().parent.name if path.name.startswith("report") else path.resolve().name for path in outs]
    return short if len(set(short)) == len(short) else [str(path) for path in outs]


def _show(results: Sequence[Result]) -> None:
    from nncomp.cli.tables import bytes_text, count_text, points_text, show_table, time_text
    from nncomp.wording import energy_text

    def text(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    columns: dict[str, list[Any]] = {
        "size": ["" if one.file_bytes is None else bytes_text(one.file_bytes) for one in results],
        "smaller": ["" if one.size_ratio is None else f"{one.size_ratio:.2f}x" for one in results],
        "MACs": [count_text(one.macs) for one in results],
        "latency": ["" if one.latency_us is None else time_text(one.latency_us) for one in results],
        "faster": ["" if one.ratio is None else f"{one.ratio:.2f}x" for one in results],
        "SQNR": [_closeness(one) for one in results],
        "accuracy": [text(one.accuracy, ".2%") for one in results],
        "points": ["" if one.drop is None else points_text(one.drop) for one in results],
        "INT8": [text(one.int8_coverage, ".0%") for one in results],
        "energy": ["" if one.energy_uj is None else energy_text(one.energy_uj) for one in results],
        "": ["" if one.status == "done" else one.status for one in results],
    }
    known = {name: cells for name, cells in columns.items() if any(cells)}
    rows = [(one.name, *(cells[number] for cells in known.values())) for number, one in enumerate(results)]
    show_table("", ("result", *known), rows, right=range(1, len(known) + 1))


def _closeness(result: Result) -> str:
    if result.identical:
        return "exact"
    return "" if result.sqnr_db is None else f"{result.sqnr_db:.1f} dB"
