"""What each layer could become: every form at every rank worth a look, with its price and its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nncomp_lowrank.forms import Form
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.network import output_error, weighted
from nncomp_lowrank.pricing import Price, Pricer
from nncomp_lowrank.svd import Array


@dataclass(frozen=True, slots=True)
class Option:
    """A form and ranks of one layer.

    Attributes:
        form, ranks: What.
        price: What it costs.
        error: Squared error of the layer's output, relative.
    """

    form: Form
    ranks: tuple[int, ...]
    price: Price
    error: float


def options_of(
    layer: Layer,
    forms: Sequence[Form],
    gram: Array,
    pricer: Pricer,
    *,
    step: int,
    cost: str,
) -> list[Option]:
    """Return the options of a layer that are cheaper than the layer.

    Args:
        layer: The layer.
        forms: Forms to try.
        gram: Second moments of its inputs, (G, K, K), or (G, K) for a diagonal.
        pricer: Knows prices.
        step: Ranks, of all groups together, are multiples of it.
        cost: What must be less: ``macs`` or ``params``.
    """
    parts, dense = layer.tensor(), pricer.dense(layer)
    whole = sum(output_error(part, one) for part, one in zip(parts, gram, strict=True))
    found = []
    for form in forms:
        if not form.fits(layer.kernel, layer.groups):
            continue
        cheaper = [
            (ranks, price)
            for ranks in form.ranks(layer.shape, _step_of_group(step, layer.groups))
            if getattr(price := pricer.form(layer, form, ranks), cost) < getattr(dense, cost)
        ]
        errors = np.zeros(len(cheaper))
        for part, one in zip(parts, gram, strict=True):
            errors += form.errors(part, [ranks for ranks, _ in cheaper], one)
        found += [
            Option(form, ranks, price, float(error) / max(whole, 1e-300))
            for (ranks, price), error in zip(cheaper, errors, strict=True)
        ]
    return found


def spectrum(layer: Layer, gram: Array) -> list[float]:
    """Return the singular values of the layer's output relative to their norm, falling; of groups, the first's."""
    rows = layer.tensor()[0].reshape(layer.shape[0], -1)
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(weighted(rows, gram[0]) @ rows.T)[::-1], 0.0))
    norm = float(np.linalg.norm(values)) or 1.0
    return [float(f"{value / norm:.4g}") for value in values]


def _step_of_group(step: int, groups: int) -> int:
    """Return the step of one group's rank at which the rank of all is a multiple of ``step``."""
    return math.lcm(step, groups) // groups
