"""The ``decompose`` pass: layers become sequences of smaller ones where that saves most and costs least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import field_validator

from nncomp.errors import RecipeError, UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass, told
from nncomp.selectors import select
from nncomp_lowrank.choice import FORMS
from nncomp_lowrank.forms import Form
from nncomp_lowrank.layers import Layer, find_layers
from nncomp_lowrank.svd import Array

if TYPE_CHECKING:  # listing passes decomposes nothing: what does is imported where it is used
    from nncomp.targets import Capabilities
    from nncomp_lowrank.options import Option
    from nncomp_lowrank.planning import Plan
    from nncomp_lowrank.pricing import Pricer
    from nncomp_lowrank.statistics import Floats
    from nncomp_lowrank.timing import Meter


class Decompose(Pass):
    """Replace layers by sequences of smaller ones: low-rank matrices and tensors that fit the data.

    Each convolution and matrix product with a constant weight is tried in several forms and ranks; what is saved
    against the error of the layer's output decides, over the whole model. The factors minimise the output error on
    calibration inputs as they are behind the layers already replaced, against the outputs of the original (generalized
    low-rank approximation; Zhang et al., "Accelerating very deep convolutional networks for classification and
    detection", TPAMI 2016).
    """

    name: ClassVar[str] = "decompose"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "cleanup", "lift-constants", "fold-constants", "fuse", "fold-batchnorm", "fold-scales", "fold-pad",
    )  # fmt: skip
    because: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"fold-batchnorm": "a scale that is folded later would hide how much each output channel matters"}
    )

    macs: float | None = option(None, help="share of the multiply-accumulates of all layers to keep", gt=0, lt=1)
    params: float | None = option(None, help="share of the weights of all layers to keep", gt=0, lt=1)
    latency: float | None = option(
        None, help="share of the model's latency on the target to keep, by the times of its layers", gt=0, lt=1
    )
    energy: float | None = option(
        None, help="share of the model's energy to keep, on a target that prices it, by that of its layers", gt=0, lt=1
    )
    forms: tuple[str, ...] = option(tuple(FORMS), help="forms to choose from")
    align: int = option(0, help="ranks are multiples of this; 0: of what the target's kernels like", ge=0)
    only_faster: bool = option(
        True, help="decompose a layer only where that is measured to be faster; false gives the same bytes on every run"
    )
    data_aware: bool = option(True, help="fit outputs on calibration data; else weights alone")
    sequential: bool = option(True, help="fit each layer to what those in front of it, replaced already, give")
    samples: int = option(128, help="calibration samples to look at", ge=1)
    positions: int = option(64, help="output positions of each sample that count", ge=1)
    sensitivity: int = option(
        16, help="samples on which to find out how much the model's output minds each layer's error; 0: all alike", ge=0
    )
    sweeps: int = option(2, help="rounds of improvement over the factors of each layer", ge=0)
    skip: tuple[str, ...] = option((), help="ops to leave as they are, by name or label; globs, or re:...")

    @field_validator("forms")
    @classmethod
    def _known(cls, forms: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in forms if name not in FORMS]
        if unknown:
            raise RecipeError(f"decompose.forms: unknown form {unknown[0]!r}", hint=f"forms: {', '.join(FORMS)}")
        return forms

    def objection(self, target: Capabilities | None) -> str:
        """Refuse two budgets."""
        del target
        budgets = [name for name in ("macs", "params", "latency", "energy") if getattr(self, name) is not None]
        return f"{' and '.join(budgets)} are two budgets, give one" if len(budgets) > 1 else ""

    def run(self, graph: Graph, ctx: Context) -> None:
        """Decompose layers of ``graph``.

        Raises:
            RecipeError: two budgets, or an unknown form.
            UnsupportedError: no layer can be decomposed, or not so far as the budget asks (NNC-M052); a latency
                cannot be measured, or energies are not known (NNC-T002).
        """
        from nncomp_lowrank.results import layer_facts, summary
        from nncomp_lowrank.rewriting import FitSettings, Rewriter, can_be_walked

        forms = self._forms()
        skipped = select(graph, self.skip, option="decompose.skip") if self.skip else set()
        layers, unfit = find_layers(graph, ctx.ops, skipped)
        for op, reason in unfit.items():
            ctx.note("declined", self.name, node=op.label, reason=reason)
        if not layers:
            raise _nothing(unfit)
        seen = self._moments(graph, layers, ctx)
        grams = {layer: seen[layer] if layer in seen else _unit(layer) for layer in layers}
        plan, minds = self._planned(graph, list(unfit), forms, grams, ctx)
        for layer, reason in plan.left.items():
            ctx.note("declined", self.name, node=layer.name, reason=reason)
        if not plan.chosen:
            raise _nothing({layer.op: reason for layer, reason in plan.left.items()})
        before = graph.clone()
        settings = FitSettings(self.samples, self.positions, self.sweeps)
        facts = {layer: layer_facts(layer, one, plan, grams[layer]) for layer, one in plan.chosen.items()}
        walked = [layer for layer in layers if layer in seen and can_be_walked(layer)] if self.sequential else []
        errors = Rewriter(graph, ctx, settings, grams).run(walked, plan.chosen)
        for layer, one in plan.chosen.items():
            ctx.note("fired", f"{self.name}: {one.form.name}", node=layer.name)
        ctx.results[self.name] = summary(
            plan,
            facts,
            {layer: (errors[layer], minds[layer]) for layer in plan.chosen},
            unfit,
            self._end_to_end(before, graph, ctx),
        )

    def _moments(self, graph: Graph, layers: Sequence[Layer], ctx: Context) -> dict[Layer, Array]:
        from nncomp_lowrank.statistics import input_moments

        if not self.data_aware:
            return {}
        return input_moments(graph, layers, ctx, samples=self.samples, positions=self.positions)

    def _planned(
        self,
        graph: Graph,
        unfit: Sequence[Op],
        forms: Sequence[Form],
        grams: Mapping[Layer, Array],
        ctx: Context,
    ) -> tuple[Plan, dict[Layer, float]]:
        from nncomp_lowrank.noise import plan_by_noise
        from nncomp_lowrank.options import options_of
        from nncomp_lowrank.planning import plan_counted, plan_metered
        from nncomp_lowrank.pricing import Pricer, cost_of
        from nncomp_lowrank.statistics import input_shapes, layer_inputs

        layers = list(grams)
        feeds = next(iter(ctx.data), None) if ctx.data is not None else None
        pricer = Pricer(ctx.ops, input_shapes(graph, layers, feeds))
        step = self.align or (ctx.target.channel_alignment if ctx.target is not None else 1)
        cost = "params" if self.params is not None else "macs"
        meter = self._meter(pricer, ctx, layer_inputs(graph, layers, feeds) if self.energy is not None else {})
        budget = meter.network(graph) if self._metered and meter is not None else 0.0
        offered = {}
        for number, layer in enumerate(layers):
            offered[layer] = options_of(layer, forms, grams[layer], pricer, step=step, cost=cost)
            ctx.progress.step("ranks", number + 1, len(layers))
        minds = self._sensitivities(graph, offered, grams, ctx)
        if self._metered:
            assert meter is not None
            return plan_metered(offered, minds, meter, share=self._metered, network=budget), minds
        timed = meter if self.only_faster else None
        if self.macs is None and self.params is None:
            plan = plan_by_noise(offered, timed)
        else:
            share = self.macs if self.macs is not None else self.params or 1.0
            fixed = cost_of(graph, unfit, ctx.ops, feeds, cost=cost)
            plan = plan_counted(offered, minds, pricer, cost=cost, share=share, fixed=fixed, stopwatch=timed)
        if timed is not None:
            plan.network = timed.network(graph)
        return plan, minds

    def _meter(self, pricer: Pricer, ctx: Context, inputs: Mapping[Value, Floats]) -> Meter | None:
        from nncomp_lowrank.timing import EnergyMeter, Stopwatch, no_energies

        if ctx.probe is not None:
            if self.energy is not None:
                return EnergyMeter(ctx.probe, pricer, ctx, inputs=inputs)
            return Stopwatch(ctx.probe, pricer, ctx)
        if self.energy is not None:
            raise no_energies()
        if self.latency is not None:
            raise UnsupportedError("decompose.latency: nothing here can be timed", code="NNC-T002")
        return None

    @property
    def _metered(self) -> float | None:
        """The share of what has to be measured or priced, None where something is counted."""
        return self.latency if self.latency is not None else self.energy

    def _end_to_end(self, before: Graph, after: Graph, ctx: Context) -> float | None:
        """Return the relative squared error of the model's outputs on a few samples, None without data."""
        from nncomp_lowrank.statistics import model_error

        if ctx.data is None:
            return None
        return model_error(before, after, islice(iter(ctx.data), self.sensitivity or 16))

    def _forms(self) -> list[Form]:
        if objection := self.objection(None):
            raise RecipeError(f"decompose: {objection}", code="NNC-R012")
        return [form for name, form in FORMS.items() if name in self.forms]

    def _sensitivities(
        self, graph: Graph, offered: Mapping[Layer, Sequence[Option]], grams: Mapping[Layer, Array], ctx: Context
    ) -> dict[Layer, float]:
        from nncomp_lowrank.statistics import sensitivities

        alike = dict.fromkeys(offered, 1.0)
        if not self.sensitivity or ctx.data is None:
            return alike
        damaged = {}
        for layer, found in offered.items():
            if not found or any(part is not graph for part, _ in layer.sites):
                continue
            one = min(found, key=lambda candidate: abs(candidate.error - 0.05))
            parts = layer.tensor()
            weight = np.stack(
                [
                    one.form.product(one.form.fitted(part, one.ranks, gram, sweeps=0), layer.shape)
                    for part, gram in zip(parts, grams[layer], strict=True)
                ]
            )
            damaged[layer] = weight, one.error
        return alike | sensitivities(graph, list(damaged), damaged, islice(iter(ctx.data), self.sensitivity))


def _unit(layer: Layer) -> Array:
    """Return the moments of inputs of which nothing is known; of matrix products, which may be large, the diagonal."""
    if not layer.kernel:
        return np.ones((layer.groups, layer.view.columns))
    return np.broadcast_to(np.eye(layer.view.columns), (layer.groups, layer.view.columns, layer.view.columns))


def _nothing(left: Mapping[Op, str]) -> UnsupportedError:
    return UnsupportedError("decompose: nothing in this model can be decomposed" + told(left), code="NNC-M052")
