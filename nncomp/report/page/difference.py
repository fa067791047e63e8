"""What the page of a difference says: counts first, then weights by their error, then ops, constants and interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_MOST: Final = 400


def difference_content(before: str, after: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template ``diff.html.j2`` prints.

    Args:
        before, after: What to call the models.
        found: As :meth:`nncomp.diff.GraphDiff.as_dict` gives it, made plain.
    """
    weights = [_weight(one["op"], _stored(one), one) for one in found["weights_changed"]]
    weights += [_weight(one["name"], _changed(one["changes"]), one) for one in found["constants_changed"]]
    weights.sort(key=lambda one: (one["sqnr_db"] is None, one["sqnr_db"] or 0.0, one["name"]))
    worst = max((_noise(one["sqnr_db"]) for one in weights), default=0.0) or 1.0
    return {
        "before": before,
        "after": after,
        "found": found,
        "counts": [
            ("interface and header", len(found["interface"]) + len(found["header"])),
            ("ops added", len(found["ops_added"])),
            ("ops removed", len(found["ops_removed"])),
            ("ops changed", len(found["ops_changed"])),
            ("constants added", len(found["constants_added"])),
            ("constants removed", len(found["constants_removed"])),
            ("weights changed", len(weights)),
        ],
        "weights": [{**one, "bar": round(100 * _noise(one["sqnr_db"]) / worst, 2)} for one in weights[:_MOST]],
        "all_weights": len(weights),
        "ops": [(one["op"], _all_lines(one)) for one in found["ops_changed"][:_MOST]],
        "most": _MOST,
    }


def _weight(name: str, what: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "what": what, "max_difference": one["max_difference"], "sqnr_db": one["sqnr_db"]}


def _stored(one: Mapping[str, Any]) -> str:
    return str(one["before"]) if one["before"] == one["after"] else f"{one['before']} → {one['after']}"


def _changed(changes: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(change["what"]) for change in changes)


def _noise(sqnr_db: float | None) -> float:
    """Return the relative error (L2) for a length."""
    return 0.0 if sqnr_db is None else float(10 ** (-sqnr_db / 20))


def _all_lines(op: Mapping[str, Any], indent: int = 0) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the changes of an op and of ops in its bodies, with how deep they lie."""
    lines: list[tuple[int, Mapping[str, Any]]] = [(indent, change) for change in op["changes"]]
    for name, body in op["bodies"].items():
        lines.append((indent, {"what": f"body {name}", "before": None, "after": None}))
        for part in ("interface", "header"):
            lines += [(indent + 1, change) for change in body[part]]
        lines += [(indent + 1, {"what": "op", "before": line, "after": None}) for line in body["ops_removed"]]
        lines += [(indent + 1, {"what": "op", "before": None, "after": line}) for line in body["ops_added"]]
        for inner in body["ops_changed"]:
            lines.append((indent + 1, {"what": inner["op"], "before": None, "after": None}))
            lines += _all_lines(inner, indent + 2)
    return lines
