"""Writing a form into the model in place of a layer, at all of its sites."""

from __future__ import annotations

from collections.abc import Sequence

from nncomp_lowrank.forms import Form
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.lowering import visible
from nncomp_lowrank.svd import Array


def write_form(layer: Layer, form: Form, factors: Sequence[Sequence[Array]]) -> None:
    """Replace all sites of a layer by a form of it; the factors become constants once.

    Args:
        layer: What is replaced.
        form: How.
        factors: Those of each group.
    """
    name = layer.weight.name or layer.name
    constants = [
        layer.home.add_constant(f"{name}.{suffix}", array) for suffix, array in form.arrays(layer, factors).items()
    ]
    for graph, op in layer.sites:
        form.write(graph, op, layer, [visible(graph, layer.home, constant) for constant in constants])
    layer.home.remove_unused([layer.weight])
