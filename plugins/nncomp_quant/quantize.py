"""The ``quantize`` pass: INT8 where the target has kernels for it, with scales from calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from nncomp.errors import RecipeError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, Value
from nncomp.ops import Role
from nncomp.opset import convert_opset
from nncomp.options import option
from nncomp.passes import Context, Effect, told
from nncomp.selectors import select
from nncomp.targets import Capabilities, Int8Form, Int8Support
from nncomp.tuning import TunablePass, Unit
from nncomp_quant.bias_correction import correct_biases
from nncomp_quant.bodies import constants_read, drop_unread, with_bodies
from nncomp_quant.calibration import calibrate, look_at_weights
from nncomp_quant.choices import asked_forms, other_forms, refuse_wide
from nncomp_quant.dynamic import insert_dynamic
from nncomp_quant.insert import Inserter
from nncomp_quant.narrow import Budget, choose_narrow, spending
from nncomp_quant.output_ranges import RangeSearch, shrunk
from nncomp_quant.plan import QuantPlan, plan_quantization
from nncomp_quant.recurrent import insert_recurrent
from nncomp_quant.rounding import round_weights
from nncomp_quant.scales import Method, QuantParams
from nncomp_quant.weights import WeightQuantizer

PER_CHANNEL_OPSET = 13
"""First opset whose DequantizeLinear has an ``axis``."""
WIDE_OPSET = 21
"""First opset whose QuantizeLinear gives 16 bits, and whose DequantizeLinear takes 4."""

_INTEGER_KINDS = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention", "MatMulNBits",
    }
)  # fmt: skip


class Quantize(TunablePass):
    """Insert per-channel INT8 quantization driven by the target's kernels and calibration data.

    Weights are symmetric INT8 with one scale an output channel, activations UINT8 with one scale a tensor, biases INT32
    with scale s_x * s_w. Matrix products that the target runs faster with dynamic activations need no data. Activations
    of 16 bits (opset 21) are for targets that take them; all that an op of ``wide`` reads and writes gets them.
    """

    name: ClassVar[str] = "quantize"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "cleanup", "lift-constants", "fold-constants", "fuse", "fold-batchnorm", "fold-scales", "fold-pad", "decompose",
        "equalize", "smooth", "correct-biases", "prune-structured", "sparsify",
    )  # fmt: skip
    because: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "decompose": "factors are made of float weights",
            "prune-structured": "what is left is refitted in float",
            "sparsify": "what is left is refitted in float",
        }
    )

    method: Method = option(Method.MSE, help="how activation ranges are chosen from calibration data")
    percentile: float = option(99.999, help="for method percentile: how much of the mass is kept", gt=50, le=100)
    per_channel: bool = option(True, help="one weight scale per output channel")
    bias_samples: int = option(
        16, help="calibration samples to correct each bias with for the mean error of its layer; 0 leaves biases", ge=0
    )
    round_samples: int = option(
        0, help="calibration samples to round weights by, up or down; 0 rounds to the nearest", ge=0
    )
    output_samples: int = option(
        16,
        help="calibration samples to measure the model's output on, to narrow ranges that a few values stretch",
        ge=0,
    )
    pair_safe: bool = option(
        True, help="on targets that need it, keep neighbouring weights small enough for CPUs that add pairs in 16 bits"
    )
    skip: tuple[str, ...] = option((), help="ops to leave float, by name or label; globs, or re:...")
    only: tuple[str, ...] = option((), help="quantize these ops alone, named as in skip; all others stay float")
    activation_bits: Literal[8, 16] = option(8, help="bits of activations; 16 where the target takes them")
    wide: tuple[str, ...] = option(
        (), help="ops whose activations get 16 bits, named as in skip; all others as they are"
    )
    weight_bits: Literal[4, 8] = option(8, help="bits of weights; 4 where the target takes them")
    narrow: tuple[str, ...] = option((), help="ops whose weights get 4 bits, named as in skip; all others as they are")
    latency: float | None = option(
        None, help="share of the time to keep, on a target that prices it: weights get 4 bits where it pays", gt=0, lt=1
    )
    energy: float | None = option(None, help="the same for the energy", gt=0, lt=1)
    static: tuple[str, ...] = option((), help="ops whose activations get scales from calibration, named as in skip")
    dynamic: tuple[str, ...] = option((), help="ops whose activations are quantized at run time, named as in skip")
    embeddings: bool = option(True, help="store embedding tables as INT8, one scale a row")

    def objection(self, target: Capabilities | None) -> str:
        """Refuse two budgets, and activations of 16 bits, or weights of 4, on targets that do not take them."""
        if self.latency is not None and self.energy is not None:
            return "latency and energy are two budgets, give one"
        if target is None or target.int8 is None:
            return ""
        if (self.activation_bits == 16 or self.wide) and target.int8.wide is None:
            return "the target takes no activations of 16 bits"
        if self._narrows and DataType.INT4 not in target.int8.narrow_weights:
            return "the target takes no weights of 4 bits"
        return ""

    @property
    def _narrows(self) -> bool:
        return bool(self.weight_bits == 4 or self.narrow or self._budget)

    @property
    def _budget(self) -> Budget | None:
        if self.latency is not None:
            return Budget("latency", self.latency)
        return None if self.energy is None else Budget("energy", self.energy)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Quantize ``graph``.

        Raises:
            UnsupportedError: already quantized (NNC-M050), nothing to quantize (NNC-M052), a weight that is not finite
                (NNC-M053), a target without integer kernels, without the kernel that an option asks for or, where 16
                or 4 bits are asked for, these, or without prices for a budget (NNC-T002).
            RecipeError: an op is to be dynamic, and static or of 16 bits, or there are two budgets (NNC-R012).
            DataError: static quantization without data (NNC-D006).
        """
        int8 = _int8_support(ctx)
        if self.latency is not None and self.energy is not None:
            raise RecipeError("quantize: latency and energy are two budgets, give one", code="NNC-R012")
        if reason := self.objection(ctx.target):
            named = "activation_bits and wide" if "activations" in reason else "weight_bits, narrow, latency and energy"
            raise UnsupportedError(f"quantize: {reason}", code="NNC-T002", hint=f"leave out {named}")
        _refuse_quantized(graph)
        self._lift(graph, ctx)
        plans = self._plans(graph, ctx, int8)
        if all(plan.empty for plan in plans.values()):
            raise _nothing_to_do(plans)
        pair_safe = self.pair_safe and int8.pair_saturation
        weights = WeightQuantizer(self.per_channel and int8.per_channel_weights, pair_safe)
        if self._narrows:
            weights = replace(weights, narrow=self._narrow(graph, plans[graph], weights, ctx))
        read = constants_read(graph)
        for part, plan in plans.items():
            look_at_weights(part, plan, weights, ctx)
        params, tails = self._calibrated(graph, plans, ctx) if any(plan.static for plan in plans.values()) else ({}, {})
        for plan in plans.values():
            for op, reason in plan.left.items():
                ctx.note("declined", "quantize", node=op.label, reason=reason)
        ctx.results[self.name] = summary = _summary(plans)
        if self._narrows:
            summary["narrow"] = [op.label for op in plans[graph].static if op in weights.narrow]
        search = RangeSearch(graph.clone(), tails, self.output_samples) if self.output_samples else None
        if self.round_samples:
            weights = round_weights(graph, plans[graph], weights, ctx, samples=self.round_samples)
        if self.bias_samples:
            correct_biases(graph, plans, params, weights, ctx, samples=self.bias_samples)
        if search is not None:
            factors = search.factors(graph, plans, params, weights, ctx)
            params |= {value: shrunk(params[value], factor) for value, factor in factors.items()}
            summary["tightened"] = {value.name: round(factor, 4) for value, factor in factors.items()}
        for part, plan in plans.items():
            Inserter(part, ctx.ops, plan, params, weights).run()
            insert_dynamic(part, plan, ctx.scratch, pair_safe=pair_safe)
            insert_recurrent(part, plan, ctx.scratch, pair_safe=pair_safe)
        drop_unread(read)

    def _narrow(self, graph: Graph, plan: QuantPlan, weights: WeightQuantizer, ctx: Context) -> Set[Op]:
        """Return the ops whose weights get four bits: those asked for, and those that a budget needs."""
        weighted = [op for op in plan.static if ctx.ops.quant(op, graph.opsets).weight is not None]
        if self.weight_bits == 4:
            return frozenset(weighted)
        asked = select(graph, self.narrow, option="quantize.narrow") if self.narrow else set()
        budget = self._budget
        if budget is None:
            return frozenset(asked)
        plain = {"latency": None, "energy": None, "bias_samples": 0, "output_samples": 0}
        eight = self.model_copy(update=plain)
        prices = spending(graph, budget, ctx, eight=eight, four=self.model_copy(update={**plain, "weight_bits": 4}))
        others = [op for op in weighted if op not in asked]
        chosen = choose_narrow(graph, others, prices, replace(weights, narrow=frozenset(others)), ctx)
        return chosen | asked

    def _lift(self, graph: Graph, ctx: Context) -> None:
        needed = WIDE_OPSET if self.activation_bits == 16 or self.wide or self._narrows else PER_CHANNEL_OPSET
        version = graph.opsets.get("", needed)
        if version < needed:
            ctx.note("info", "opset", reason=f"lifted from {version} to {needed}")
            convert_opset(graph, needed)
            infer_types(graph, ctx.ops)

    def units(self, graph: Graph, ctx: Context) -> Sequence[Unit]:
        """Return the ops that are quantized and have a say in the error; see :mod:`nncomp.tuning`."""
        int8 = _int8_support(ctx)
        between = self._between(graph, ctx, int8)
        found = []
        for part, plan in self._plans(graph, ctx, int8).items():
            rounded = {op for op in plan.static if ctx.ops.quant(op, graph.opsets).role is not Role.PASSTHROUGH}
            rounded.update(plan.dynamic, plan.recurrent, plan.tables)
            found += [
                Unit(op.label, op.kind, ("int8", *between.get(op, ()), "float")) for op in part.ops() if op in rounded
            ]
        return found

    def tuned(self, settings: Mapping[str, str]) -> Self:
        """Return this pass with the units that are to be float in ``skip``, others in the option of their setting."""
        options = {"float": "skip", "static": "static", "dynamic": "dynamic", "int16": "wide"}
        update: dict[str, tuple[str, ...]] = {}
        for setting, name in options.items():
            given: tuple[str, ...] = getattr(self, name)
            update[name] = (*given, *(one for one, its in settings.items() if its == setting and one not in given))
        return self.model_copy(update=update)

    def alone(self, unit: str) -> Self:
        """Return this pass for one op only."""
        return self.model_copy(update={"only": (unit,)})

    def _between(self, graph: Graph, ctx: Context, int8: Int8Support) -> dict[Op, list[str]]:
        """Return what ops may be besides what they are and float, where the target has it and no option says it."""
        asked, wide = self._forms(graph, int8), self._wide(graph, int8)
        found: dict[Op, list[str]] = {}
        for name in ("dynamic", "static", "int16") if ctx.data is not None else ("dynamic",):
            if name == "int16":
                ops = {op for _, op in graph.walk() if op not in asked} if int8.wide and int8.wide.pays else set()
                plans = self._plans(graph, ctx, int8, wide=ops) if ops else {}
                placed = {op for plan in plans.values() for op in plan.static}
            else:
                forms = other_forms(graph, int8, dynamic=name == "dynamic")
                ops = {op for op in forms if op not in asked}
                plans = self._plans(graph, ctx, int8, forms={**forms, **asked}) if ops else {}
                placed = {op for plan in plans.values() for op in (*plan.static, *plan.dynamic)}
            for op in ops & placed - wide:
                found.setdefault(op, []).append(name)
        return found

    def _forms(self, graph: Graph, int8: Int8Support) -> dict[Op, Int8Form]:
        forms = asked_forms(graph, int8, static=self.static, dynamic=self.dynamic)
        if self.dynamic:
            refuse_wide(forms, self._wide(graph, int8))
        return forms

    def _plans(
        self,
        graph: Graph,
        ctx: Context,
        int8: Int8Support,
        *,
        full: bool = False,
        forms: Mapping[Op, Int8Form] | None = None,
        wide: Set[Op] | None = None,
    ) -> dict[Graph, QuantPlan]:
        """Return what to quantize, by graph and body; with ``full`` whatever ``skip`` and ``only`` say."""
        forms = self._forms(graph, int8) if forms is None else forms
        wide = self._wide(graph, int8) if wide is None else wide
        skip = with_bodies(select(graph, self.skip, option="quantize.skip")) if self.skip and not full else frozenset()
        only = select(graph, self.only, option="quantize.only") if self.only and not full else None
        return {
            part: plan_quantization(
                part, ctx.ops, int8, skip=skip, only=only, wide=wide, forms=forms, embeddings=self.embeddings
            )
            for part in graph.graphs()
        }

    def _wide(self, graph: Graph, int8: Int8Support) -> Set[Op]:
        """Return the ops whose activations get 16 bits."""
        if int8.wide is not None and self.activation_bits == 16:
            return {op for _, op in graph.walk()}
        return with_bodies(select(graph, self.wide, option="quantize.wide")) if self.wide else frozenset()

    def _calibrated(
        self, graph: Graph, plans: dict[Graph, QuantPlan], ctx: Context
    ) -> tuple[dict[Value, QuantParams], dict[Value, float]]:
        """Return what :func:`calibrate` finds."""
        chosen_ops = self.skip or self.only or self.static or self.dynamic or self.wide
        whole = self._watched(graph, ctx) if chosen_ops else plans
        return calibrate(graph, plans, ctx, watched=whole, method=self.method, percentile=self.percentile)

    def _watched(self, graph: Graph, ctx: Context) -> dict[Graph, QuantPlan]:
        """Return plans by which the same values are watched whatever is left out: one observation serves all choices.

        Those of ops that can be static count where some are to be.
        """
        int8 = _int8_support(ctx)
        forms = other_forms(graph, int8, dynamic=False) if self.static or self.wide else {}
        return self._plans(graph, ctx, int8, full=True, forms=forms)


