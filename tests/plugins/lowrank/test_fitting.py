"""Factors fitted to data: never worse than where they started, SVD the best of its rank, scales even, prices right."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_lowrank.allocate import Offer, allocate
from nncomp_lowrank.choice import FORMS
from nncomp_lowrank.layers import find_layers
from nncomp_lowrank.network import output_error
from nncomp_lowrank.tt import near_square_modes
from nncomp_lowrank.writing import write_form

CONVOLUTIONS = ["svd-in", "spatial", "tucker", "tt", "cp"]


def weight_and_moments(seed, *shape):
    """Return a weight, and moments of inputs that lie near a space of few dimensions."""
    rng = np.random.default_rng(seed)
    columns = math.prod(shape[1:])
    x = rng.normal(size=(4 * columns, columns // 2)) @ rng.normal(size=(columns // 2, columns))
    x += 0.1 * rng.normal(size=x.shape)
    return rng.normal(size=shape), x.T @ x / len(x)


def error(form, weight, ranks, gram, sweeps):
    factors = form.fitted(weight, ranks, gram, sweeps=sweeps)
    return output_error(form.product(factors, weight.shape) - weight, gram) / output_error(weight, gram)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_sweeps_never_make_a_fit_worse(name, seed):
    weight, gram = weight_and_moments(seed, 6, 5, 3, 3)
    form = FORMS[name]
    ranks = form.ranks(weight.shape, 1)[1]
    errors = [error(form, weight, ranks, gram, sweeps) for sweeps in (0, 1, 3)]
    assert errors[2] <= errors[1] * (1 + 1e-6) <= errors[0] * (1 + 2e-6)


@pytest.mark.parametrize("name", ["svd", *CONVOLUTIONS])
def test_data_make_a_fit_better(name):
    weight, gram = weight_and_moments(1, 8, 6, 3, 3)
    form = FORMS[name]
    ranks = form.ranks(weight.shape, 2)[0]
    plain = form.fitted(weight, ranks, np.eye(len(gram)), sweeps=2)
    blind = output_error(form.product(plain, weight.shape) - weight, gram) / output_error(weight, gram)
    assert error(form, weight, ranks, gram, 2) < blind


def test_svd_is_the_best_of_its_rank():
    weight, gram = weight_and_moments(2, 8, 12)
    root = np.linalg.cholesky(gram)
    best = np.square(np.linalg.svd(weight @ root)[1][3:]).sum() / np.square(weight @ root).sum()
    assert error(FORMS["svd"], weight, (3,), gram, 0) == pytest.approx(best)
    assert FORMS["svd"].errors(weight, [(3,)], gram)[0] == pytest.approx(best * output_error(weight, gram))


@pytest.mark.parametrize("name", ["svd", "tucker"])
def test_errors_without_factors_are_those_of_the_start(name):
    weight, gram = weight_and_moments(3, 8, 6, 3, 3)
    form = FORMS[name]
    ranks = form.ranks(weight.shape, 2)
    told = np.array(form.errors(weight, ranks, gram)) / output_error(weight, gram)
    found = [error(form, weight, one, gram, 0) for one in ranks]
    np.testing.assert_allclose(told, found, rtol=1e-4, atol=1e-9)


def test_errors_of_a_train_over_columns_are_those_of_its_fit():
    weight, gram = weight_and_moments(3, 64, 64)
    form = FORMS["tt-columns"]
    widest = {one[:3]: one for one in sorted(form.ranks(weight.shape, 2))}
    told = np.array(form.errors(weight, form.ranks(weight.shape, 2), gram)) / output_error(weight, gram)
    by_ranks = dict(zip(form.ranks(weight.shape, 2), told, strict=True))
    for one in widest.values():
        found = error(form, weight, one, gram, 0)
        assert found * (1 - 1e-9) <= by_ranks[one] <= 1.3 * found, one  # the fit solves for U once more


def test_a_train_over_columns_finds_the_structure_of_columns():
    rng = np.random.default_rng(0)
    weight = np.einsum("mr,ras,sb->mab", *(rng.normal(size=shape) for shape in ((40, 6), (6, 8, 4), (4, 8))))
    weight = weight.reshape(40, 64)
    _, gram = weight_and_moments(1, 1, 64)
    form = FORMS["tt-columns"]
    assert error(form, weight, (8, 8, 4, 6), gram, 1) < 1e-9
    assert form.errors(weight, [(8, 8, 4, 6)], gram)[0] < 1e-9 * output_error(weight, gram)


def test_channels_between_factors_are_of_like_size():
    model = graph("g (float[1,8,6,6] x) => (float[1,8,6,6] y) <float[8,8,3,3] w> { y = Conv <pads=[1,1,1,1]> (x, w) }")
    infer_types(model)
    ((layer,), _) = find_layers(model, builtin_table())
    for name in ("svd", "tucker", "spatial", "tt", "cp"):
        form = FORMS[name]
        part = layer.tensor()[0]
        factors = form.fitted(part, form.ranks(layer.shape, 2)[1], np.eye(72), sweeps=0)
        arrays = list(form.arrays(layer, [factors]).values())
        for reader, writer in itertools.pairwise(arrays):
            written = np.sqrt(np.square(writer).reshape(len(writer), -1).mean(axis=1))
            axes = tuple(axis for axis in range(4) if axis != 1) if reader.shape[1] > 1 else (1, 2, 3)
            read = np.sqrt(np.square(reader).mean(axis=axes))
            np.testing.assert_allclose(written, read, rtol=0.3)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), max_size=4), min_size=1, max_size=4),
    st.integers(0, 40),
)
def test_allocation_meets_the_budget_and_is_near_the_best(options, budget):
    offers = [[Offer(10, 0), *(Offer(cost, error) for cost, error in one)] for one in options]
    taken = allocate(offers, budget)
    cost = sum(offers[k][index].cost for k, index in enumerate(taken))
    feasible = [
        sum(one.error for one in chosen)
        for chosen in itertools.product(*offers)
        if sum(one.cost for one in chosen) <= budget
    ]
    if not feasible:
        assert cost == sum(min(one.cost for one in each) for each in offers)
        return
    assert cost <= budget
    error = sum(offers[k][index].error for k, index in enumerate(taken))
    assert error <= min(feasible) + 20  # of the last step, one layer's error at most


@pytest.mark.parametrize(("order", "bond"), [(2, 4), (3, 4), (4, 2)])
def test_a_train_multiplies_what_the_literature_says(order, bond):
    """sum_k r_{k-1} m_k n_k r_k prod_{i<k} n_i prod_{i>k} m_i (Deng et al., "TIE", ISCA 2019)."""
    rows, columns = 256, 360
    model = graph(
        f"g (float[1,{columns}] x) => (float[1,{rows}] y) <float[{columns},{rows}] w> {{ y = MatMul (x, w) }}"
    )
    infer_types(model)
    ((layer,), _) = find_layers(model, builtin_table())
    form = FORMS["tt-matrix"]
    factors = form.fitted(layer.tensor()[0], (order, bond), np.ones(columns), sweeps=0)
    write_form(layer, form, [factors])
    infer_types(model)
    assert {op.kind for op in model.ops()} <= {"Reshape", "Transpose", "MatMul"}
    m, n = near_square_modes(rows, order), near_square_modes(columns, order)
    r = [1, *[bond] * (order - 1), 1]
    products = sum(r[k] * m[k] * n[k] * r[k + 1] * math.prod(n[:k]) * math.prod(m[k + 1 :]) for k in range(order))
    table = builtin_table()
    assert sum(table.cost(op, model).macs for op in model.ops()) == products
    run(model, random_feeds(model))
