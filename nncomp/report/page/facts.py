"""Before and after: the figures at the top of the page, and the table below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nncomp.report.form import told_number
from nncomp.report.page import told
from nncomp.report.page.rendering import duration_text, gain_text, percent_text
from nncomp.wording import bytes_text, change_text, count_text, energy_text

_LONGEST_REMARK: Final = 72
_QUANTIZERS: Final = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the table: what it is, before, after, and the change in words."""

    name: str
    before: str
    after: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number at the top: the number, what it is, and a remark."""

    value: str
    name: str
    remark: str = ""


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """Return the few numbers that people ask for first."""
    before, after, accuracy = report["before"], report["after"], report["accuracy"]
    latency = report["measured"]["latency"]
    sizes = before["file_bytes"], after["file_bytes"]
    if None in sizes:
        sizes = before["weight_bytes"], after["weight_bytes"]
    found = [_shrunk(sizes[0], sizes[1], "smaller", "larger", f"{bytes_text(sizes[0])} → {bytes_text(sizes[1])}")]
    if latency:
        spread = latency["spread"]
        remark = f"{duration_text(latency['baseline_us'])} → {duration_text(latency['latency_us'])}"
        if latency["pairs"]:
            remark += f", 80 % of pairs {spread[0]:.2f} to {spread[1]:.2f}"
        found.append(Figure(f"{latency['ratio']:.2f}×", "as fast", remark))
    else:
        found.append(Figure("–", "as fast", _short(f"not measured: {report['measured']['latency_skipped']}")))
    found.append(_closeness(accuracy))
    target = report["target_report"]
    coverage, energy = told_number(target, "int8_coverage"), told_number(target, "energy_uj")
    if coverage is not None and target.get("integer_kernels"):
        islands = len(told.islands(target))
        remark = (
            f"{islands} float kernel{'s multiply' if islands > 1 else ' multiplies'}"
            if islands
            else "every kernel that multiplies"
        )
        found.append(Figure(percent_text(coverage, 0), "in integers", remark))
    elif energy is not None:
        found.append(Figure(energy_text(energy, "µJ"), "a run", "energy of the accelerator"))
    else:
        names = "fewer multiplications", "as many multiplications"
        found.append(_shrunk(before["macs"], after["macs"], *names, macs_remark(report)))
    return found


def macs_remark(report: Mapping[str, Any]) -> str:
    """Return multiplications before and after."""
    return f"{_macs(report['before'])} → {_macs(report['after'])}"


def before_after(report: Mapping[str, Any]) -> list[Fact]:
    """Return the lines of the table."""
    before, after, accuracy = report["before"], report["after"], report["accuracy"]
    latency = report["measured"]["latency"]
    found = []
    if before["file_bytes"] is not None or after["file_bytes"] is not None:
        found.append(_fact("Files", before["file_bytes"], after["file_bytes"], bytes_text))
    found += [
        _fact("Constants", before["weight_bytes"], after["weight_bytes"], bytes_text),
        _fact("Parameters", before["params"], after["params"], count_text),
        Fact("Operators", _operators(before), _operators(after), _fewer(_plain_ops(before), _plain_ops(after))),
        Fact("Multiplications (MACs)", _macs(before), _macs(after), _fewer(before["macs"], after["macs"])),
        _fact("Peak of activations", before["peak_activation_bytes"], after["peak_activation_bytes"], bytes_text),
        _fact("Bytes read and written", before["traffic_bytes"], after["traffic_bytes"], bytes_text),
    ]
    if latency:
        change = f"{latency['ratio']:.2f}× as fast"
        if latency["pairs"]:
            change += f" ({latency['spread'][0]:.2f} to {latency['spread'][1]:.2f}, {latency['pairs']} pairs)"
        found.append(
            Fact("Latency", duration_text(latency["baseline_us"]), duration_text(latency["latency_us"]), change)
        )
    else:
        found.append(Fact("Latency", "–", "–", f"not measured: {report['measured']['latency_skipped']}"))
    if accuracy.get("before") is not None and accuracy.get("after") is not None:
        change = f"{gain_text(accuracy['drop'])} points on {accuracy['labelled']} samples"
        found.append(Fact("Accuracy", percent_text(accuracy["before"], 2), percent_text(accuracy["after"], 2), change))
    return found


def _closeness(accuracy: Mapping[str, Any]) -> Figure:
    """Return how near the outputs are to the original's."""
    if "skipped" in accuracy:
        return Figure("–", "SQNR", _short(f"not compared: {accuracy['skipped']}"))
    samples = f"{accuracy['runs']} runs of {accuracy['source']}"
    if accuracy["drop"] is not None:
        return Figure(gain_text(accuracy["drop"]), "points of accuracy", f"{accuracy['labelled']} labelled samples")
    if accuracy["identical"]:
        return Figure("exact", "outputs", samples)
    if accuracy["sqnr_db"] is None:
        return Figure("–", "SQNR", f"outputs cannot be compared; {samples}")
    return Figure(f"{accuracy['sqnr_db']:.1f} dB", "SQNR", samples)


def _short(text: str) -> str:
    """Return the beginning of a remark; all of it stands further down."""
    return text if len(text) <= _LONGEST_REMARK else text[: _LONGEST_REMARK - 1].rstrip() + "…"


def _fact(name: str, before: int | None, after: int | None, text: Any) -> Fact:
    return Fact(name, text(before), text(after), (_fewer if text is count_text else _change)(before, after))


def _shrunk(before: float | None, after: float | None, less: str, more: str, remark: str) -> Figure:
    """Return how many times less there is, or how many times more where it has grown."""
    said = _change(before, after, less, more)
    if "unchanged" in said:
        return Figure("same", less.removeprefix("fewer ").replace("smaller", "size"), remark)
    times, _, name = said.partition(" ")
    return Figure(times, name, remark) if times.endswith("×") else Figure("–", less, remark)


def _fewer(before: float | None, after: float | None) -> str:
    return _change(before, after, "fewer", "more")


def _change(before: float | None, after: float | None, *words: str) -> str:
    return change_text(before, after, *words, times="×")


def _plain_ops(facts: Mapping[str, Any]) -> int:
    return int(facts["ops"] - sum(facts["kinds"].get(kind, 0) for kind in _QUANTIZERS))


def _operators(facts: Mapping[str, Any]) -> str:
    quantizers = facts["ops"] - _plain_ops(facts)
    return f"{_plain_ops(facts)} + {quantizers} Q/DQ" if quantizers else str(facts["ops"])


def _macs(facts: Mapping[str, Any]) -> str:
    if not facts["unpriced"]:
        return count_text(facts["macs"])
    return f"≥ {count_text(facts['macs'])}" if facts["macs"] else "?"
