"""Writing the chosen forms into the graph, layer by layer from the inputs on, each fitted to what lies in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nncomp.ir import Graph
from nncomp.ops import layer_bias, set_layer_bias
from nncomp.passes import Context
from nncomp.statistics import LayerWalk, Moments
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.network import output_error
from nncomp_lowrank.options import Option
from nncomp_lowrank.statistics import ridged
from nncomp_lowrank.svd import Array
from nncomp_lowrank.writing import write_form


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How factors are fitted.

    Attributes:
        samples, positions: Of calibration, to look at.
        sweeps: Rounds of improvement.
    """

    samples: int
    positions: int
    sweeps: int


class Rewriter:
    """Replaces layers of a model.

    Args:
        graph: The model, changed.
        ctx: Gives calibration data.
        settings: How to fit.
        grams: Second moments of each layer's inputs in the original.
    """

    def __init__(self, graph: Graph, ctx: Context, settings: FitSettings, grams: Mapping[Layer, Array]) -> None:
        self._graph, self._ctx, self._settings, self._grams = graph, ctx, settings, grams
        self._errors: dict[Layer, float] = {}

    def run(self, walk: Sequence[Layer], chosen: Mapping[Layer, Option]) -> dict[Layer, float]:
        """Write ``chosen``.

        Args:
            walk: Layers with one site in the model's own graph, to be fitted to the inputs that they get by then, those
                that are not chosen as well.
            chosen: Option by layer; layers that are not in ``walk`` are fitted to the original's inputs.

        Returns:
            The relative squared error of each chosen layer's output.
        """
        walked = {layer.op.output.name: layer for layer in walk}
        for layer, option in chosen.items():
            if layer not in walk:
                factors, _ = self._factors(layer, option, layer.tensor(), self._grams[layer])
                write_form(layer, option.form, factors)
        data = self._ctx.data
        if data is None or not any(layer in chosen for layer in walk):
            return self._errors
        original = self._graph.clone()
        stages = LayerWalk.of_pass(
            original,
            self._graph,
            list(walked),
            self._ctx,
            samples=self._settings.samples,
            positions=self._settings.positions,
        )
        touched = False
        for stage in stages:
            for name, moments in stage.items():
                layer = walked[name]
                touched = touched or layer in chosen
                if touched:
                    self._fit(layer, chosen.get(layer), moments, whole=name in stages.aims)
        return self._errors

    def _fit(self, layer: Layer, option: Option | None, moments: Moments, *, whole: bool) -> None:
        """Fit one layer; ``whole`` says that the target holds the bias, wherever it is added."""
        graph, op = layer.sites[0]
        bias = layer_bias(graph, op, layer.view)
        centered = moments.centered() if bias is not None else moments
        count = max(moments.count, 1)
        gram = ridged(centered.xx / count, count)
        weight = layer.tensor().reshape(layer.groups, layer.shape[0], -1)
        missing = centered.yx / count - weight @ (centered.xx / count)
        wanted = weight + np.linalg.solve(gram, missing.swapaxes(1, 2)).swapaxes(1, 2)
        factors, made = self._factors(layer, option, wanted.reshape(layer.groups, *layer.shape), gram)
        if bias is not None:
            means = moments.y / count - np.einsum("gok,gk->go", made, moments.x / count)
            set_layer_bias(graph, bias, means if bias.inside or whole else bias.values + means)
        if option is not None:
            write_form(layer, option.form, factors)
        else:
            fitted = graph.add_constant(f"{layer.weight.name}.fitted", layer.view.restore(made))
            graph.set_input(op, layer.view.weight, fitted)
            graph.remove_unused([layer.weight])

    def _factors(
        self, layer: Layer, option: Option | None, wanted: Array, gram: Array
    ) -> tuple[list[list[Array]], Array]:
        """Return the factors of each group, and the weight (G, O, K) that they make."""
        flat = (layer.groups, layer.shape[0], -1)
        if option is None:
            return [], wanted.reshape(flat)
        factors = [
            option.form.fitted(part, option.ranks, one, sweeps=self._settings.sweeps)
            for part, one in zip(wanted, gram, strict=True)
        ]
        made = np.stack([option.form.product(one, layer.shape) for one in factors]).reshape(flat)
        missed = wanted.reshape(flat) - made
        error = sum(output_error(part, one) for part, one in zip(missed, gram, strict=True))
        whole = sum(output_error(a, one) for a, one in zip(wanted, gram, strict=True))
        self._errors[layer] = error / max(whole, 1e-300)
        return factors, made


def can_be_walked(layer: Layer) -> bool:
    """True for a layer with one site whose outputs in the original can be what it is fitted to.

    They cannot where a bias is part of them that nobody can tell apart: one that is computed, or no vector.
    """
    graph, op = layer.sites[0]
    return len(layer.sites) == 1 and (op.input(2) is None or layer_bias(graph, op, layer.view) is not None)
