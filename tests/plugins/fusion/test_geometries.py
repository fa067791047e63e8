"""Folding into weights, over random geometries: groups, strides, padding, layouts, missing biases."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.ir import DataType, TensorType
from nncomp_fusion.fuse import Fuse

SETTINGS = settings(deadline=None, derandomize=True, max_examples=80)


def image(graph, *shape):
    return graph.add_input("x", TensorType(DataType.FLOAT, shape))


def weights(graph, rng, *shape):
    return graph.add_constant("w", np.asarray(rng.normal(0, 0.5, shape), np.float32))


def statistics(graph, rng, channels):
    scale, shift, mean = (weights(graph, rng, channels) for _ in range(3))
    variance = graph.add_constant("v", np.asarray(rng.uniform(0.5, 2, channels), np.float32))
    return scale, shift, mean, variance


@st.composite
def convolutions(draw, *, padded=True):
    """Return a graph whose last value is a Conv or ConvTranspose, that value, its channels and those of its input."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    graph = nncomp.Graph("conv")
    graph.set_info(opsets={"": 17})
    spatial, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    into, out = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 3)) for _ in range(spatial)]
    attrs = {"group": group, "strides": [draw(st.integers(1, 2)) for _ in kernel]}
    if padded:
        attrs["pads"] = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    transposed = draw(st.booleans())
    shape = (into, out // group) if transposed else (out, into // group)
    inputs = [weights(graph, rng, *shape, *kernel)]
    if draw(st.booleans()):
        inputs.append(weights(graph, rng, out))
    return graph, rng, "ConvTranspose" if transposed else "Conv", inputs, attrs, into, out, [5] * spatial


@SETTINGS
@given(convolutions(), st.sampled_from(["bn", "Mul", "Add", "Sub", "Div"]), st.booleans())
def test_what_follows_a_convolution_goes_into_it(check, case, what, by_channel):
    graph, rng, kind, inputs, attrs, into, out, size = case
    y = graph.add_op(kind, [image(graph, 2, into, *size), *inputs], attrs=attrs).output
    if what == "bn":
        y = graph.add_op("BatchNormalization", [y, *statistics(graph, rng, out)]).output
    else:
        shape = (out, *[1] * len(size)) if by_channel else ()
        operand = graph.add_constant("k", np.asarray(rng.uniform(0.5, 2, shape), np.float32))
        y = graph.add_op(what, [y, operand]).output
    graph.set_outputs([y])
    assert [op.kind for op in check(Fuse(), graph).graph.ops()] == [kind]


@SETTINGS
@given(convolutions(), st.booleans(), st.booleans())
def test_what_precedes_a_convolution_goes_into_it_unless_it_shifts_what_is_padded(check, case, shifts, by_channel):
    graph, rng, kind, inputs, attrs, into, _, size = case
    shape = (1, into, *[1] * len(size)) if by_channel else ()
    operand = graph.add_constant("k", np.asarray(rng.uniform(0.5, 2, shape), np.float32))
    before = graph.add_op("Add" if shifts else "Mul", [image(graph, 2, into, *size), operand]).output
    graph.set_outputs([graph.add_op(kind, [before, *inputs], attrs=attrs).output])
    stays = shifts and (kind == "ConvTranspose" or any(attrs["pads"]))
    assert len(check(Fuse(), graph).graph.ops()) == (2 if stays else 1)


@SETTINGS
@given(convolutions(padded=False))
def test_a_batchnorm_in_front_goes_into_a_convolution_without_padding(check, case):
    graph, rng, _, inputs, attrs, into, out, size = case
    weight = weights(graph, rng, out, into // attrs["group"], *inputs[0].shape[2:])
    norm = graph.add_op("BatchNormalization", [image(graph, 2, into, *size), *statistics(graph, rng, into)]).output
    graph.set_outputs([graph.add_op("Conv", [norm, weight, *inputs[1:]], attrs=attrs).output])
    graph.remove_unused(inputs)
    assert [op.kind for op in check(Fuse(), graph).graph.ops()] == ["Conv"]


@SETTINGS
@given(
    st.integers(0, 2**16), st.booleans(), st.booleans(), st.sampled_from([None, (), (1,), (4,), (1, 4)]),
    st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 0.0]), st.sampled_from(["bn", "Mul", "Add"]),
    st.booleans(),
)  # fmt: skip
def test_every_gemm_takes_what_is_around_it(check, seed, trans_a, trans_b, bias, alpha, beta, what, in_front):
    rng = np.random.default_rng(seed)
    graph = nncomp.Graph("gemm")
    graph.set_info(opsets={"": 17})
    x = image(graph, *((3, 2) if trans_a else (2, 3)))
    weight = weights(graph, rng, *((4, 3) if trans_b else (3, 4)))
    inputs = [weight] if bias is None else [weight, weights(graph, rng, *bias)]
    attrs = {"transA": int(trans_a), "transB": int(trans_b), "alpha": alpha, "beta": beta}
    channels = x.shape[1] if in_front else 4

    def around(value):
        if what == "bn":
            return graph.add_op("BatchNormalization", [value, *statistics(graph, rng, channels)]).output
        operand = graph.add_constant("k", np.asarray(rng.uniform(0.5, 2, channels), np.float32))
        return graph.add_op(what, [value, operand]).output

    y = graph.add_op("Gemm", [around(x) if in_front else x, *inputs], attrs=attrs).output
    graph.set_outputs([y if in_front else around(y)])
    assert len(check(Fuse(), graph).graph.ops()) == (2 if in_front and trans_a else 1)


@SETTINGS
@given(
    st.integers(0, 2**16), st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.lists(st.integers(0, 2), min_size=4, max_size=4), st.lists(st.integers(1, 2), min_size=2, max_size=2),
    st.sampled_from(["Conv", "AveragePool", "MaxPool"]), st.booleans(),
)  # fmt: skip
def test_every_pad_in_front_of_a_window_keeps_the_function(check, seed, outer, own, strides, kind, counts):
    rng = np.random.default_rng(seed)
    graph = nncomp.Graph("pad")
    graph.set_info(opsets={"": 17})
    x = graph.add_op("Relu", [image(graph, 2, 3, 6, 5)]).output
    amounts = graph.add_constant("p", np.array([0, 0, *outer[:2], 0, 0, *outer[2:]], np.int64))
    padded = graph.add_op("Pad", [x, amounts]).output
    attrs = {"pads": own, "strides": strides, "kernel_shape": [3, 3]}
    if kind == "AveragePool":
        attrs["count_include_pad"] = int(counts)
    inputs = [weights(graph, rng, 2, 3, 3, 3)] if kind == "Conv" else []
    graph.set_outputs([graph.add_op(kind, [padded, *inputs], attrs=attrs).output])
    outcome = check(Fuse(), graph)
    if kind == "Conv":
        assert [op.kind for op in outcome.graph.ops()] == ["Relu", "Conv"]
