"""Each form of a layer in a graph: at full rank it computes what the layer did, whatever its geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.testing import assert_same_function, graph
from nncomp.verify import verify
from nncomp_lowrank.choice import FORMS
from nncomp_lowrank.layers import find_layers
from nncomp_lowrank.writing import write_form


def full_ranks(name, shape):
    """Return ranks at which a form can be any weight of this shape."""
    o, i, *kernel = shape
    count = int(np.prod(kernel))
    return {
        "svd": (min(o, i * count),),
        "svd-in": (i,),
        "spatial": (i * kernel[0] if kernel else 0,),
        "tucker": (o, i),
        "tt": (o * 3, i * 3, i),
        "cp": (o * i * count // max(shape),),
        "tt-columns": (3, 4, 4, 8),
        "tt-matrix": (2, 10**6),
        "ht-matrix": (2, 10**6),
    }[name]


def in_form(text, name, **options):
    before = graph(text, **options)
    after = before.clone()
    infer_types(after)
    layers, left = find_layers(after, builtin_table())
    assert not left
    for layer in layers:
        form = FORMS[name]
        if not form.fits(layer.kernel, layer.groups):
            continue
        parts = layer.tensor()
        gram = np.eye(parts[0].size // parts.shape[1])
        factors = [form.fitted(part, full_ranks(name, layer.shape), gram, sweeps=0) for part in parts]
        write_form(layer, form, factors)
    verify(after)
    return before, after


CONV_FORMS = ["svd", "svd-in", "spatial", "tucker", "tt", "cp"]


@st.composite
def convolutions(draw):
    group = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = group * draw(st.integers(2, 4)), group * draw(st.integers(2, 4))
    kernel = draw(st.sampled_from([(3, 3), (2, 3), (3, 5)]))
    strides, dilations = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    padding = draw(st.sampled_from(["", "pads = [1,0,2,1],", 'auto_pad = "SAME_UPPER",', 'auto_pad = "SAME_LOWER",']))
    if "auto_pad" in padding:
        dilations = (1, 1)  # ONNX Runtime knows no other
    bias = draw(st.booleans())
    return f"""
    g (float[1,{inputs},12,11] x) => (float[1,{outputs},H,W] y)
    <float[{outputs},{inputs // group},{kernel[0]},{kernel[1]}] w, float[{outputs}] b>
    {{
       y = Conv <{padding} group = {group}, strides = [{strides[0]},{strides[1]}],
                 dilations = [{dilations[0]},{dilations[1]}]> (x, w{", b" if bias else ""})
    }}"""


@pytest.mark.parametrize("name", CONV_FORMS)
@given(text=convolutions(), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_convolution_at_full_rank_stays_what_it_was(name, text, seed):
    before, after = in_form(text, name, seed=seed)
    if not before.uses(before.find("b")):
        before.remove_unused([before.find("b")])
    assert_same_function(before, after, rtol=1e-4, atol=2e-5)
    assert len(after.ops()) == len(FORMS[name].stages(2))


PRODUCTS = [
    "g (float[2,12] x) => (float[2,8] y) <float[12,8] w> { y = MatMul (x, w) }",
    "g (float[N,S,12] x) => (float[N,S,8] y) <float[12,8] w> { y = MatMul (x, w) }",
    "g (float[2,12] x) => (float[2,8] y) <float[8,12] w, float[8] b> { y = Gemm <transB = 1> (x, w, b) }",
    "g (float[12,2] x) => (float[2,8] y) <float[12,8] w, float[8] b> "
    "{ y = Gemm <transA = 1, alpha = 0.5, beta = 2.0> (x, w, b) }",
]


@pytest.mark.parametrize("name", ["svd", "tt-columns", "tt-matrix", "ht-matrix"])
@pytest.mark.parametrize("text", PRODUCTS)
def test_a_product_at_full_rank_stays_what_it_was(name, text):
    before, after = in_form(text, name)
    assert_same_function(before, after, rtol=1e-4, atol=2e-5)
    assert len(after.ops()) > 1


def test_a_train_over_columns_is_three_products_and_no_reshape_too_many():
    _, after = in_form(PRODUCTS[2], "tt-columns")
    assert [op.name for op in after.ops()] == ["y.reshape", "y.v", "y.reshape", "y.core", "y.u", "y.add"]


@pytest.mark.parametrize(("name", "order"), [("tt-matrix", 3), ("tt-matrix", 4), ("ht-matrix", 4)])
def test_longer_networks_at_full_rank_stay_what_they_were(name, order):
    before = graph("g (float[B,3,16] x) => (float[B,3,24] y) <float[16,24] w> { y = MatMul (x, w) }")
    after = before.clone()
    infer_types(after)
    ((layer,), _) = find_layers(after, builtin_table())
    factors = FORMS[name].fitted(layer.tensor()[0], (order, 10**6), np.eye(16), sweeps=0)
    write_form(layer, FORMS[name], [factors])
    assert_same_function(before, after, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", list(FORMS))
@pytest.mark.parametrize("shape", [(12, 10, 3, 3), (300, 240)])
def test_shapes_are_those_of_the_factors(name, shape):
    form = FORMS[name]
    if not form.fits(shape[2:], 1):
        return
    rng = np.random.default_rng(0)
    weight = rng.normal(size=shape)
    columns = weight[0].size
    for ranks in form.ranks(shape, 4)[::3]:
        factors = form.fitted(weight, ranks, np.ones(columns) if len(shape) == 2 else np.eye(columns), sweeps=0)
        assert [factor.shape for factor in factors] == form.shapes(shape, ranks), ranks
        assert form.product(factors, shape).shape == shape
