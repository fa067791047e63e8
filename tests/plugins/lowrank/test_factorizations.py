"""Decompositions: full rank gives the tensor back, truncated ones are as near as tensorly's, signs are fixed."""

import numpy as np
import pytest
import tensorly
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import parafac, partial_tucker, tensor_train

from nncomp_lowrank.cp import cp_als
from nncomp_lowrank.evbmf import evbmf_rank
from nncomp_lowrank.ht import ht_matrix
from nncomp_lowrank.svd import truncated_svd
from nncomp_lowrank.tt import near_square_modes, tt_matrix, tt_svd
from nncomp_lowrank.tucker import tucker2

SIZES = st.integers(1, 7)
SEEDS = st.integers(0, 2**32 - 1)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def svd_product(u, s, v):
    return (u * s) @ v


def tucker_product(u, core, v):
    return np.einsum("oa,ab...,bi->oi...", u, core, v)


def cp_product(factors):
    letters = "abcdef"[: len(factors)]
    return np.einsum(",".join(f"{one}r" for one in letters) + f"->{letters}", *factors)


def train_product(cores):
    found = cores[0]
    for core in cores[1:]:
        found = np.tensordot(found, core, (-1, 0))
    return found.reshape([core.shape[1] for core in cores])


def matrix_of_train(cores):
    order = len(cores)
    rows, columns = [core.shape[1] for core in cores], [core.shape[2] for core in cores]
    flat = [core.reshape(core.shape[0], -1, core.shape[3]) for core in cores]
    paired = train_product(flat).reshape([size for pair in zip(rows, columns, strict=True) for size in pair])
    order_of_axes = [2 * k for k in range(order)] + [2 * k + 1 for k in range(order)]
    return paired.transpose(order_of_axes).reshape(np.prod(rows), np.prod(columns))


def matrix_of_tree(leaves, transfers, rows, columns):
    level = [leaf.reshape(-1, leaf.shape[2]) for leaf in leaves]
    at = 0
    while len(level) > 1:
        joined = []
        for left, right in zip(level[::2], level[1::2], strict=True):
            joined.append(np.einsum("xa,yb,abc->xyc", left, right, transfers[at]).reshape(-1, transfers[at].shape[2]))
            at += 1
        level = joined
    order = len(rows)
    paired = level[0].reshape([size for pair in zip(rows, columns, strict=True) for size in pair])
    return paired.transpose([2 * k for k in range(order)] + [2 * k + 1 for k in range(order)]).reshape(
        np.prod(rows), np.prod(columns)
    )


@given(SIZES, SIZES, SEEDS)
def test_a_full_svd_gives_the_matrix_back(m, n, seed):
    a = random(seed, m, n)
    assert relative(a, svd_product(*truncated_svd(a, min(m, n)))) < 1e-5


@given(SIZES, SIZES, st.integers(1, 3), SEEDS)
def test_full_tucker_gives_the_tensor_back(o, i, k, seed):
    w = random(seed, o, i, k, k)
    assert relative(w, tucker_product(*tucker2(w, (o, i)))) < 1e-5


@given(SIZES, SIZES, st.integers(1, 3), SEEDS)
def test_cp_of_sufficient_rank_gives_the_tensor_back(o, i, k, seed):
    w = random(seed, o, i, k, k)
    rank = w.size // max(w.shape)
    assert relative(w, cp_product(cp_als(w, rank))) < 1e-5


@given(st.lists(SIZES, min_size=2, max_size=4), SEEDS)
def test_a_train_of_full_ranks_gives_the_tensor_back(shape, seed):
    w = random(seed, *shape)
    assert relative(w, train_product(tt_svd(w, [10**6] * (len(shape) - 1)))) < 1e-5


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=4), SEEDS)
def test_a_train_of_matrices_of_full_ranks_gives_the_matrix_back(modes, seed):
    rows, columns = zip(*modes, strict=True)
    w = random(seed, int(np.prod(rows)), int(np.prod(columns)))
    assert relative(w, matrix_of_train(tt_matrix(w, rows, columns, [10**6] * (len(modes) - 1)))) < 1e-5


@given(st.sampled_from([2, 4]), st.data(), SEEDS)
def test_a_tree_of_full_ranks_gives_the_matrix_back(order, data, seed):
    rows, columns = (data.draw(st.lists(st.integers(1, 3), min_size=order, max_size=order)) for _ in range(2))
    w = random(seed, int(np.prod(rows)), int(np.prod(columns)))
    leaves, transfers = ht_matrix(w, rows, columns, 10**6)
    assert relative(w, matrix_of_tree(leaves, transfers, rows, columns)) < 1e-5


