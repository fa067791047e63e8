"""Without a budget: each layer keeps the rank that stands out of noise (EVBMF), if that is cheaper and faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nncomp_lowrank.evbmf import evbmf_rank
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.options import Option
from nncomp_lowrank.planning import Plan
from nncomp_lowrank.timing import Meter


def plan_by_noise(options: Mapping[Layer, Sequence[Option]], stopwatch: Meter | None) -> Plan:
    """Choose, for each layer, Tucker-2 or else an SVD of the smallest ranks that EVBMF does not take for noise.

    (Kim et al., "Compression of deep convolutional neural networks for fast and low power mobile applications", ICLR
    2016.) Of several groups the largest rank counts.
    """
    plan = Plan(meter=stopwatch)
    for layer, found in options.items():
        option = _option(layer, found)
        if option is None:
            plan.left[layer] = "no rank below what stands out of noise makes it cheaper"
            continue
        spent = stopwatch.spent(layer, option) if stopwatch is not None else None
        if stopwatch is not None and spent is not None and not spent.better:
            plan.left[layer] = stopwatch.no_better(spent, option)
            continue
        plan.chosen[layer] = option
        if spent is not None:
            plan.spent[layer] = spent
    return plan


def _option(layer: Layer, options: Sequence[Option]) -> Option | None:
    """Return the cheapest option whose ranks are all signal."""
    parts = layer.tensor()
    outputs = max(evbmf_rank(part.reshape(part.shape[0], -1)) for part in parts)
    inputs = max(evbmf_rank(np.moveaxis(part, 1, 0).reshape(part.shape[1], -1)) for part in parts)
    name = "tucker" if math.prod(layer.kernel) > 1 else "svd"
    wanted = (outputs, inputs) if name == "tucker" else (min(outputs, inputs),)
    fitting = [
        one
        for one in options
        if one.form.name == name and all(rank >= least for rank, least in zip(one.ranks, wanted, strict=True))
    ]
    return min(fitting, key=lambda one: one.price.macs, default=None)
