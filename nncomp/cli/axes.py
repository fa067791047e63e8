"""``nncomp axes``: which elements of a network can be removed together, which cannot, and why.

JSON: ``{model, params, macs, dimensions: [{name, atoms, params, macs, members: [{tensor, axis, constant}]}], pinned:
[{name, atoms, constants: [tensor], reasons: [{reason, op, kind, place}]}], unknown: [{op, kind}]}``. ``params`` and
``macs`` of a dimension are what removing one of its atoms saves; MACs are counted for inputs of the sizes given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncomp.cli.options import Debug, Dims, Json, Model, Plugins, dimensions, input_shapes

if TYPE_CHECKING:
    from nncomp.axes import AxisAnalysis, PinnedDimension

Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate",
        help="Let normalizations over a free axis through, though removing from it changes their statistics.",
    ),
]


def axes(
    model: Model,
    *,
    approximate: Approximate = False,
    dim: Dims = None,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show which channels, heads and units can be removed together, and what stands against the others."""
    from nncomp.axes import analyse
    from nncomp.cli.registry import load_verified
    from nncomp.cli.tables import show_json
    from nncomp.report import plain

    registry, graph = load_verified(model, plugin)
    shapes = input_shapes(graph, dimensions(dim))
    found = _described(analyse(graph, registry.ops, approximate=approximate, input_shapes=shapes))
    found = {"model": str(model), **found}
    if json:
        show_json(plain(found))
        return
    _show(found)


def _described(analysis: AxisAnalysis) -> dict[str, Any]:
    params, macs = analysis.params(), analysis.macs()
    return {
        "params": params,
        "macs": macs,
        "dimensions": [
            {
                "name": one.name,
                "atoms": len(one),
                "params": params - analysis.params(one.atoms[:1]),
                "macs": macs - analysis.macs(one.atoms[:1]),
                "members": [
                    {
                        "tensor": member.value.name,
                        "axis": member.axis,
                        "constant": any(member is weight for weight in one.constants),
                    }
                    for member in one.members
                ],
            }
            for one in analysis.dimensions
        ],
        "pinned": [_pinned(one) for one in analysis.pinned],
        "unknown": [{"op": op.label, "kind": op.kind} for op in analysis.unknown],
    }


def _pinned(one: PinnedDimension) -> dict[str, Any]:
    return {
        "name": one.name,
        "atoms": one.size,
        "constants": [value.name for value in one.constants],
        "reasons": [
            {
                "reason": why.reason,
                "op": "" if why.op is None else why.op.label,
                "kind": "" if why.op is None else why.op.kind,
                "place": why.place,
            }
            for why in one.reasons
        ],
    }


def _show(found: dict[str, Any]) -> None:
    from nncomp.cli.tables import count_text, say, show_table

    free, pinned = found["dimensions"], found["pinned"]
    say(
        f"{found['model']}: {len(free)} dimensions, {sum(one['atoms'] for one in free)} atoms that can be removed, "
        f"{len(pinned)} dimensions that cannot; {count_text(found['params'])} parameters, "
        f"{count_text(found['macs'])} MACs"
    )
    if found["unknown"]:
        kinds = sorted({one["kind"] for one in found["unknown"]})
        say(f"nothing is known about {', '.join(kinds)}: all that these ops touch stays")
    say()
    if free:
        show_table(
            "can be removed",
            ("dimension", "atoms", "params / atom", "MACs / atom", "weights"),
            [
                (
                    one["name"], one["atoms"], count_text(one["params"]), count_text(one["macs"]), _weights(one),
                )
                for one in free
            ],
            right=(1, 2, 3),
        )  # fmt: skip
    if pinned:
        say()
        show_table(
            "stays",
            ("dimension", "atoms", "why"),
            [(one["name"], one["atoms"], "; ".join(_why(why) for why in one["reasons"])) for one in pinned],
            right=(1,),
        )


def _weights(one: dict[str, Any]) -> str:
    names = [f"{member['tensor']}[{member['axis']}]" for member in one["members"] if member["constant"]]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _why(why: dict[str, str]) -> str:
    at = f" ({why['op']}, {why['kind']}{', ' + why['place'] if why['place'] else ''})" if why["op"] else ""
    return f"{why['reason']}{at or (': ' + why['place'] if why['place'] else '')}"
