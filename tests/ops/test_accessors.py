"""Attributes and constant inputs, read alike in every form that opsets have written them."""

from __future__ import annotations

import numpy as np
import pytest

from nncomp.ir import DataType, Dim, Graph, Op, TensorType, Value
from nncomp.ops import (
    channel_axis,
    clip_bounds,
    conv_geometry,
    is_training_batchnorm,
    kernel_shape,
    pads,
    perm,
    reduce_axes,
    softmax_axis,
    squeeze_axes,
)


def graph_with(shape: tuple[Dim, ...] | None) -> tuple[Graph, Value]:
    graph = Graph()
    return graph, graph.add_input("x", TensorType(DataType.FLOAT, shape))


def made(kind: str, shape: tuple[Dim, ...] | None, *constants: object, **attrs: object) -> tuple[Op, Graph]:
    graph, x = graph_with(shape)
    inputs = [None if data is None else graph.add_constant("c", np.array(data)) for data in constants]
    return graph.add_op(kind, [x, *inputs], attrs=attrs), graph


# ---------------------------------------------------------------- axes


def test_reduced_axes_are_read_from_the_attribute_or_the_input() -> None:
    assert reduce_axes(*made("ReduceMean", (2, 3, 4), axes=[-1, 0])) == (0, 2)
    assert reduce_axes(*made("ReduceMean", (2, 3, 4), [-1, 0])) == (0, 2)


def test_without_axes_all_are_reduced_or_none() -> None:
    assert reduce_axes(*made("ReduceSum", (2, 3, 4))) == (0, 1, 2)
    assert reduce_axes(*made("ReduceSum", (2, 3, 4), noop_with_empty_axes=1)) == ()
    assert reduce_axes(*made("ReduceSum", None)) is None


def test_negative_axes_of_an_unknown_rank_are_unknown() -> None:
    assert reduce_axes(*made("ReduceSum", None, [-1])) is None
    assert reduce_axes(*made("ReduceSum", None, [1])) == (1,)


def test_computed_axes_are_unknown() -> None:
    graph, x = graph_with((2, 3))
    axes = graph.add_input("axes", TensorType(DataType.INT64, (1,)))
    for kind, read in (("ReduceSum", reduce_axes), ("Squeeze", squeeze_axes)):
        assert read(graph.add_op(kind, [x, axes]), graph) is None


def test_argmax_reduces_the_one_axis_of_its_attribute() -> None:
    assert reduce_axes(*made("ArgMax", (2, 3))) == (0,)
    assert reduce_axes(*made("ArgMax", (2, 3), axis=-1)) == (1,)


def test_squeeze_without_axes_removes_every_axis_of_one_element() -> None:
    assert squeeze_axes(*made("Squeeze", (1, 3, 1))) == (0, 2)
    assert squeeze_axes(*made("Squeeze", (1, "N", 1))) is None
    assert squeeze_axes(*made("Squeeze", (1, 3, 1), axes=[-1])) == (2,)


def test_the_axes_of_unsqueeze_count_in_its_output() -> None:
    assert squeeze_axes(*made("Unsqueeze", (2, 3), [0, -1])) == (0, 3)


def test_softmax_works_along_one_axis_since_opset_13() -> None:
    op, _ = made("Softmax", (2, 3, 4))
    assert softmax_axis(op, {"": 13}) == 2
    assert softmax_axis(op, {"": 11}) is None
    assert softmax_axis(made("Softmax", (2, 3))[0], {"": 11}) == 1
    assert softmax_axis(made("Softmax", None)[0], {"": 13}) == -1


def test_a_transpose_reverses_the_axes_unless_told_otherwise() -> None:
    assert perm(made("Transpose", (2, 3, 4))[0], 3) == (2, 1, 0)
    assert perm(made("Transpose", (2, 3, 4), perm=[0, 2, 1])[0], 3) == (0, 2, 1)


def test_channels_stand_second_except_where_the_runtime_keeps_them_last() -> None:
    assert channel_axis(made("Conv", (1, 3, 8, 8))[0]) == 1
    assert channel_axis(made("QLinearAveragePool", (1, 8, 8, 3), channels_last=1)[0]) == -1
    assert channel_axis(made("MatMul", (2, 3))[0]) == -1
    assert channel_axis(made("Relu", (2, 3))[0]) is None


# ---------------------------------------------------------------- bounds and modes


