"""Activations of 16 bits: what gets them, how near results stay, and who is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.ir import DataType
from nncomp.targets import WideActivations
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize
from nncomp_quant.scales import activation_params

NET = """
g (float[N,3,8,8] x) => (float[N,10] y)
<float[4,3,3,3] w, float[4] b, float[4,4,1,1] w2, float[4,4,1,1] k, float[4,10] w3>
{
   c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
   r = Relu (c)
   d = Conv (r, w2)
   e = Add (d, r)
   p = GlobalAveragePool (e)
   h = Flatten (p)
   y = MatMul (h, w3)
}
"""


def types(made):
    return {
        op.inputs[0].name: made.graph.array(op.inputs[2]).dtype.name
        for op in made.graph.ops()
        if op.kind == "QuantizeLinear"
    }


def test_all_activations_get_16_bits_those_of_a_product_too(quantize):
    made = quantize(NET, activation_bits=16)
    assert types(made) == dict.fromkeys(["x", "r", "d", "e", "p", "h"], "uint16")
    assert made.graph.opsets[""] == 21
    assert made.notes == [("info", "", "lifted from 18 to 21")]


def test_what_a_wide_op_reads_and_writes_is_wide_and_all_that_shares_its_scale(quantize):
    made = quantize(NET, wide=("output:y",))
    assert types(made) == {"x": "uint8", "r": "uint8", "d": "uint8", "e": "uint8", "p": "uint16", "h": "uint16"}


def test_16_bits_leave_only_the_error_of_weights(quantize):
    text = NET.replace("MatMul (h, w3)", "Gemm (h, w3)")
    narrow = quantize(text, bias_samples=0).sqnr(optimize=False)
    assert quantize(text, bias_samples=0, activation_bits=16).sqnr(optimize=False) > narrow + 1


def test_exact_weights_and_16_bits_keep_80_db(quantize):
    text = """
    g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[2,1,1,1] w = {127, -254}, float k = {0.3}>
    { c = Conv (x, w) y = Add (c, k) }
    """
    made = quantize(text, activation_bits=16, bias_samples=0, method="minmax")
    assert made.constant("k_quantized").dtype == np.uint16
    assert made.sqnr() > 80
    assert quantize(text, bias_samples=0, method="minmax").sqnr() < 60


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_method_chooses_ranges_for_16_bits(quantize, method):
    assert quantize(NET, activation_bits=16, method=method).sqnr() > 30


def test_signed_codes_where_the_target_has_them(quantize):
    int8 = replace(CAPABILITIES.int8, wide=WideActivations(DataType.INT16, pays=True))
    made = quantize(NET, activation_bits=16, target=replace(CAPABILITIES, int8=int8))
    assert set(types(made).values()) == {"int16"}
    assert made.sqnr(optimize=False) > 40


def test_recurrent_layers_stay_float(quantize):
    made = quantize(
        """
        g (float[5,N,8] x, float[N,4] v) => (float[5,1,N,6] y, float[N,4] z)
        <float[1,24,8] w, float[1,24,6] r, float[4,4] m>
        { y, h, c = LSTM <hidden_size = 6> (x, w, r) z = MatMul (v, m) }
        """,
        activation_bits=16,
    )
    assert ("declined", "LSTM(y)", "its activations are quantized at run time, to 8 bits only") in made.notes


@pytest.mark.parametrize("options", [{"activation_bits": 16}, {"wide": ["*"]}])
def test_a_target_without_them_refuses_before_any_work(options):
    target = replace(CAPABILITIES, int8=replace(CAPABILITIES.int8, wide=None))
    assert Quantize(**options).objection(target) == "the target takes no activations of 16 bits"
    assert Quantize().objection(target) == ""
    assert Quantize(**options).objection(CAPABILITIES) == ""
    with pytest.raises(UnsupportedError) as caught:
        Quantize(**options).run(graph(NET), nncomp.Context(target=target))
    assert str(caught.value).splitlines()[0].endswith("quantize: the target takes no activations of 16 bits")
    assert caught.value.code == "NNC-T002"


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]))
def test_ranges_are_covered_within_half_a_step_and_zero_is_exact(a, b, dtype):
    low, high = sorted((a, b))
    params = activation_params(low, high, dtype)
    step = float(params.scale)
    assert params.zero_point.dtype == dtype
    assert params.low <= 0 <= params.high
    assert params.low <= low + step * 0.51
    assert params.high >= high - step * 0.51
    x = np.array([low, high, 0.0], np.float32)
    back = (params.codes(x).astype(np.float64) - int(params.zero_point)) * step
    assert np.abs(back - x)[:2].max() <= step * 1.01
    assert back[2] == 0
