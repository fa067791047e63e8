"""The ``correct-biases`` pass: the mean error that rounding weights brings, out of the biases, with or without data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError, RecipeError, UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.selectors import select
from nncomp.statistics import observe
from nncomp_quant.bias_correction import MeanVector, shift_bias
from nncomp_quant.expectation import expected_means
from nncomp_quant.plan import plan_quantization
from nncomp_quant.quantize import Quantize
from nncomp_quant.weights import WeightQuantizer

Doubles = npt.NDArray[np.float64]


@dataclass
class ChannelMean(MeanVector):
    """Mean of each channel (axis 1), over samples that are finite."""

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor, (N, C, ...)."""
        super().update(array.mean(axis=tuple(range(2, array.ndim)), dtype=np.float64))


class CorrectBiases(Pass):
    """Take out of each bias the mean error that rounding the layer's weights to INT8 will bring in.

    b' = b - (Q(W) - W) E[x], an output channel (Nagel et al., "Data-free quantization through weight equalization and
    bias correction", ICCV 2019, section 4.2; borders of a convolution aside). E[x] is measured on calibration data, or
    follows from BatchNormalization: its outputs have mean beta and variance gamma^2, Relu and Clip cut a normal
    distribution of these (their appendix C), sums add means and variances. Without data it must stand before ``fuse``,
    where BatchNormalization is still there; per-channel codes are the same before and after folding.
    """

    name: ClassVar[str] = "correct-biases"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = ("equalize", "smooth", "decompose", "prune-structured", "sparsify")
    because: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("equalize", "smooth", "decompose", "prune-structured", "sparsify"), "it changes weights")
    )

    source: Literal["auto", "data", "batchnorm"] = option(
        "auto", help="where means come from: calibration data, BatchNormalization, or data if there are any"
    )
    samples: int = option(16, help="calibration samples to take means over", ge=1)
    skip: tuple[str, ...] = option((), help="layers to leave alone, by name or label; globs, or re:...")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Correct the biases of all layers that ``quantize`` would give calibrated scales.

        Raises:
            UnsupportedError: the target has no integer kernels (NNC-T002).
            RecipeError: ``quantize`` behind it corrects biases, too (NNC-R012).
            DataError: means are to come from data, and there is none (NNC-D006).
        """
        if ctx.target is None or ctx.target.int8 is None:
            raise UnsupportedError("correct-biases: the target has no integer kernels", code="NNC-T002")
        if any(isinstance(step, Quantize) and step.bias_samples for step in ctx.following):
            raise RecipeError(
                "correct-biases: quantize behind it corrects biases, too: each mean would be taken out twice",
                code="NNC-R012",
                hint="quantize{bias_samples=0}, or leave out correct-biases",
            )
        int8 = ctx.target.int8
        weights = WeightQuantizer(int8.per_channel_weights, int8.pair_saturation)
        skip = select(graph, self.skip, option="correct-biases.skip") if self.skip else frozenset()
        layers = [op for op in plan_quantization(graph, ctx.ops, int8, skip=skip).static if _has_bias(op, graph, ctx)]
        means = self._means(graph, layers, ctx)
        corrected = 0
        for op in layers:
            mean = means.get(_data(op))
            if mean is None:
                ctx.note("declined", self.name, node=op.label, reason="nothing is known of the mean of what it reads")
            else:
                shift_bias(graph, op, _mean_error(graph, op, mean, weights, ctx), ctx.ops)
                corrected += 1
        ctx.results[self.name] = {"corrected": corrected, "left": len(layers) - corrected}

    def _means(self, graph: Graph, layers: list[Op], ctx: Context) -> dict[Value, Doubles]:
        """Return the mean of each channel of what layers read, as far as it is known."""
        if self.source == "batchnorm" or (self.source == "auto" and ctx.data is None):
            return expected_means(graph, ctx.ops)
        if ctx.data is None:
            raise DataError(
                "correct-biases: means of channels need calibration data",
                code="NNC-D006",
                hint='give --data, or take means from BatchNormalization: correct-biases{source="batchnorm"}',
            )
        read = {value.name: value for value in map(_data, layers)}
        found = observe(graph, ctx, list(read), lambda name: ChannelMean(), samples=self.samples) if read else {}
        return {read[name]: mean.mean() for name, mean in found.items() if mean.finite()}


def _data(op: Op) -> Value:
    value = op.inputs[0]
    assert value is not None
    return value


def _has_bias(op: Op, graph: Graph, ctx: Context) -> bool:
    """True for layers whose bias can be shifted: with a matrix of weights, and one number a channel added."""
    role = ctx.ops.quant(op, graph.opsets)
    rank = len(_data(op).shape or ())
    return role.weight is not None and role.bias is not None and rank >= 2 and ctx.ops.matrix(op, graph) is not None


def _mean_error(graph: Graph, op: Op, mean: Doubles, weights: WeightQuantizer, ctx: Context) -> Doubles:
    """Return (Q(W) - W) E[x], (O,); ``mean`` is E[x] of each channel, (C,)."""
    role, view = ctx.ops.quant(op, graph.opsets), ctx.ops.matrix(op, graph)
    assert role.weight is not None and view is not None
    array = graph.array(op.inputs[role.weight])
    assert array is not None
    change = view.matrix(weights.rounded(op, array, role)) - view.matrix(array)
    columns = np.repeat(mean, view.kernel).reshape(view.groups, view.columns)
    return np.asarray(np.einsum("gok,gk->go", change, columns).reshape(-1))
