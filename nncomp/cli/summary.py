"""The report and the plan for people: a table before/after, a table of passes, and what is worth a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nncomp.cli.tables import bytes_text, count_text, decibel_text, ratio_text, say, show_table, time_text
from nncomp.compiler import CompilePlan
from nncomp.pipeline import PassRecord
from nncomp.report import Accuracy, ModelFacts, NoteGroup, Report, SearchReport, grouped
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
    for line in (*_accuracy_lines(report), *_target_lines(report)):
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
    before, after, found = report.before, report.after, report.accuracy
    rows: list[tuple[str, str, str, str]] = []

    def row(name: str, old: int | None, new: int | None, text: object = count_text) -> None:
        assert callable(text)
        rows.append((name, text(old), text(new), ratio_text(old, new)))

    if report.before_bytes is not None or report.after_bytes is not None:
        row("size", report.before_bytes, report.after_bytes, bytes_text)
    row("constants", before.weight_bytes, after.weight_bytes, bytes_text)
    row("parameters", before.params, after.params)
    rows.append(
        ("operators", _operators(before), _operators(after), ratio_text(_without_qdq(before), _without_qdq(after)))
    )
    rows.append(("MACs", macs_text(before), macs_text(after), ratio_text(before.macs, after.macs)))
    row("activations, peak", before.peak_activation_bytes, after.peak_activation_bytes, bytes_text)
    if report.latency is not None:
        speed = report.latency
        rows.append(
            (
                "latency",
                time_text(speed.baseline_us),
                time_text(speed.latency_us),
                f"{speed.ratio:.2f}x as fast ({speed.spread[0]:.2f} to {speed.spread[1]:.2f})",
            )
        )
    if found is not None and found.before is not None and found.after is not None:
        change = f"{100 * (found.after - found.before):+.2f} points"
        rows.append(("accuracy", f"{found.before:.2%}", f"{found.after:.2%}", change))
    show_table("", (report.model_name, "before", "after", ""), rows, right=(1, 2))
    say()


def macs_text(facts: ModelFacts) -> str:
    """Return the multiplications; a bound when ops that may multiply have no known cost."""
    if not facts.unpriced:
        return count_text(facts.macs)
    return f">= {count_text(facts.macs)}" if facts.macs else "?"


def _qdq(facts: ModelFacts) -> int:
    return sum(facts.kinds.get(kind, 0) for kind in ("QuantizeLinear", "DequantizeLinear"))


def _without_qdq(facts: ModelFacts) -> int:
    return facts.ops - _qdq(facts)


def _operators(facts: ModelFacts) -> str:
    return f"{_without_qdq(facts)} + {_qdq(facts)} Q/DQ" if _qdq(facts) else str(facts.ops)


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
    rows = [
        (
            "*" if trial.chosen else "",
            len(trial.settings),
            "?" if trial.sqnr_db is None else decibel_text(trial.sqnr_db),
            *([] if trial.drop is None else [f"{-100 * trial.drop:+.2f} points"]),
            *([] if not measured else ["?" if trial.ratio is None else f"{trial.ratio:.2f}x"]),
        )
        for trial in frontier
    ]
    scored = any(trial.drop is not None for trial in frontier)
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


def _accuracy_lines(report: Report) -> list[str]:
    found = report.accuracy
    if found is None:
        return [f"not compared with the original: {report.accuracy_skipped}"]
    lines = [f"against the original on {_samples(found)}: {_closeness(found)}"]
    if len(found.outputs) > 1 and not found.identical:
        lines += [
            f"  {output.name}: {decibel_text(output.sqnr_db)}, cosine {output.cosine:.5f}" for output in found.outputs
        ]
    return lines


def _closeness(found: Accuracy) -> str:
    if found.identical:
        return "bit-identical"
    parts = [f"SQNR {decibel_text(found.sqnr_db)}", f"cosine {found.cosine:.5f}"]
    if found.agreement is not None:
        parts.append(f"same best class in {found.agreement:.2%}")
    return ", ".join(parts)


def _samples(found: Accuracy) -> str:
    if found.source == "random inputs":
        return "random inputs, which says little about real ones"
    return f"{found.runs} runs of {found.source}"


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
