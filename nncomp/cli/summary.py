"""The report and the plan for people: a table before/after, a table of passes, and what is worth a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nncomp.cli.tables import bytes_text, decibel_text, points_text, say, show_table
from nncomp.compiler import CompilePlan
from nncomp.pipeline import PassRecord
from nncomp.report import ModelFacts, NoteGroup, Report, SearchReport, grouped
from nncomp.report.summary import accuracy_lines, before_after
from nncomp.targets import TextTable

_MAX_ISLANDS: Final = 8
_SHORT_SPEC: Final = 60


def show_report(report: Report, files: Sequence[Path], *, explain: bool, tables: Sequence[TextTable] = ()) -> None:
    """Print what a compilation did."""
    _show_before_after(report)
    _show_passes(report)
    if report.search is not None:
        _show_search(report.search)
    if explain:
        _show_notes(report.passes)
    for shown in tables:
        show_table(shown.title, shown.columns, shown.rows, right=shown.right)
        say()
    for line in (*accuracy_lines(report), *_target_lines(report)):
        say(line)
    if report.resources is not None:
        say(
            f"compiled in {report.resources.cpu_s:.1f} s of CPU, "
            f"{bytes_text(report.resources.peak_memory_bytes)} of memory at the peak"
        )
    for missed in report.missed:
        say(f"budget missed: {missed}")
    if files:
        say("wrote " + ", ".join(str(path) for path in files))


def show_plan(plan: CompilePlan) -> None:
    """Print what would be done."""
    say(f"{plan.model} for target {plan.target}, seed {plan.seed}, gate {'on' if plan.gate else 'off'}")
    say()
    show_table(
        "", ("", "pass, all options", "effect", "plugin"),
        [(number, one.spec, one.effect, one.plugin) for number, one in enumerate(plan.passes, 1)],
        whole=True,
    )  # fmt: skip
    groups = Counter((one.level, one.kind, one.reason) for one in plan.findings)
    say()
    show_table(
        "what the target says of the model as it is",
        ("level", "ops", "kind", "why"),
        [(level, count, kind, why) for (level, kind, why), count in sorted(groups.items(), key=_worst_first)],
        right=(1,),
    )


def _show_before_after(report: Report) -> None:
    show_table("", (report.model_name, "before", "after", ""), before_after(report), right=(1, 2))
    say()


def _is_quantized(facts: ModelFacts) -> bool:
    return any("Quantize" in kind or "QLinear" in kind or "Integer" in kind for kind in facts.kinds)


def _show_passes(report: Report) -> None:
    rows = [
        (
            _short(record.spec), record.effect.value, f"{record.ops_before} -> {record.ops_after}", _outcome(record),
            f"{record.cpu_s + record.check_cpu_s:.2f} s",
        )
        for record in report.passes
    ]  # fmt: skip
    if rows:
        show_table("", ("pass", "effect", "operators", "outcome", "CPU"), rows, right=(4,))
        say()


def _show_search(found: SearchReport) -> None:
    """Print the trials that no other beats, from the fastest on, and what was given back for the budget."""
    measured = any(trial.ratio is not None for trial in found.trials)
    frontier = sorted(
        (trial for trial in found.trials if trial.frontier or trial.chosen),
        key=lambda trial: (-(trial.ratio or 0.0), len(trial.settings)),
    )
    scored = any(trial.drop is not None for trial in frontier)
    rows = [
        (
            "*" if trial.chosen else "",
            len(trial.settings),
            "?" if trial.sqnr_db is None else decibel_text(trial.sqnr_db),
            *([] if not scored else ["?" if trial.drop is None else f"{points_text(trial.drop)} points"]),
            *([] if not measured else ["?" if trial.ratio is None else f"{trial.ratio:.2f}x"]),
        )
        for trial in frontier
    ]
    columns = ("", "given back", "SQNR", *(["accuracy"] if scored else []), *(["speed"] if measured else []))
    show_table(f"{len(found.trials)} trials, those that no other beats", columns, rows, right=(1, 2, 3, 4))
    say()
    chosen = next(trial for trial in found.trials if trial.chosen)
    say(f"search: {found.stopped}; {len(chosen.settings)} of {len(found.candidates)} layers are given back")
    shown = list(chosen.settings.items())[:_MAX_ISLANDS]
    for name, setting in shown:
        say(f"  {setting}: {name}")
    if len(chosen.settings) > len(shown):
        say(f"  and {len(chosen.settings) - len(shown)} more: see report.json")
    say()


def _outcome(record: PassRecord) -> str:
    if record.error:
        return f"rolled back: {record.error}"
    if not record.changed:
        return "changed nothing"
    if record.gate is None:
        return "not checked"
    if record.gate.skipped or record.gate.deviation is None:
        return "not checked: see the warnings"
    deviation = record.gate.deviation
    if deviation.identical:
        return "bit-identical"
    return f"{decibel_text(deviation.sqnr_db)}, relative error {deviation.relative:.1e}"


def _target_lines(report: Report) -> list[str]:
    said = report.target_report
    lines: list[str] = []
    if not _is_quantized(report.after):
        return lines
    if isinstance(said.get("int8_coverage"), float | int):
        lines.append(f"INT8: {said['int8_coverage']:.0%} of the kernels that multiply, as the runtime executes them")
    islands = said.get("float_islands") or []
    lines += [
        f"  float: {island.get('kind', '')} {island.get('node', '')}: {island.get('cause', '')}"
        for island in islands[:_MAX_ISLANDS]
    ]
    if len(islands) > _MAX_ISLANDS:
        lines.append(f"  and {len(islands) - _MAX_ISLANDS} more: see report.json")
    return lines


def _show_notes(records: Sequence[PassRecord]) -> None:
    for record in records:
        groups = [group for group in grouped(record.notes) if group.event != "warning"]
        if not groups:
            continue
        show_table(
            _short(record.spec),
            ("event", "times", "rule", "why, and where"),
            [(group.event, group.count, group.subject, _why(group)) for group in groups],
            right=(1,),
        )
        say()


def _why(group: NoteGroup) -> str:
    more = ", ..." if group.count > len(group.nodes) > 0 else ""
    where = f"at {', '.join(group.nodes)}{more}" if group.nodes else ""
    return "; ".join(part for part in (group.reason, where) if part)


def _short(spec: str) -> str:
    return spec if len(spec) <= _SHORT_SPEC else spec[: _SHORT_SPEC - 3] + "..."


def _worst_first(item: tuple[tuple[str, str, str], int]) -> tuple[int, int]:
    return {"refused": 0, "float": 1, "ok": 2}.get(item[0][0], 3), -item[1]
