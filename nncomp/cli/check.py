"""``nncomp check``: what the target refuses, what it runs how, and what stays float, before any work.

JSON: ``{model, target, refused, counts: {level: number}, findings: [{level, node, kind, reason}]}``.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from nncomp.cli.options import Data, Debug, Json, Model, Plugins, TargetName

Every = Annotated[bool, typer.Option("--all", help="Show every node, not one line a kind and reason.")]


def check(
    model: Model,
    *,
    target: TargetName = "ort",
    data: Data = "",
    every: Every = False,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what the target refuses and what stays float."""
    from dataclasses import asdict

    from nncomp import onnx_io
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import say, show_json, show_table
    from nncomp.data import open_data
    from nncomp.errors import UnsupportedError
    from nncomp.infer import infer_types
    from nncomp.passes import Context
    from nncomp.verify import verify

    registry = load_registry(plugin)
    chosen = registry.target(target)
    chosen.require()
    graph = onnx_io.load(model)
    verify(graph)
    infer_types(graph, registry.ops)
    samples = open_data(data, graph, registry_sources=registry.data_sources, allow_code=True) if data else None
    findings = chosen.check(graph, Context(ops=registry.ops, target=chosen.capabilities, data=samples))
    refused = [finding for finding in findings if finding.level == "refused"]
    counts = Counter(finding.level for finding in findings)
    if json:
        show_json(
            {
                "model": str(model),
                "target": target,
                "refused": bool(refused),
                "counts": dict(counts),
                "findings": [asdict(finding) for finding in findings],
            }
        )
        if refused:
            raise typer.Exit(UnsupportedError.exit_status)
        return
    if every:
        rows: list[tuple[str, int, str, str, str]] = [
            (one.level, 1, one.kind, one.node, one.reason) for one in findings
        ]
    else:
        groups = Counter((one.level, one.kind, one.reason) for one in findings)
        first = {(one.level, one.kind, one.reason): one.node for one in reversed(findings)}
        rows = [(level, n, kind, first[level, kind, why], why) for (level, kind, why), n in groups.items()]
    rows.sort(key=_refused_first)
    show_table("", ("level", "ops", "kind", "node" if every else "first", "why"), rows, right=(1,))
    if refused:
        raise UnsupportedError(f"target {target!r} refuses {model.name!r}: {refused[0].reason}")
    say(f"{model.name} runs on {target}: " + ", ".join(f"{number} ops {level}" for level, number in counts.items()))


def _refused_first(row: tuple[str, int, str, str, str]) -> tuple[int, int]:
    return {"refused": 0, "float": 1, "ok": 2}.get(row[0], 3), -row[1]
