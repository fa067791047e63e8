"""fold-scales: constants that multiply, divide, are added or subtracted around a linear op go into its weights."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from nncomp import Context, Effect, Graph, Pass, Value
from nncomp.rewrite import Match, OpPattern, Pattern, Rule, any_value, const, matches, op, rule
from nncomp_fusion import gelu, layernorm
from nncomp_fusion.clips import add_clip
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.linear import (
    ANY,
    WITH_BIAS,
    biased_matmul,
    fold_before,
    fold_behind,
    linear,
    per_channel,
    read_linear,
    require_input_channels,
    require_unexpanded,
)
from nncomp_fusion.requirements import Exact, require_float, require_sole_reader

_WHOLES: Final[tuple[tuple[Rule, ...], ...]] = (*gelu.RULES, *layernorm.RULES)


def _scaled(inner: Pattern) -> OpPattern:
    return op("Mul", inner, const("c"), commutative=True, bind="affine")


def _divided(inner: Pattern) -> OpPattern:
    return op("Div", inner, const("c"), bind="affine")


def _shifted(inner: Pattern) -> tuple[OpPattern, ...]:
    return (
        op("Add", inner, const("c"), commutative=True, bind="affine"),
        op("Sub", inner, const("c"), bind="affine"),
        op("Sub", const("c"), inner, bind="affine"),
    )


@rule(
    _scaled(linear(ANY)),
    _divided(linear(ANY)),
    *_shifted(linear(WITH_BIAS)),
    _scaled(biased_matmul()),
    _divided(biased_matmul()),
    *_shifted(biased_matmul()),
)
def fold_scale_into_weights(m: Match) -> Value:
    """(x W + b) k + t = x (k W) + (k b + t).

    y = x W + b is (N, out, ...) or (..., out) for MatMul; k and t are one number, or one an output channel.
    """
    found = read_linear(m)
    affine = m.op("affine")
    for value in (m.op("linear").output, *affine.inputs):
        if value is not None and m.graph.constant(value) is None:
            require_sole_reader(m, value)
    constant = per_channel(m, m.array("c"), found.rank, found.axis, found.out_channels)
    return fold_behind(m, found, *_affine(m, constant))


@rule(
    linear(ANY, _scaled(any_value("x"))),
    linear(ANY, _divided(any_value("x"))),
    *(linear(WITH_BIAS, shifted) for shifted in _shifted(any_value("x"))),
)
def fold_scale_into_next_weights(m: Match) -> Value:
    """(k x + t) W + b = x (k W) + (t W + b).

    x is (N, in, ...) or (..., in) for MatMul; k and t are one number, or one an input channel. Where zeros pad x, and
    through a ConvTranspose, only t = 0.
    """
    found = read_linear(m)
    affine = m.op("affine")
    require_input_channels(m, found)
    require_sole_reader(m, affine.output)
    require_unexpanded(m, found, m.array("c"))
    constant = per_channel(m, m.array("c"), found.rank, found.axis, found.in_channels)
    if any(matches(m.graph, one.pattern, affine, m.ctx) for group in _WHOLES for one in group):
        raise m.reject("it is the last step of a Gelu or LayerNormalization, which runtimes recognize as a whole")
    return fold_before(m, found, *_affine(m, constant))


@rule(op("HardSigmoid", linear(WITH_BIAS)), op("HardSigmoid", biased_matmul()))
def fold_hard_sigmoid_into_weights(m: Match) -> Value:
    """HardSigmoid(x W + b) = Clip(alpha (x W + b) + beta, 0, 1) = Clip(x (alpha W) + (alpha b + beta), 0, 1).

    A Clip is absorbed by the op in front of it, also in integers, which HardSigmoid hardly ever has a kernel for.
    """
    found = read_linear(m)
    require_float(m, m.root.output, "Clip")
    behind = m.root.inputs[0]
    assert behind is not None
    require_sole_reader(m, m.op("linear").output)
    require_sole_reader(m, behind)
    alpha, beta = m.root.attr("alpha", 0.2), m.root.attr("beta", 0.5)
    ones = np.ones(found.out_channels)
    folded = fold_behind(m, found, alpha * ones, beta * ones)
    m.graph.set_type(folded, behind.type)
    return add_clip(m, folded, 0.0, 1.0)


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    fold_scale_into_weights,
    fold_scale_into_next_weights,
    fold_hard_sigmoid_into_weights,
)


class FoldScales(Pass):
    """Fold constants that scale or shift the input or result of a Conv, ConvTranspose, Gemm or MatMul into it."""

    name: ClassVar[str] = "fold-scales"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold Mul, Div, Add and Sub whose other operand is one number, or one a channel."""
        apply_rules(graph, RULES, ctx, self.name)


def _affine(m: Match, constant: Exact) -> tuple[Exact, Exact]:
    """Return (k, t) of Mul, Div, Add or Sub as k x + t."""
    affine = m.op("affine")
    ones, zeros = np.ones_like(constant), np.zeros_like(constant)
    if affine.is_a("Mul"):
        return constant, zeros
    if affine.is_a("Div"):
        if not constant.all():
            raise m.reject("it divides by zero")
        return 1 / constant, zeros
    if affine.is_a("Add"):
        return ones, constant
    return (-ones, constant) if affine.inputs[0] is m["c"] else (ones, -constant)
