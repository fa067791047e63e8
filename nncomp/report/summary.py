"""The gist of a report as text: a table before and after, and how near the outputs are to the original's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from nncomp.report.accuracy import Accuracy
from nncomp.report.facts import ModelFacts
from nncomp.wording import bytes_text, change_text, count_text, decibel_text, points_text, time_text

if TYPE_CHECKING:
    from nncomp.report.report import Report

Line: TypeAlias = tuple[str, str, str, str]

_FEWER: Final = ("fewer", "more")


def before_after(report: Report) -> list[Line]:
    """Return the table: what it is, before, after, and the change."""
    before, after, found = report.before, report.after, report.accuracy
    lines: list[Line] = []

    def line(name: str, old: int | None, new: int | None, text: Callable[[int | None], str], *words: str) -> None:
        lines.append((name, text(old), text(new), change_text(old, new, *words)))

    if report.before_bytes is not None or report.after_bytes is not None:
        line("size", report.before_bytes, report.after_bytes, bytes_text)
    line("constants", before.weight_bytes, after.weight_bytes, bytes_text)
    line("parameters", before.params, after.params, count_text, *_FEWER)
    operators = change_text(_without_qdq(before), _without_qdq(after), *_FEWER)
    lines.append(("operators", _operators(before), _operators(after), operators))
    lines.append(("MACs", macs_text(before), macs_text(after), change_text(before.macs, after.macs, *_FEWER)))
    line("activations, peak", before.peak_activation_bytes, after.peak_activation_bytes, bytes_text)
    if report.latency is not None:
        speed = report.latency
        change = f"{speed.ratio:.2f}x as fast ({speed.spread[0]:.2f} to {speed.spread[1]:.2f})"
        lines.append(("latency", time_text(speed.baseline_us), time_text(speed.latency_us), change))
    if found is not None and found.before is not None and found.after is not None:
        change = f"{points_text(found.before - found.after)} points"
        lines.append(("accuracy", f"{found.before:.2%}", f"{found.after:.2%}", change))
    return lines


def summary(report: Report) -> str:
    """Return the table as aligned text, and the lines that go with it."""
    rows = [(report.model_name, "before", "after", ""), *before_after(report)]
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [f"{name:<{wide[0]}}  {old:>{wide[1]}}  {new:>{wide[2]}}  {last}".rstrip() for name, old, new, last in rows]
    missed = [f"budget missed: {one}" for one in report.missed]
    return "\n".join([*table, *accuracy_lines(report), *missed])


def accuracy_lines(report: Report) -> list[str]:
    """Return how near the outputs are to the original's, in a line or more."""
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
