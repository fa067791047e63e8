"""Writing the chosen forms into the graph, layer by layer from the inputs on, each fitted to what lies in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.statistics import LayerWalk, Moments, Threads
from nncomp_lowrank.biases import bias_of, current, shift
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.network import output_error
from nncomp_lowrank.options import Option
from nncomp_lowrank.pricing import write_form
from nncomp_lowrank.statistics import ridged
from nncomp_lowrank.svd import Array


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How factors are fitted.

    Attributes:
        samples, positions: Of calibration, to look at.
        sweeps: Rounds of improvement.
        sequential: Look at the inputs that replaced layers give.
    """

    samples: int
    positions: int
    sweeps: int
    sequential: bool


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

    def run(self, layers: Sequence[Layer], chosen: Mapping[Layer, Option]) -> dict[Layer, float]:
        """Write ``chosen``; the other ``layers`` are fitted anew to their changed inputs.

        Returns:
            The relative squared error of each chosen layer's output.
        """
        walked = {
            layer.op.output.name: layer
            for layer in layers
            if len(layer.sites) == 1 and layer.sites[0][0] is self._graph
        }
        data = self._ctx.data if self._settings.sequential else None
        for layer in layers:
            if layer in chosen and (data is None or layer.op.output.name not in walked):
                factors, _ = self._factors(layer, chosen[layer], layer.tensor(), self._grams[layer])
                write_form(layer, chosen[layer].form, factors)
        if data is None or not any(layer in chosen for layer in walked.values()):
            return self._errors
        original = self._graph.clone()
        walk = LayerWalk(
            original,
            self._graph,
            list(walked),
            data,
            samples=self._settings.samples,
            ops=self._ctx.ops,
            positions=self._settings.positions,
            executor=Threads(self._ctx.threads),
            progress=self._ctx.progress,
        )
        touched = False
        for stage in walk:
            for name, moments in stage.items():
                layer = walked[name]
                touched = touched or layer in chosen
                if touched:
                    self._fit(layer, chosen.get(layer), moments)
        return self._errors

    def _fit(self, layer: Layer, option: Option | None, moments: Moments) -> None:
        graph, op = layer.sites[0]
        bias = bias_of(graph, op, layer.groups * layer.shape[0])
        centered = moments.centered() if bias is not None else moments
        count = max(moments.count, 1)
        gram = ridged(centered.xx / count, count)
        weight = layer.tensor().reshape(layer.groups, layer.shape[0], -1)
        missing = centered.yx / count - weight @ (centered.xx / count)
        wanted = weight + np.linalg.solve(gram, missing.swapaxes(1, 2)).swapaxes(1, 2)
        factors, made = self._factors(layer, option, wanted.reshape(layer.groups, *layer.shape), gram)
        if bias is not None:
            means = moments.y / count - np.einsum("gok,gk->go", made, moments.x / count)
            shift(graph, bias, means.reshape(-1) - (current(graph, bias) if bias.inside else 0.0))
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
