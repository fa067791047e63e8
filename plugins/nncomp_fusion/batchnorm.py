"""fold-batchnorm: BatchNormalization with fixed statistics becomes part of the weights in front of it or behind it."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from nncomp import Context, Effect, Graph, Pass, Value
from nncomp.ops import is_training_batchnorm
from nncomp.rewrite import Match, OpPattern, Pattern, Rule, any_value, op, rule
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.linear import (
    ANY,
    Linear,
    biased_matmul,
    fold_before,
    fold_behind,
    linear,
    read_linear,
    require_input_channels,
)
from nncomp_fusion.requirements import Exact, require_constant, require_sole_reader


def _batchnorm(data: Pattern) -> OpPattern:
    statistics = [any_value(name) for name in ("scale", "shift", "mean", "variance")]
    return op("BatchNormalization", data, *statistics, bind="norm")


@rule(_batchnorm(linear(ANY)), _batchnorm(biased_matmul()))
def fold_batchnorm_into_weights(m: Match) -> Value:
    """S (x W + b - mean) / sqrt(var + eps) + t = x (k W) + (k (b - mean) + t),  k = s / sqrt(var + eps).

    x (N, in, ...), W as the op stores it, b, s, t, mean, var (out,). Conv, ConvTranspose, Gemm; MatMul of rank 2.
    """
    found = read_linear(m)
    _require_channels_second(m, found)
    require_sole_reader(m, m.op("linear").output)
    between = m.op("norm").inputs[0]
    assert between is not None
    require_sole_reader(m, between)
    scale, shift = _affine(m, found.out_channels)
    return fold_behind(m, found, scale, shift)


@rule(linear(ANY, _batchnorm(any_value("x"))))
def fold_batchnorm_into_next_weights(m: Match) -> Value:
    """(k x + t') W + b = x (k W) + (t' W + b),  k = s / sqrt(var + eps),  t' = t - k mean.

    x (N, in, ...), s, t, mean, var (in,). Where zeros pad x, or through a ConvTranspose, only with t' = 0.
    """
    found = read_linear(m)
    _require_channels_second(m, found)
    require_input_channels(m, found)
    require_sole_reader(m, m.op("norm").output)
    scale, shift = _affine(m, found.in_channels)
    return fold_before(m, found, scale, shift)


RULES: Final[tuple[tuple[Rule, ...], ...]] = (fold_batchnorm_into_weights, fold_batchnorm_into_next_weights)


class FoldBatchnorm(Pass):
    """Fold BatchNormalization with fixed statistics into the weights of a Conv, ConvTranspose, Gemm or MatMul."""

    name: ClassVar[str] = "fold-batchnorm"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold wherever statistics and weights are constant and nobody else reads what lies between."""
        apply_rules(graph, RULES, ctx, self.name)


def _affine(m: Match, channels: int) -> tuple[Exact, Exact]:
    """Return (k, t) of the normalization as k x + t, both (channels,)."""
    norm = m.op("norm")
    if is_training_batchnorm(norm):
        raise m.reject("BatchNormalization computes statistics of the batch (training mode)")
    if not norm.attr("spatial", 1):
        raise m.reject("BatchNormalization keeps statistics for each pixel (spatial=0)")
    scale, shift, mean, variance = (
        require_constant(m, m[name], f"BatchNormalization's {name}").astype(np.float64).reshape(-1)
        for name in ("scale", "shift", "mean", "variance")
    )
    if not scale.size == shift.size == mean.size == variance.size == channels:
        raise m.reject(f"BatchNormalization has {scale.size} channels, the weights have {channels}")
    spread = variance + norm.attr("epsilon", 1e-5)
    bad = int(np.count_nonzero(~(spread > 0)))
    if bad:
        raise m.reject(f"variance + epsilon is not positive in {bad} of {channels} channels")
    factor = scale / np.sqrt(spread)
    return factor, shift - factor * mean


def _require_channels_second(m: Match, found: Linear) -> None:
    """Decline where a MatMul's channels, its last axis, are not the second axis, BatchNormalization's."""
    if found.rank is None:
        raise m.reject("MatMul's rank is not known: its channels may not be BatchNormalization's")
    if found.op.is_a("MatMul") and found.rank != 2:
        raise m.reject(f"MatMul has rank {found.rank}: its channels are the last axis, BatchNormalization's the second")