def _int8_support(ctx: Context) -> Int8Support:
    if ctx.target is None or ctx.target.int8 is None:
        raise UnsupportedError(
            "quantize: the target has no integer kernels", code="NNC-T002", hint="compile for one that has: -t ort"
        )
    return ctx.target.int8


def _refuse_quantized(graph: Graph) -> None:
    found = [op for _, op in graph.walk() if op.kind in _INTEGER_KINDS or op.kind.startswith("QLinear")]
    if found:
        raise UnsupportedError(
            f"the model is already quantized: {len(found)} integer nodes, the first is {found[0].label!r}",
            code="NNC-M050",
            hint="start from the float model",
        )


def _nothing_to_do(plans: Mapping[Graph, QuantPlan]) -> UnsupportedError:
    return UnsupportedError("quantize: nothing in this model can be quantized" + told(_left(plans)), code="NNC-M052")


def _left(plans: Mapping[Graph, QuantPlan]) -> dict[Op, str]:
    return {op: reason for plan in plans.values() for op, reason in plan.left.items()}


def _summary(plans: Mapping[Graph, QuantPlan]) -> dict[str, object]:
    def labels(ops: Callable[[QuantPlan], Iterable[Op]]) -> list[str]:
        return [op.label for plan in plans.values() for op in ops(plan)]

    return {
        "static": labels(lambda plan: plan.static),
        "dynamic": labels(lambda plan: plan.dynamic),
        "recurrent": labels(lambda plan: plan.recurrent),
        "tables": labels(lambda plan: plan.tables),
        "scaled_values": sum(len(plan.scaled) for plan in plans.values()),
        "tightened": {},
        "left_float": {op.label: reason for op, reason in _left(plans).items()},
    }
