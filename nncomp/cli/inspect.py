"""``nncomp inspect``: what a model holds and costs: interface, ops, parameters, multiply-accumulates, types, bodies.

JSON: ``{model, digest, ir_version, opsets, producer, inputs: [{name, type, default}], outputs: [{name, type}],
facts: (as ``before`` in the report), kinds: [{kind, ops, params, macs}], ops: [{name, kind, depth, outputs: [{name,
type}], params, macs, role}]}``; ``ops`` with ``--ops`` only. Numbers that are not known are null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncomp.cli.options import Debug, Dims, Json, Model, Plugins, dimensions, input_shapes

if TYPE_CHECKING:
    from nncomp.ir import Graph
    from nncomp.ops import OpTable

Every = Annotated[bool, typer.Option("--ops", help="Show every op, bodies indented, not one line a kind.")]
Run = Annotated[bool, typer.Option("--run", help="Run it once on random inputs, for sizes that cannot be inferred.")]


def inspect(
    model: Model,
    *,
    ops: Every = False,
    run: Run = False,
    dim: Dims = None,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a model holds and what one run of it costs."""
    from nncomp.cli.registry import load_verified
    from nncomp.cli.tables import show_json

    registry, graph = load_verified(model, plugin)
    found = _described(graph, registry.ops, dimensions(dim), every=ops, run=run)
    found = {"model": str(model), **found}
    if json:
        show_json(found)
        return
    _show(found)


def _described(graph: Graph, table: OpTable, sizes: dict[str, int], *, every: bool, run: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from nncomp.report import model_facts, plain, with_shapes
    from nncomp.runtime import random_feeds
    from nncomp.text import model_digest

    feeds = random_feeds(graph, dims=sizes) if run else None
    shapes = input_shapes(graph, sizes)
    rows = _rows(with_shapes(graph, table, shapes, feeds=feeds), table)
    kinds: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = kinds.setdefault(row["kind"], {"kind": row["kind"], "ops": 0, "params": 0, "macs": 0})
        kind["ops"] += 1
        kind["params"] += row["params"] or 0
        kind["macs"] += row["macs"] or 0
    info = graph.info
    found: dict[str, Any] = {
        "digest": model_digest(graph),
        "ir_version": info.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in info.opsets.items()},
        "producer": f"{info.producer_name} {info.producer_version}".strip(),
        "inputs": [
            {"name": value.name, "type": str(value.type), "default": value.default is not None}
            for value in graph.inputs
        ],
        "outputs": [{"name": value.name, "type": str(value.type)} for value in graph.outputs],
        "facts": asdict(model_facts(graph, table, shapes, feeds=feeds)),
        "kinds": sorted(kinds.values(), key=lambda kind: (-kind["macs"], -kind["ops"], kind["kind"])),
    }
    if every:
        found["ops"] = rows
    shown: dict[str, Any] = plain(found)
    return shown


def _rows(graph: Graph, table: OpTable) -> list[dict[str, Any]]:
    from nncomp.report import kind_name

    depth = {graph: 0}
    rows = []
    for part, op in graph.walk():
        for body in op.bodies.values():
            depth[body] = depth[part] + 1
        cost = table.cost(op, part)
        rows.append(
            {
                "name": op.label,
                "kind": kind_name(op),
                "depth": depth[part],
                "outputs": [{"name": value.name, "type": str(value.type)} for value in op.outputs],
                "params": None if cost is None else cost.params,
                "macs": None if cost is None else cost.macs,
                "role": table.quant(op, part.opsets).role.value,
            }
        )
    return rows


def _show(found: dict[str, Any]) -> None:
    from nncomp.cli.tables import bytes_text, count_text, say, show_table

    facts = found["facts"]
    opsets = ", ".join(f"{domain} {version}" for domain, version in found["opsets"].items())
    by = f", written by {found['producer']}" if found["producer"] else ""
    say(f"{found['model']}: IR {found['ir_version']}, opset {opsets}{by}")
    for side in ("inputs", "outputs"):
        for value in found[side]:
            default = " (has a default)" if value.get("default") else ""
            say(f"  {side[:-1]:6}  {value['name']}: {value['type']}{default}")
    say(
        f"{facts['ops']} ops, {count_text(facts['params'])} parameters, "
        f"{bytes_text(facts['weight_bytes'])} of constants, "
        f"{count_text(facts['macs'])} MACs, {bytes_text(facts['peak_activation_bytes'])} of activations at the peak"
    )
    if facts["unpriced"]:
        say("cost unknown: " + ", ".join(f"{count} x {kind}" for kind, count in facts["unpriced"].items()))
    say()
    if "ops" in found:
        show_table(
            "",
            ("op", "kind", "type", "params", "MACs"),
            [
                (
                    "  " * row["depth"] + row["name"], row["kind"], ", ".join(out["type"] for out in row["outputs"]),
                    _number(row["params"]), _number(row["macs"]),
                )
                for row in found["ops"]
            ],
            right=(3, 4),
        )  # fmt: skip
        return
    show_table(
        "",
        ("kind", "ops", "params", "MACs"),
        [(row["kind"], row["ops"], count_text(row["params"]), count_text(row["macs"])) for row in found["kinds"]],
        right=(1, 2, 3),
    )


def _number(count: int | None) -> str:
    from nncomp.cli.tables import count_text

    return "?" if count is None else count_text(count)
