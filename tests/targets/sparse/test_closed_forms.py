"""Cycles of systolic arrays and of Bit Fusion, and products of tensor trains: equal to what others publish."""

import numpy as np
import pytest

from nncomp.ops import LoopNest
from nncomp_sparse.engines.systolic import fusion_cycles, systolic_cycles
from nncomp_sparse.hardware import load_hardware
from nncomp_sparse.precision import cycles_per_mac
from nncomp_sparse.tensor_train import TensorTrain


def test_systolic_cycles_are_those_of_scale_sim(table):
    for layer in table("systolic")["layers"]:
        positions, terms, outputs = layer["shape"]
        nest = LoopNest(batch=positions, inputs=terms, outputs=outputs)
        for stationary in {"weight", "output", "input"} & set(layer):
            assert systolic_cycles(nest, 12, 14, stationary) == layer[stationary]


def test_compute_cycles_of_bit_fusion_are_those_of_its_simulator(table, conv):
    published = table("bitfusion")
    share = cycles_per_mac(load_hardware("bitfusion"), 2, 4)
    assert 1 / share == published["split"]
    for layer in published["layers"]:
        groups, outputs, inputs, size, kernel = layer["shape"]
        nest = conv(outputs, inputs, size, kernel, batch=16, groups=groups)
        assert fusion_cycles(nest, 16, 32, 1 / share) == layer["cycles"], layer["layer"]


@pytest.mark.parametrize(
    ("name", "weight", "given", "cycles"),
    [
        ("stripes", 16, 16, 1.0),
        ("stripes", 16, 9, 9 / 16),
        ("systolic", 8, 8, 1.0),
        ("systolic", 4, 4, 1.0),
        ("systolic", 16, 8, 2.0),
        ("bitfusion", 8, 8, 1.0),
        ("bitfusion", 3, 2, 1 / 8),
        ("bitfusion", 16, 8, 2.0),
    ],
)
def test_widths_change_the_cycles_of_a_product(name, weight, given, cycles):
    assert cycles_per_mac(load_hardware(name), weight, given) == cycles


def test_ratios_of_tensor_trains_are_those_of_tie(table):
    for layer in table("tie")["layers"]:
        chain = TensorTrain.of(layer["rows"], layer["cols"], layer["rank"])
        assert round(chain.dense_params / chain.params) == layer["params"]
        assert round(chain.dense_params / chain.products, 1) == layer["products"]


def test_products_and_intermediate_sizes_are_those_of_contracting_core_by_core():
    chain = TensorTrain((2, 3, 4), (3, 2, 5), (2, 3))
    rng = np.random.default_rng(0)
    ranks = (1, *chain.ranks, 1)
    cores = [
        rng.normal(size=(ranks[k], m, n, ranks[k + 1]))
        for k, (m, n) in enumerate(zip(chain.rows, chain.cols, strict=True))
    ]
    x = rng.normal(size=(*chain.cols, 1))
    products, sizes, state = 0, [], x  # state: (n_1, ..., n_k, r_k, m_{k+1}, ..., m_d)
    for k in (2, 1, 0):
        left, right = state.shape[:k], state.shape[k + 2 :]
        flat = state.reshape(*left, chain.cols[k] * ranks[k + 1], -1)
        matrix = cores[k].reshape(ranks[k] * chain.rows[k], chain.cols[k] * ranks[k + 1])
        products += matrix.size * flat.size // flat.shape[-2]
        state = np.einsum("ij,...jk->...ik", matrix, flat).reshape(*left, ranks[k], chain.rows[k], *right)
        sizes.append(state.size)
    dense = np.einsum("amxb,bnyc,cozd->mnoxyz", *cores).reshape(24, 30)
    np.testing.assert_allclose(state.reshape(-1), dense @ x.reshape(-1))
    assert products == chain.products
    assert tuple(sizes) == chain.intermediates
