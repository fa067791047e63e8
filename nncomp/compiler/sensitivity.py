"""Sensitivity: what each layer costs when it alone is treated, and which ones a recipe had better leave alone.

Noise of layers adds up, nearly: errors of different layers have little to do with each other. So shares of the sum of
all noise say where the loss comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nncomp.cache import Cache
from nncomp.compiler.comparison import Comparison, noise_of
from nncomp.compiler.evaluation import source_of
from nncomp.compiler.metric import Metric
from nncomp.compiler.planning import prepare
from nncomp.compiler.request import CompileRequest
from nncomp.compiler.workbench import Workbench, tunable
from nncomp.errors import UnsupportedError
from nncomp.plugins import Registry
from nncomp.recipe import Recipe
from nncomp.tuning import TunablePass, Unit

SAMPLES: Final = 16
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class LayerError:
    """What one layer costs when it alone is treated.

    Attributes:
        unit: The layer.
        sqnr_db: Of the worst output; inf when nothing differs.
        noise: Power of the error over that of the output: 10^(-SQNR / 10); inf when outputs cannot be compared.
        share: Of the sum of all layers' noise.
        drop: What the task's metric loses; None when there is none.
    """

    unit: Unit
    sqnr_db: float
    noise: float
    share: float = 0.0
    drop: float | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A ranking of layers.

    Attributes:
        model, target: Names.
        step: The pass that treats the layers.
        recipe: That it is part of.
        source: What the samples are.
        runs: How many.
        metric: Of the model before the pass, None when there is none.
        together_db: SQNR when all layers are treated.
        layers: The one that costs most first.
    """

    model: str
    target: str
    step: TunablePass
    recipe: Recipe
    source: str
    runs: int
    metric: float | None
    together_db: float
    layers: tuple[LayerError, ...]

    def fragile(self, share: float = _HALF) -> tuple[str, ...]:
        """Return the fewest layers that make up ``share`` of the noise."""
        names, total = [], 0.0
        for layer in self.layers:
            if total >= share or layer.share == 0.0:
                break
            names.append(layer.unit.name)
            total += layer.share
        return tuple(names)

    def options(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the options of the pass that leave layers alone, as ``[options.PASS]`` of a recipe takes them."""
        untreated = {layer.unit.name: layer.unit.settings[-1] for layer in self.layers}
        tuned = self.step.tuned({name: untreated[name] for name in names})
        before, after = (step.model_dump(mode="json") for step in (self.step, tuned))
        return {key: value for key, value in after.items() if value != before[key]}

    def tuned_recipe(self, names: Sequence[str]) -> Recipe:
        """Return the recipe with those options."""
        given = dict(self.recipe.options)
        given[self.step.name] = {**given.get(self.step.name, {}), **self.options(names)}
        return self.recipe.model_copy(update={"options": given})

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form, with the options that leave ``names`` alone."""
        return {
            "model": self.model,
            "target": self.target,
            "pass": self.step.spec,
            "source": self.source,
            "runs": self.runs,
            "metric": self.metric,
            "together_db": self.together_db,
            "layers": [
                {
                    "name": layer.unit.name,
                    "kind": layer.unit.kind,
                    "sqnr_db": layer.sqnr_db,
                    "share": layer.share,
                    "drop": layer.drop,
                }
                for layer in self.layers
            ],
            "options": {self.step.name: self.options(names)},
        }


def rank_layers(
    request: CompileRequest,
    registry: Registry,
    *,
    step: str = "",
    samples: int = SAMPLES,
    metric: Metric | None = None,
) -> Sensitivity:
    """Rank the layers that a pass treats by the error of the output when each alone is treated.

    Args:
        request: What would be compiled; nothing is written.
        registry: Plugins.
        step: Name of the pass; "" for the last that can be tuned.
        samples: How many evaluation samples to compare on, spread over all; where there are none, calibration samples.
        metric: The task's; default: accuracy, where there are labels.

    Raises:
        UnsupportedError: no pass can be tuned (NNC-T003), or it finds nothing to treat (NNC-M052).
        NncompError: as :func:`nncomp.compiler.compile_model`.
    """
    prepared = prepare(request, registry)
    bench = Workbench.at(prepared, tunable(prepared, step), _cache(request))
    comparison = Comparison(bench, samples, metric)
    units = bench.step.units(bench.base, bench.context())
    if not units:
        raise UnsupportedError(f"{bench.step.name}: nothing in this model can be treated", code="NNC-M052")
    together = comparison.of(bench.step)[0]
    found = []
    for number, unit in enumerate(units):
        request.progress.step("layers", number, len(units))
        sqnr, drop = comparison.of(bench.step.alone(unit.name))
        found.append(LayerError(unit, sqnr, noise_of(sqnr), drop=drop))
    request.progress.step("layers", len(units), len(units))
    return Sensitivity(
        prepared.name,
        prepared.target.name,
        bench.step,
        prepared.recipe,
        source_of(prepared),
        comparison.runs,
        comparison.metric,
        together,
        _ranked(found),
    )


def _ranked(found: Sequence[LayerError]) -> tuple[LayerError, ...]:
    """Give each its share of the noise, and sort."""
    total = sum(layer.noise for layer in found)
    shared = [
        LayerError(layer.unit, layer.sqnr_db, layer.noise, _share(layer.noise, total), layer.drop) for layer in found
    ]
    return tuple(sorted(shared, key=lambda layer: -layer.noise))


def _share(noise: float, total: float) -> float:
    if math.isinf(total):
        return float(math.isinf(noise))
    return noise / total if total else 0.0


def _cache(request: CompileRequest) -> Cache | None:
    return Cache(request.cache) if request.cache is not None else None
