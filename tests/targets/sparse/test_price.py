"""Prices of all machines: utilization in factors, zeros that never cost more, energies that add up."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.hardware import load_hardware, preset_names
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer, price_layers

SIZES = st.integers(1, 24)


@st.composite
def nests(draw):
    if draw(st.booleans()):
        return LoopNest(batch=draw(SIZES), groups=draw(st.integers(1, 3)), outputs=draw(SIZES), inputs=draw(SIZES))
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    size = draw(st.integers(1, 9))
    return LoopNest(
        groups=draw(st.integers(1, 3)),
        outputs=draw(SIZES),
        inputs=draw(SIZES),
        spatial=(size, size),
        kernel=(kernel, kernel),
        strides=(stride, stride),
        dilations=(1, 1),
        sizes=((size - 1) * stride + kernel,) * 2,
    )


@pytest.mark.parametrize("name", preset_names())
@settings(max_examples=6, deadline=None)
@given(nest=nests(), weight=st.floats(0.05, 1), data=st.floats(0.05, 1))
def test_utilization_is_what_its_factors_say_and_never_above_one(name, nest, weight, data):
    machine = load_hardware(name)
    layer = Layer.given("l", nest, weight=weight, input=data)
    price = price_layer(layer, machine)
    costing = Costing(layer, machine)
    assert all(0 < factor <= 1 + 1e-9 for factor in price.utilization.values()), price.utilization
    used = price.executed * costing.cycles_per_mac / machine.array.macs / price.cycles
    assert math.prod(price.utilization.values()) == pytest.approx(used)
    assert price.energy == pytest.approx(sum(price.energy_pj.values()))
    assert all(one.reads >= 0 and one.writes >= 0 for one in price.traffic)


@pytest.mark.parametrize("name", preset_names())
def test_zeros_never_cost_time_or_energy(name, conv):
    machine = load_hardware(name)
    nest = conv(24, 16, 8, 3)
    prices = [price_layer(Layer.given("l", nest, weight=d, input=d), machine) for d in (0.1, 0.4, 0.7)]
    assert [p.cycles for p in prices] == sorted(p.cycles for p in prices)
    assert [p.energy for p in prices] == sorted(p.energy for p in prices)


def test_layers_that_are_alike_are_searched_once_and_keep_their_names(machine, conv):
    layers = tuple(Layer.given(name, conv(8, 8, 4, 3)) for name in "abc")
    price = price_layers(layers, machine())
    assert [layer.name for layer in price.layers] == ["a", "b", "c"]
    assert price.cycles == 3 * price.layers[0].cycles
    assert price.macs == 3 * layers[0].macs


def test_a_slow_port_is_what_a_layer_waits_for(machine, conv):
    levels = [
        {"name": "dram", "off_chip": True, "gb_per_s": 0.001},
        {"name": "glb", "kb": 8.0},
        {"name": "rf", "per_pe": True, "words": {"weight": 16, "input": 8, "output": 8}},
    ]
    layer = Layer.given("l", conv(8, 8, 8, 3))
    assert price_layer(layer, machine()).bound == "compute"
    assert price_layer(layer, machine(levels=levels)).bound == "dram"
    levels[0].pop("gb_per_s")
    levels[1]["read_bits"] = 0.5
    assert price_layer(layer, machine(levels=levels)).bound == "glb read"
