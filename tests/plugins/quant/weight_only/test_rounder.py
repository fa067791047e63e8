"""Rounding on calibration data: GPTQ and scaling, what they gain, and what they leave to the nearest."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import DataError
from nncomp.onnx_io import to_bytes
from nncomp.statistics import collect_moments
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.weight_only.blocks import Blocks
from nncomp_quant.weight_only.gptq import LayerMoments, gptq, layer_moments
from nncomp_quant.weight_only.quantize_weights import QuantizeWeights

WIDTH = 96
NET = f"""
    g (float[N,{WIDTH}] x) => (float[N,{WIDTH}] y)
    <float[{WIDTH},{WIDTH}] w, float[{WIDTH},{WIDTH}] v, float[{WIDTH},{WIDTH}] u, float[{WIDTH}] b>
    {{ k = Gemm (x, w, b) l = MatMul (x, v) s = Add (k, l) t = Tanh (s) y = MatMul (t, u) }}
"""


def weights(seed=0):
    rng = np.random.default_rng(seed)
    made = {name: (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32) for name in "wvu"}
    return made | {"b": rng.standard_normal(WIDTH).astype(np.float32)}


def feeds(count=8, rows=64, seed=1):
    """Inputs whose channels go together and differ in size, as those of real networks do."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((12, WIDTH)) * np.exp(rng.standard_normal(WIDTH))
    noise = [0.1 * rng.standard_normal((rows, WIDTH)) for _ in range(count)]
    return [{"x": (rng.standard_normal((rows, 12)) @ mix + one).astype(np.float32)} for one in noise]


def sqnr(quantize_weights, **options):
    made = quantize_weights(NET, constants=weights(), data=feeds(), block=32, **options)
    made.feeds = feeds(seed=1)[4:] + feeds(count=2, seed=1)
    return made.sqnr()


def test_each_method_gains_on_the_one_before(quantize_weights):
    nearest = sqnr(quantize_weights)
    assert sqnr(quantize_weights, scaling=True) > nearest + 0.5
    assert sqnr(quantize_weights, method="gptq") > nearest + 3
    assert sqnr(quantize_weights, method="gptq", scaling=True) > nearest + 3


@pytest.mark.parametrize("form", ["matmul-nbits", "blocked-qdq"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_each_form_carries_what_gptq_finds(quantize_weights, form, symmetric):
    assert sqnr(quantize_weights, method="gptq", form=form, symmetric=symmetric) > sqnr(
        quantize_weights, form=form, symmetric=symmetric
    )


def test_the_same_bytes_whatever_the_number_of_threads(quantize_weights):
    made = [
        quantize_weights(NET, constants=weights(), data=feeds(), block=32, method="gptq", scaling=True, threads=threads)
        for threads in (1, 2)
    ]
    assert to_bytes(made[0].graph) == to_bytes(made[1].graph)


def test_inputs_of_one_activation_are_divided_once(quantize_weights):
    made = quantize_weights(NET, constants=weights(), data=feeds(), block=32, scaling=True)
    divided = [op for op in made.graph.ops() if op.is_a("Mul")]
    assert [op.inputs[0].name for op in divided][:1] == ["x"]
    assert len(divided) <= 2
    assert len(made.graph.users(divided[0].output)) == 2


def test_rounding_in_turn_is_better_than_at_once_for_the_moments_given():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 8)) @ rng.standard_normal((8, 64)) + 0.1 * rng.standard_normal((500, 64))
    layer = LayerMoments(x.T @ x / 500, rng.standard_normal((16, 64)))
    blocks = Blocks(4, 32, symmetric=False)

    def error(codes, params):
        change = blocks.values(codes, params) - layer.target
        return float(np.einsum("ok,ok->", change @ layer.inputs, change))

    rows = layer.target.astype(np.float32)
    params = blocks.params(rows)
    assert error(*gptq(layer, blocks)) < 0.3 * error(blocks.codes(rows, params), params)


def test_the_target_repairs_what_lies_in_front():
    """An input that comes out halved is answered by a weight of almost twice the size."""
    g = graph(NET, constants=weights())
    moments = collect_moments(g, ["l"], feeds())["l"]
    weight = g.array(g.find("v")).T
    halved = nncomp.statistics.Moments(
        moments.count, moments.x / 2, moments.xx / 4, moments.y, moments.yx / 2, moments.yy
    )
    repaired = layer_moments(halved, weight, None, repair=True).target
    left = layer_moments(halved, weight, None, repair=False).target
    outputs = (moments.yx[0] / moments.count).ravel()
    assert np.array_equal(left, weight)

    def error(target):
        return np.linalg.norm((target @ halved.xx[0] / halved.count - halved.yx[0] / halved.count).ravel())

    assert error(repaired) < 0.5 * error(left)
    assert np.linalg.norm(outputs) > 0


def test_data_is_asked_for():
    g = graph(NET, constants=weights())
    with pytest.raises(DataError) as caught:
        QuantizeWeights(block=32).run(g, nncomp.Context(target=CAPABILITIES))
    assert caught.value.code == "NNC-D006"
    assert str(caught.value) == "quantize-weights: gptq and scaling need calibration data"
    assert caught.value.hint == 'give --data, or round to the nearest: quantize-weights{method="rtn"}'


def test_what_has_no_moments_is_rounded_to_the_nearest_and_said(quantize_weights):
    text = """
        g (float[5,64] x, bool c) => (float[5,64] y, float[5,64] z, float[5,64] q)
        <float[64,64] w, float[64,64] v, float[64,64] u, float[5,64] m>
        {
           t = Transpose (w)
           [a] y = MatMul (x, t)
           [b] q = Gemm (x, u, m)
           z = If (c) <
              then_branch = then () => (float[5,64] a) { [inside] a = MatMul (x, v) },
              else_branch = else () => (float[5,64] b) { b = Identity (x) }
           >
        }
    """
    made = quantize_weights(text, method="gptq", block=32, bits=8)
    assert {node: reason for event, node, reason in made.notes if event == "declined"} == {
        "a": "rounded to the nearest: its weight is read transposed",
        "b": "rounded to the nearest: its bias is not one number a channel",
        "inside": "rounded to the nearest: what bodies compute is not calibrated",
    }
    assert made.sqnr() > 35