def test_a_tree_wants_a_power_of_two_of_modes():
    with pytest.raises(ValueError) as caught:
        ht_matrix(random(0, 8, 8), (2, 2, 2), (2, 2, 2), 4)
    assert str(caught.value) == "hierarchical Tucker: expected a power of two of modes, got 3"


def low_rank(seed, *shape, rank=4, noise=0.1):
    rng = np.random.default_rng(seed)
    factors = [rng.standard_normal((size, rank)) for size in shape]
    return cp_product(factors) + noise * rng.standard_normal(shape)


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (100, 300)])
@pytest.mark.parametrize("rank", [1, 8, 32])
def test_svd_is_as_near_as_the_best(shape, rank):
    a = random(1, *shape)
    best = np.sqrt(np.square(np.linalg.svd(a)[1][rank:]).sum()) / np.linalg.norm(a)
    assert abs(relative(a, svd_product(*truncated_svd(a, rank))) - best) < 1e-6


@pytest.mark.parametrize("ranks", [(8, 8), (16, 4), (24, 24)])
def test_tucker_is_as_near_as_tensorly(ranks):
    w = random(2, 32, 24, 3, 3)
    (core, factors), _ = partial_tucker(w, rank=list(ranks), modes=[0, 1], n_iter_max=200, tol=1e-10)
    theirs = relative(w, tensorly.tenalg.multi_mode_dot(core, factors, modes=[0, 1]))
    assert relative(w, tucker_product(*tucker2(w, ranks, sweeps=200))) < theirs + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_cp_is_as_near_as_tensorly(seed):
    w = low_rank(seed, 16, 12, 5, 5)
    theirs = parafac(w, 4, n_iter_max=500, init="svd", tol=1e-10)
    ours = cp_als(w, 4, sweeps=500, tolerance=1e-10)
    assert relative(w, cp_product(ours)) < relative(w, tensorly.cp_to_tensor(theirs)) + 1e-6


@pytest.mark.parametrize("ranks", [(4, 4, 4), (16, 8, 3)])
def test_a_train_is_as_near_as_tensorly(ranks):
    w = random(3, 24, 3, 3, 20)
    theirs = tensorly.tt_to_tensor(tensor_train(w, [1, *ranks, 1]))
    assert abs(relative(w, train_product(tt_svd(w, ranks))) - relative(w, theirs)) < 1e-6


@given(SEEDS)
@settings(max_examples=20)
def test_signs_do_not_depend_on_those_of_the_input(seed):
    a = random(seed, 9, 7)
    u, s, v = truncated_svd(a, 4)
    flipped, s_flipped, v_flipped = truncated_svd(-a, 4)
    np.testing.assert_allclose(u, flipped, atol=1e-9)
    np.testing.assert_allclose(s, s_flipped, atol=1e-9)
    np.testing.assert_allclose(v, -v_flipped, atol=1e-9)
    assert (u[np.abs(u).argmax(axis=0), np.arange(4)] > 0).all()


def test_same_input_same_bits():
    w = random(4, 20, 20, 3, 3)
    assert [x.tobytes() for x in tucker2(w, (8, 8))] == [x.tobytes() for x in tucker2(w.copy(), (8, 8))]
    assert [x.tobytes() for x in cp_als(w, 8, sweeps=5)] == [x.tobytes() for x in cp_als(w.copy(), 8, sweeps=5)]


@pytest.mark.parametrize(
    ("size", "order", "modes"),
    [(1024, 2, (32, 32)), (6272, 4, (14, 8, 8, 7)), (7, 2, (7, 1)), (12, 3, (3, 2, 2)), (4096, 4, (8, 8, 8, 8))],
)
def test_modes_are_near_square(size, order, modes):
    assert near_square_modes(size, order) == modes


@pytest.mark.parametrize("rank", [0, 1, 5, 12])
@pytest.mark.parametrize("shape", [(40, 100), (100, 40)])
def test_evbmf_finds_the_rank_of_a_noisy_matrix(rank, shape):
    rng = np.random.default_rng(rank)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    assert evbmf_rank(signal + 0.5 * rng.standard_normal(shape)) == rank


def test_evbmf_of_zeros_is_zero():
    assert evbmf_rank(np.zeros((4, 6))) == 0
