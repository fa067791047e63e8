"""Weight-only products and tables: what is written, what it computes, what stays float, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.onnx_io import from_bytes, to_bytes
from nncomp.runtime import run
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph
from nncomp_quant.weight_only.blocks import Blocks
from nncomp_quant.weight_only.quantize_weights import QuantizeWeights

PRODUCT = "g (float[5,80] x) => (float[5,64] y) <float[80,64] w> { y = MatMul (x, w) }"


def kernels(made):
    return {node.op_type: node for node in executed_graph(to_bytes(made.graph)).graph.node}


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 64), (8, 32)])
def test_a_product_multiplies_by_the_nearest_weights(quantize_weights, form, symmetric, bits, block):
    made = quantize_weights(PRODUCT, form=form, symmetric=symmetric, bits=bits, block=block)
    blocks = Blocks(bits, block, symmetric)
    rows = made.before.array(made.before.find("w")).T
    rounded = blocks.rounded(rows, blocks.params(rows))
    x = made.feeds[0]["x"]
    got = run(made.graph, made.feeds[0])["y"]
    # MatMulNBits rounds activations to INT8, too
    np.testing.assert_allclose(got, x @ rounded.T, atol=0.02 * np.abs(x @ rounded.T).max())
    assert set(kernels(made)) == {"MatMulNBits"}  # in either form
    assert made.sqnr() > (15 if bits == 4 else 35)


def test_two_bits_are_packed_four_in_a_byte(quantize_weights):
    made = quantize_weights(PRODUCT, bits=2, block=32)
    assert made.constant("w_codes").shape == (64, 3, 8)
    assert made.constant("w_zero_points").shape == (64, 1)
    assert set(kernels(made)) == {"MatMulNBits"}
    assert made.sqnr() > 3


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
def test_the_file_shrinks_and_loads_again(quantize_weights, form):
    made = quantize_weights(
        "g (float[5,256] x) => (float[5,256] y) <float[256,256] w> { y = MatMul (x, w) }", form=form
    )
    data = to_bytes(made.graph)
    assert len(data) < len(to_bytes(made.before)) / 6
    again = run(from_bytes(data), made.feeds[0])["y"]
    np.testing.assert_array_equal(again, run(made.graph, made.feeds[0])["y"])


def test_a_symmetric_format_stores_no_zero_points(quantize_weights):
    made = quantize_weights(PRODUCT, symmetric=True)
    assert [value.name for value in made.graph.constants()] == ["w_codes", "w_scales"]


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
@pytest.mark.parametrize(
    "body",
    [
        "y = Gemm (x, w, b)",
        "y = Gemm <transB = 1> (x, v, b)",
        "y = Gemm (x, w, c)",
        "y = Gemm <transB = 1> (x, v)",
    ],
)
def test_gemm_is_a_product_with_a_bias(quantize_weights, body, form):
    weights = "float[80,64] w, float[64,80] v, float[64] b, float[5,64] c"
    made = quantize_weights(f"g (float[5,80] x) => (float[5,64] y) <{weights}> {{ {body} }}", form=form, bits=8)
    # The runtime makes one float Gemm again of a MatMul and an Add of a whole matrix, before it looks for blocks.
    assert ("MatMulNBits" in kernels(made)) is not (form == "blocked-qdq" and "c)" in body)
    assert made.sqnr() > 35


def test_products_of_one_weight_share_its_codes(quantize_weights):
    made = quantize_weights(
        "g (float[2,64] x) => (float[2,64] y) <float[64,64] w> { m = MatMul (x, w) t = Tanh (m) y = MatMul (t, w) }"
    )
    assert [value.name for value in made.graph.constants()] == ["w_codes", "w_scales", "w_zero_points"]
    assert made.kinds == ["MatMulNBits", "Tanh", "MatMulNBits"]


def test_a_blocked_quantizer_lifts_the_opset(quantize_weights):
    made = quantize_weights(PRODUCT, opset=17, form="blocked-qdq")
    assert made.graph.opsets[""] == 21
    assert ("info", "", "lifted from 17 to 21") in made.notes


def test_the_other_form_does_not(quantize_weights):
    assert dict(quantize_weights(PRODUCT, opset=17).graph.opsets) == {"": 17, "com.microsoft": 1}


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
def test_products_in_bodies_are_quantized(quantize_weights, form):
    made = quantize_weights(
        """
        g (float[5,80] x, bool c) => (float[5,64] y) <float[80,64] w>
        {
           y = If (c) <
              then_branch = then () => (float[5,64] a) <float[80,64] v> { a = MatMul (x, v) },
              else_branch = else () => (float[5,64] b) { b = MatMul (x, w) }
           >
        }
        """,
        form=form,
        bits=8,
    )
    assert "MatMulNBits" in made.kinds or "DequantizeLinear" in made.kinds
    assert len(to_bytes(made.graph)) < len(to_bytes(made.before)) / 2
    assert made.sqnr() > 35


def test_embedding_tables_become_int8(quantize_weights):
    text = """
        g (int64[3] i, float[5,80] x) => (float[3,128] y, float[5,64] z) <float[200,128] t, float[80,64] w>
        { y = Gather (t, i) z = MatMul (x, w) }
    """
    made = quantize_weights(text)
    assert made.constant("t_quantized").dtype == np.int8
    assert made.ctx.results["quantize-weights"]["tables"] == ["Gather(y)"]
    assert "t" in [value.name for value in quantize_weights(text, embeddings=False).graph.constants()]


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
def test_a_weight_that_is_read_transposed_is_a_product(quantize_weights, form):
    made = quantize_weights(
        "g (float[5,80] x) => (float[5,64] y) <float[64,80] w> { t = Transpose (w) y = MatMul (x, t) }",
        form=form,
        bits=8,
    )
    assert "Transpose" not in made.kinds
    assert made.sqnr() > 35


def test_why_products_stay_float(quantize_weights):
    made = quantize_weights(
        """
        g (float[5,80] x, float[80,64] d) => (float[5,64] y)
        <float[80,64] w, float[80,8] small, float[3,80,64] batch, double[80,64] wide>
        {
           a = MatMul (x, w)
           b = MatMul (x, d)
           e = MatMul (x, small)
           f = MatMul (x, batch)
           h = Cast <to = 11> (x)
           i = MatMul (h, wide)
           [left] j = MatMul (x, w)
           k = Gemm <alpha = 2.0> (x, w)
           y = Identity (a)
        }
        """,
        skip=["left"],
    )
    assert made.ctx.results["quantize-weights"]["left_float"] == {
        "MatMul(b)": "its weight is computed",
        "MatMul(e)": "its weight has 640 elements, which is too few to gain anything",
        "MatMul(f)": "its weight has 3 axes, products by blocks take 2",
        "MatMul(i)": "its weight is double, not float32",
        "left": "skipped by option",
        "Gemm(k)": "it is no plain product of an activation and a weight",
    }
    assert ("declined", "MatMul(b)", "its weight is computed") in made.notes


def test_nothing_to_do_is_an_error(quantize_weights):
    with pytest.raises(UnsupportedError) as caught:
        quantize_weights("g (float[5,80] x, float[80,64] w) => (float[5,64] y) { y = MatMul (x, w) }")
    assert caught.value.code == "NNC-M052"
    assert str(caught.value) == (
        "quantize-weights: no product or table to quantize (1 x MatMul: its weight is computed)"
    )


def test_a_weight_that_is_not_finite_is_refused(quantize_weights):
    weight = np.ones((80, 64), np.float32)
    weight[3, 4] = np.nan
    with pytest.raises(UnsupportedError) as caught:
        quantize_weights(PRODUCT, constants={"w": weight})
    assert caught.value.code == "NNC-M053"
    assert str(caught.value) == "weight 'w' of 'MatMul(y)' holds 1 NaN or infinite values"
    assert caught.value.hint == 'leave the op in float: quantize-weights{skip=["MatMul(y)"]}'


@pytest.mark.parametrize(
    ("options", "weight_only", "expected"),
    [
        ({}, {}, "the target takes no products with integer weights and float activations"),
        ({"block": 48}, None, "the target takes no 4-bit weights in blocks of 48"),
        (
            {"bits": 2, "form": "blocked-qdq"},
            None,
            "the target takes no 2-bit weights in blocks of 128 as blocked-qdq",
        ),
        ({"bits": 8, "block": 16}, None, ""),
    ],
)
def test_a_target_is_asked_before_any_work(options, weight_only, expected):
    from dataclasses import replace

    target = CAPABILITIES if weight_only is None else replace(CAPABILITIES, weight_only=weight_only)
    step = QuantizeWeights(**options)
    assert step.objection(target) == expected
    assert step.objection(None) == ""
    if expected:
        with pytest.raises(UnsupportedError) as caught:
            step.run(nncomp.Graph("g"), nncomp.Context(target=target))
        assert (caught.value.code, str(caught.value)) == ("NNC-T002", f"quantize-weights: {expected}")


def test_no_target_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        QuantizeWeights().run(nncomp.Graph("g"), nncomp.Context())
    assert str(caught.value) == "quantize-weights: there is no target"
    assert caught.value.hint == "compile for one that does: -t ort"


def test_options_are_checked():
    with pytest.raises(RecipeError) as caught:
        QuantizeWeights.from_options({"bits": 3})
    assert str(caught.value) == "quantize-weights.bits: expected 2, 4 or 8, got 3"


@settings(max_examples=12)
@given(
    kinds=st.lists(st.sampled_from(["MatMul (h{i}, w{i})", "Gemm (h{i}, w{i}, b{i})"]), min_size=1, max_size=4),
    widths=st.lists(st.sampled_from([64, 72, 100]), min_size=5, max_size=5),
    form=st.sampled_from(["matmul-nbits", "blocked-qdq"]),
    symmetric=st.booleans(),
    block=st.sampled_from([16, 64]),
)
def test_whatever_the_network_its_outputs_stay(quantize_weights, kinds, widths, form, symmetric, block):
    weights, lines = [], []
    for i, kind in enumerate(kinds):
        weights.append(f"float[{widths[i]},{widths[i + 1]}] w{i}, float[{widths[i + 1]}] b{i}")
        lines.append(f"m{i} = {kind.format(i=i)} h{i + 1} = Tanh (m{i})")
    body = " ".join(lines)
    last = f"float[3,{widths[len(kinds)]}] h{len(kinds)}"
    text = f"g (float[3,{widths[0]}] h0) => ({last}) <{', '.join(weights)}> {{ {body} }}"
    made = quantize_weights(text, form=form, symmetric=symmetric, block=block, bits=8)
    assert len(made.ctx.results["quantize-weights"]["products"]) == len(kinds)
    assert [value.name for value in made.graph.outputs] == [f"h{len(kinds)}"]
    assert made.sqnr() > 15  # large weights: what Tanh saturates at flips its sign now and then
