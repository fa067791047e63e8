"""What the report says of a decomposition, under ``results.decompose``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncomp.ir import Op
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.options import Option, spectrum
from nncomp_lowrank.planning import Plan
from nncomp_lowrank.svd import Array


def layer_facts(layer: Layer, option: Option, plan: Plan, gram: Array) -> dict[str, Any]:
    """Return what is known of one layer before it is replaced."""
    facts: dict[str, Any] = {
        "form": option.form.name,
        "ranks": list(option.ranks),
        "macs": option.price.macs,
        "params": option.price.params,
        "spectrum": spectrum(layer, gram),
    }
    spent = plan.spent.get(layer)
    if spent is not None and plan.meter is not None:
        facts[f"{plan.meter.budget}_{plan.meter.unit.lower()}"] = [round(spent.dense, 1), round(spent.form, 1)]
    return facts


def summary(
    plan: Plan,
    facts: Mapping[Layer, dict[str, Any]],
    errors: Mapping[Layer, tuple[float, float]],
    unfit: Mapping[Op, str],
    end_to_end: float | None,
) -> dict[str, Any]:
    """Return the whole entry.

    Args:
        plan: What was decided.
        facts: From :func:`layer_facts`.
        errors: Of each layer the relative squared error of its output, and how much the model's output minds it.
        unfit: Why other ops are no layers.
        end_to_end: Relative squared error of the model's outputs.
    """
    by_energy = plan.meter is not None and plan.meter.budget == "energy"
    return {
        "reached": plan.reached,
        "layers": {
            layer.name: {**facts[layer], "error": error, "sensitivity": minds}
            for layer, (error, minds) in errors.items()
        },
        "left": {layer.name: why for layer, why in plan.left.items()} | {op.label: why for op, why in unfit.items()},
        "error_expected": sum(error * minds for error, minds in errors.values()),
        "error_end_to_end": end_to_end,
        "promised_speedup": None if by_energy else plan.promised,
        "promised_energy_ratio": plan.promised if by_energy else None,
    }
