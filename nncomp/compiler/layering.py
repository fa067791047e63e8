"""The layers of a result for the report: what the target executes, how long it takes, what was seen of its values."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from nncomp.compiler.planning import Prepared
from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Op
from nncomp.narrow import widened
from nncomp.ops import OpTable
from nncomp.passes import left_float
from nncomp.report import Layer, LayerReport, Spread, find_layers, spread_of, stored_weight
from nncomp.runtime import Feeds, RuntimeFailure
from nncomp.targets import Artifact, Kernel

_SHARE: Final = 8
"""Kernels are timed for one part in so many of the time that the whole model is timed for."""


def layer_report(
    prepared: Prepared, sized: Graph, artifact: Artifact, results: Mapping[str, Any], seen: Mapping[str, Any]
) -> LayerReport:
    """Return what is known of the layers.

    Args:
        prepared: The compilation.
        sized: What the artifact was built from, as :func:`nncomp.report.with_shapes` gives it.
        artifact: Tells its kernels.
        results: What passes left: their ``left_float`` says why ops are float.
        seen: From :func:`nncomp.compiler.watching.seen_values`; empty when no pass changed numbers.
    """
    feeds = prepared.feeds[0] if prepared.feeds else None
    seconds = prepared.request.measure_seconds / _SHARE if prepared.request.measure else 0.0
    skipped = {}
    kernels, unknown = _kernels(prepared, artifact, feeds, seconds)
    if unknown:
        skipped["kernels"] = unknown
    baseline: tuple[Kernel, ...] = ()
    if kernels and seconds and feeds is not None:
        with contextlib.suppress(UnsupportedError, RuntimeFailure):  # the target may not take the original at all
            baseline = artifact.kernels(feeds, graph=prepared.original, seconds=seconds)
    found = find_layers(sized, prepared.registry.ops, kernels, _causes(prepared, results))
    timed = any(kernel.latency_us is not None for kernel in kernels)
    if not seconds:
        skipped["latency"] = "not asked for"
    elif kernels and not timed:
        skipped["latency"] = artifact.unrunnable() or "no kernel was timed"
    if seen.get("skipped") or not seen:
        skipped["error"] = seen.get("skipped") or "no pass changed numbers"
    own = [kernel.latency_us for kernel in kernels if not kernel.outputs and kernel.latency_us is not None]
    return LayerReport(
        layers=tuple(
            _looked_at(layer, main, sized, prepared.registry.ops, seen)
            for layer, main in zip(found.layers, found.mains, strict=True)
        ),
        times=found.times(baseline),
        other_us=sum(own) if timed else None,
        against=str(seen.get("pass", "")),
        skipped=skipped,
    )


def _kernels(
    prepared: Prepared, artifact: Artifact, feeds: Feeds | None, seconds: float
) -> tuple[tuple[Kernel, ...], str]:
    """Return the kernels of the result, or none and why they are not known."""
    if feeds is None:
        return (), prepared.feeds_skipped
    target = f"target {prepared.target.name!r} does not tell"
    try:
        kernels = artifact.kernels(feeds, seconds=seconds)
    except (UnsupportedError, RuntimeFailure) as error:
        return (), error.message
    if not kernels:
        return (), f"{target} its kernels"
    if not any(kernel.outputs for kernel in kernels):
        return (), f"{target} what each of its kernels computes"
    return kernels, ""


def _looked_at(layer: Layer, main: Op, graph: Graph, ops: OpTable, seen: Mapping[str, Any]) -> Layer:
    """Return a layer with its error and with how its numbers are spread."""
    activation = seen.get("activations", {}).get(layer.output)
    weight = seen.get("weights", {}).get(main.output.name) if main.outputs else None
    return replace(
        layer,
        error=seen.get("errors", {}).get(layer.output),
        activation=_spread(activation) if layer.params or (activation and activation["covered"]) else None,
        weight=_spread(weight) or _own_weight(main, graph, ops),
    )


def _own_weight(main: Op, graph: Graph, ops: OpTable) -> Spread | None:
    """Return how a weight that is stored as float is spread."""
    stored = stored_weight(graph, ops, main)
    if stored is None or not stored[0].dtype.is_floating_point():
        return None
    return spread_of(widened(stored[0].numpy()))


def _spread(found: Mapping[str, Any] | None) -> Spread | None:
    if found is None:
        return None
    covered = found["covered"]
    return Spread(
        found["low"],
        found["high"],
        tuple(found["counts"]),
        None if covered is None else tuple(covered),
        found["outside"],
    )


def _causes(prepared: Prepared, results: Mapping[str, Any]) -> dict[str, str]:
    """Return why ops are float, by label and by kind: what passes said, and what the target says of kinds."""
    int8 = prepared.target.capabilities.int8
    causes = dict(int8.float_causes) if int8 is not None else {}
    return causes | left_float(results)
