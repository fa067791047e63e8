"""Normalizations and softmaxes: statistics over axes, then an affine map. And Dropout, which is only for training."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.accessors import is_training_batchnorm
from nncomp.ops.counting import NORMALIZE_STEPS, RMS_STEPS, SOFTMAX_STEPS, Counted, free, per_input, per_output, size
from nncomp.ops.coupling import stays
from nncomp.ops.inference import embedded, like_input, normalized_with_skip
from nncomp.ops.labels.normalizing import (
    group_normalization,
    layer_normalization,
    microsoft_group_norm,
    over_axes,
    skip_layer_normalization,
    softmax,
)
from nncomp.ops.labels.pointwise import everywhere
from nncomp.ops.labels.spatial import batch_normalization, instance_normalization
from nncomp.ops.roles import ELEMENTWISE, PASSTHROUGH, barrier, sensitive
from nncomp.ops.semantics import OpSemantics, QuantRole, Scaling, rows

AFFINE_STEPS = 2
"""Scalar operations an element of a BatchNormalization with fixed statistics: one product, one sum."""

_STATISTICS = sensitive("computes a mean and a deviation, which 8 bits do not hold")
_SKIP = sensitive("computes a mean and a deviation, which 8 bits do not hold", data=(0, 1))
_SOFTMAX = sensitive("exponentials magnify rounding errors, and small probabilities vanish")
_LOSS = sensitive("a loss is for training", data=(0, 1))


def _batchnorm_role(op: Op) -> QuantRole:
    """Treat it as an affine map for each channel, unless it computes (and updates) statistics."""
    return barrier("computes statistics in training mode") if is_training_batchnorm(op) else ELEMENTWISE


def _dropout_role(op: Op) -> QuantRole:
    """Treat it as Identity, unless ``training_mode`` is given and not the constant false."""
    training = op.input(2)
    if training is None or (training.const is not None and not training.const.numpy().any()):
        return PASSTHROUGH
    return barrier("drops values in training mode")


def _lrn(op: Op) -> Counted:
    """Count a square and a sum over ``size`` channels at each element, and a power."""
    elements = size(op.output)
    return None if elements is None else (0, elements * (op.attr("size", 1) + 2))


ROWS: tuple[OpSemantics, ...] = (
    *rows("BatchNormalization", axes=batch_normalization, cost=per_output(AFFINE_STEPS), quant=_batchnorm_role),
    *rows("InstanceNormalization", axes=instance_normalization, cost=per_output(NORMALIZE_STEPS), quant=_STATISTICS),
    *rows("GroupNormalization", axes=group_normalization, cost=per_output(NORMALIZE_STEPS), quant=_STATISTICS),
    *rows(
        "LayerNormalization",
        axes=layer_normalization,
        cost=per_output(NORMALIZE_STEPS),
        quant=_STATISTICS,
        scaling=Scaling.GAIN,
    ),
    *rows("MeanVarianceNormalization", axes=over_axes, cost=per_output(NORMALIZE_STEPS), quant=_STATISTICS),
    # SimplifiedLayerNormalization is ONNX Runtime's, though it stands in ONNX's own domain.
    *rows(
        "RMSNormalization SimplifiedLayerNormalization",
        axes=layer_normalization,
        cost=per_output(RMS_STEPS),
        quant=_STATISTICS,
        scaling=Scaling.GAIN,
    ),
    *rows("LpNormalization", axes=over_axes, cost=per_output(RMS_STEPS), quant=_STATISTICS),
    *rows("LRN", axes=over_axes, cost=_lrn, quant=sensitive("powers magnify rounding errors")),
    *rows("Softmax LogSoftmax", axes=softmax, cost=per_output(SOFTMAX_STEPS), quant=_SOFTMAX),
    *rows("Hardmax", axes=softmax, quant=sensitive("a rounding error may become a whole step")),
    *rows("NegativeLogLikelihoodLoss", axes=stays("a loss is for training"), cost=per_input(), quant=_LOSS),
    *rows("SoftmaxCrossEntropyLoss", axes=stays("a loss is for training"), cost=per_input(SOFTMAX_STEPS), quant=_LOSS),
    # Dropout drops at random where it can train: by default before opset 7 (``is_test``), by an input since 12.
    *rows("Dropout", until=6, axes=everywhere, cost=free, quant=PASSTHROUGH, foldable=False, deterministic=False),
    *rows("Dropout", since=7, until=11, axes=everywhere, cost=free, quant=PASSTHROUGH),
    *rows("Dropout", since=12, axes=everywhere, cost=free, quant=_dropout_role, foldable=False, deterministic=False),
    *rows(
        "SkipLayerNormalization",
        axes=skip_layer_normalization,
        domain="com.microsoft",
        infer=normalized_with_skip,
        cost=per_output(NORMALIZE_STEPS + 1),
        quant=_SKIP,
    ),
    *rows(
        "SkipSimplifiedLayerNormalization",
        axes=skip_layer_normalization,
        domain="com.microsoft",
        infer=normalized_with_skip,
        cost=per_output(RMS_STEPS + 1),
        quant=_SKIP,
    ),
    *rows(
        "GroupNorm",
        axes=microsoft_group_norm,
        domain="com.microsoft",
        infer=like_input(0),
        cost=per_output(NORMALIZE_STEPS),
        quant=_STATISTICS,
    ),
    *rows(
        "SkipGroupNorm",
        axes=stays(_STATISTICS.reason),
        domain="com.microsoft",
        cost=per_output(NORMALIZE_STEPS + 1),
        quant=_STATISTICS,
    ),
    *rows(
        "EmbedLayerNormalization",
        axes=stays("sums embeddings and takes statistics over them"),
        domain="com.microsoft",
        infer=embedded,
        cost=per_output(NORMALIZE_STEPS + 2),
        quant=barrier("reads indices"),
    ),
    *rows(
        "BiasSoftmax",
        axes=stays("exponentials are summed over axes behind one that an attribute names"),
        domain="com.microsoft",
        infer=like_input(0),
        cost=per_output(SOFTMAX_STEPS + 1),
        quant=_SOFTMAX,
    ),
)
