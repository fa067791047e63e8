"""Weights of four bits: who gets them, what a budget buys, and who is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType
from nncomp.runtime import random_feeds
from nncomp.targets import OpCost
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize
from nncomp_quant.scales import narrow_scale, quantize_weight, symmetric_scale

TARGET = replace(CAPABILITIES, int8=replace(CAPABILITIES.int8, narrow_weights=frozenset({DataType.INT4})))
NET = """
g (float[1,3,8,8] x) => (float[1,8,6,6] y)
<float[8,3,3,3] w1, float[8] b, float[8,8,1,1] w2, float[8,8,1,1] w3>
{ [a] p = Conv (x, w1, b)  q = Relu (p)  [b] r = Conv (q, w2)  s = Relu (r)  [c] y = Conv (s, w3) }
"""


class Prices:
    """Each op costs ten and the bits of its weight, but for one where narrow weights are worth nothing."""

    def costs(self, made, *, then=(), data=None):
        made = made.clone()
        infer_types(made)
        ctx = nncomp.Context(target=TARGET, data=data)
        for step in then:
            step.run(made, ctx)
        bits = {op.label: op.inputs[1].producer for op in made.ops() if op.kind == "Conv"}
        narrow = {label: dq is not None and dq.inputs[0].type.dtype == DataType.INT4 for label, dq in bits.items()}
        return {label: OpCost(1.0, 14.0 if is_narrow and label != "a" else 18.0) for label, is_narrow in narrow.items()}


def quantized(**options):
    made = graph(NET, opset=18)
    infer_types(made)
    ctx = nncomp.Context(
        target=TARGET, data=FeedSource([random_feeds(made, seed=seed) for seed in range(4)], made), probe=Prices()
    )
    nncomp.Pipeline([Quantize(**options)]).run(made, ctx)
    dtypes = {op.label: op.inputs[1].producer.inputs[0].type.dtype for op in made.ops() if op.kind == "Conv"}
    return made, ctx, {label for label, dtype in dtypes.items() if dtype == DataType.INT4}


def test_all_weights_or_those_named_get_four_bits_and_biases_fit_them(quantize):
    made = quantize(NET, target=TARGET, weight_bits=4)
    assert made.constant("w1_quantized").dtype == made.constant("w1_zero_point").dtype == DataType.INT4.numpy()
    assert made.graph.opsets[""] == 21
    assert 8 < made.sqnr() < quantize(NET, target=TARGET).sqnr() - 6
    assert quantized(narrow=["b"])[2] == {"b"}
    assert quantized(narrow=["b"])[1].results["quantize"]["narrow"] == ["b"]


def test_a_budget_is_met_with_as_few_layers_as_it_needs_and_never_by_one_that_saves_nothing():
    assert quantized(energy=0.99)[2] in ({"b"}, {"c"})
    assert quantized(energy=0.86)[2] == {"b", "c"}
    assert quantized(energy=0.86)[1].results["quantize"]["narrow"] == ["b", "c"]


def test_the_layer_that_the_outputs_mind_least_goes_first():
    weights = {"w2": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)}  # four bits hold it exactly
    made = graph(NET, opset=18, constants=weights)
    infer_types(made)
    ctx = nncomp.Context(target=TARGET, data=FeedSource([random_feeds(made)], made), probe=Prices())
    Quantize(energy=0.99).run(made, ctx)
    assert ctx.results["quantize"]["narrow"] == ["b"]


def test_a_budget_that_four_bits_do_not_reach_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        quantized(energy=0.5)
    assert caught.value.message == "quantize: energy=0.5 is out of reach, the least is 0.852"
    assert caught.value.code == "NNC-M052"


def test_two_budgets_are_refused():
    with pytest.raises(RecipeError) as caught:
        quantized(energy=0.5, latency=0.5)
    assert caught.value.message == "quantize: latency and energy are two budgets, give one"
    both = Quantize(latency=0.5, energy=0.5)
    assert both.objection(CAPABILITIES) == "latency and energy are two budgets, give one"


@pytest.mark.parametrize("options", [{"weight_bits": 4}, {"narrow": ["a"]}, {"energy": 0.9}, {"latency": 0.9}])
def test_a_target_without_them_refuses_before_any_work(quantize, options):
    assert Quantize(**options).objection(CAPABILITIES) == "the target takes no weights of 4 bits"
    with pytest.raises(UnsupportedError) as caught:
        quantize(NET, **options)
    assert caught.value.message == "quantize: the target takes no weights of 4 bits"
    assert caught.value.hint == "leave out weight_bits, narrow, latency and energy"


@pytest.mark.parametrize(("budget", "known"), [("energy", "energies"), ("latency", "latencies without measuring")])
def test_a_budget_needs_prices(quantize, budget, known):
    with pytest.raises(UnsupportedError) as caught:
        quantize(NET, target=TARGET, **{budget: 0.9})
    assert caught.value.message == f"quantize.{budget}: the target knows no {known}"
    assert caught.value.hint == "compile for a cost model: -t sparse"


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0, 1]))
def test_a_clipped_scale_is_never_worse_than_the_widest(seed, axis):
    weight = np.random.default_rng(seed).standard_t(3, size=(5, 7)).astype(np.float32)

    def error(scale):
        codes, _ = quantize_weight(weight, axis, bits=4, scale=scale)
        assert np.abs(codes).max() <= 7
        spread = scale if axis is None else np.expand_dims(scale, 1 - axis)
        return np.square(weight - codes * spread, dtype=np.float64).sum()

    assert error(narrow_scale(weight, axis)) <= error(symmetric_scale(weight, axis, bits=4)) + 1e-9