def test_clip_bounds_are_read_from_attributes_or_inputs() -> None:
    assert clip_bounds(*made("Clip", (2,), min=0.0, max=6.0)) == (0.0, 6.0)
    assert clip_bounds(*made("Clip", (2,), 0.0, 6.0)) == (0.0, 6.0)
    assert clip_bounds(*made("Clip", (2,), None, 6.0)) == (None, 6.0)
    assert clip_bounds(*made("Relu", (2,))) == (0.0, None)


def test_the_largest_float_is_no_bound() -> None:
    largest = float(np.finfo(np.float32).max)
    assert clip_bounds(*made("Clip", (2,), min=-largest, max=largest)) == (None, None)
    assert clip_bounds(*made("Clip", (2,), np.float32(-np.inf), np.float32(1))) == (None, 1.0)


def test_a_computed_bound_is_unknown() -> None:
    graph, x = graph_with((2,))
    low = graph.add_input("low", TensorType(DataType.FLOAT, ()))
    assert clip_bounds(graph.add_op("Clip", [x, low]), graph) is None
    assert clip_bounds(graph.add_op("Sigmoid", [x]), graph) is None


def test_a_batch_normalization_trains_by_its_attribute_or_by_its_outputs() -> None:
    graph, x = graph_with((1, 4, 2))
    assert not is_training_batchnorm(graph.add_op("BatchNormalization", [x]))
    assert is_training_batchnorm(graph.add_op("BatchNormalization", [x], attrs={"training_mode": 1}))
    assert is_training_batchnorm(graph.add_op("BatchNormalization", [x], ["a", "mean", "variance"]))
    assert not is_training_batchnorm(graph.add_op("BatchNormalization", [x], ["b", "", ""]))


# ---------------------------------------------------------------- geometry


def convolution(kind: str, shape: tuple[Dim, ...], weights: tuple[int, ...], **attrs: object) -> Op:
    graph, x = graph_with(shape)
    return graph.add_op(kind, [x, graph.add_constant("w", np.zeros(weights, np.float32))], attrs=attrs)


def test_the_geometry_of_a_convolution_fills_in_what_is_not_written() -> None:
    found = conv_geometry(convolution("Conv", (1, 4, 8, 8), (6, 2, 3, 5), group=2, strides=[2, 1]))
    assert found is not None
    assert (found.in_channels, found.out_channels, found.group) == (4, 6, 2)
    assert (found.kernel, found.strides, found.dilations) == ((3, 5), (2, 1), (1, 1))
    assert (found.pads, found.transposed, found.is_depthwise) == ((0, 0, 0, 0), False, False)


def test_a_transposed_convolution_has_its_channels_the_other_way_round() -> None:
    found = conv_geometry(convolution("ConvTranspose", (1, 4, 8, 8), (4, 3, 2, 2), group=2))
    assert found is not None
    assert (found.in_channels, found.out_channels, found.transposed) == (4, 6, True)


def test_a_convolution_of_each_channel_alone_is_depthwise() -> None:
    found = conv_geometry(convolution("Conv", (1, 4, 8, 8), (8, 1, 3, 3), group=4))
    assert found is not None
    assert found.is_depthwise


def test_attributes_that_do_not_fit_give_no_geometry() -> None:
    assert conv_geometry(convolution("Conv", (1, 4, 8, 8), (8, 4, 3, 3), strides=[2])) is None
    assert conv_geometry(made("Relu", (1, 4, 8, 8))[0]) is None


@pytest.mark.parametrize(
    ("auto", "expected"),
    [("NOTSET", (1, 2, 3, 4)), ("VALID", (0, 0, 0, 0)), ("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1))],
)
def test_padding_is_computed_where_it_is_asked_to_keep_the_size(auto: str, expected: tuple[int, ...]) -> None:
    attrs = {"pads": [1, 2, 3, 4]} if auto == "NOTSET" else {}
    op = convolution("Conv", (1, 4, 8, 7), (8, 4, 3, 3), auto_pad=auto, strides=[2, 2], **attrs)
    assert pads(op, 4) == expected


def test_padding_that_depends_on_an_unknown_size_is_unknown() -> None:
    op = convolution("Conv", (1, 4, "H", "W"), (8, 4, 3, 3), auto_pad="SAME_UPPER")
    assert pads(op, 4) is None
    assert pads(convolution("Conv", (1, 4, 8, 8), (8, 4, 3, 3), pads=[1, 1]), 4) is None


def test_a_pool_pads_like_a_convolution_by_the_window_of_its_attribute() -> None:
    op = made("MaxPool", (1, 4, 7, 7), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")[0]
    assert kernel_shape(op) == (2, 2)
    assert pads(op, 4) == (0, 0, 1, 1)
