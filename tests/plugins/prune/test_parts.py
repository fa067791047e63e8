"""The parts of pruning: elimination is least squares, prices are exact, and allocations meet their budgets."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nncomp.axes import analyse
from nncomp.infer import infer_types
from nncomp.ops import builtin_table, layer_bias, set_layer_bias
from nncomp.statistics import Rows, residual_aims
from nncomp.statistics.moments import MomentSums
from nncomp.statistics.rows import RowStore
from nncomp.testing import assert_same_function, graph
from nncomp_prune.allocation import Curve, allocate, evenly, levels
from nncomp_prune.elimination import Elimination, Problem
from nncomp_prune.fitting import fit, held_out_error, layer_of, ridge_of, ridges
from nncomp_prune.pricing import macs_model, params_model
from nncomp_prune.rectified import bounds_behind, rectified
from nncomp_prune.tracks import _places


def problem(seed, outputs=4, atoms=6, wide=2):
    rng = np.random.default_rng(seed)
    size = atoms * wide
    x = rng.normal(size=(60, size)) @ rng.normal(size=(size, size))
    y = x @ rng.normal(size=(size, outputs)) + rng.normal(size=(60, outputs))
    square, cross = x.T @ x + 0.1 * np.eye(size), y.T @ x
    columns = rng.permutation(size).reshape(atoms, wide)
    return Problem(cross @ np.linalg.inv(square), np.linalg.inv(square), columns), square, cross


def residual(square, cross, kept):
    """Return the least squares with these columns, less the energy of y."""
    return -np.trace(cross[:, kept] @ np.linalg.solve(square[np.ix_(kept, kept)], cross[:, kept].T))


@given(seed=st.integers(0, 99), wide=st.integers(1, 3))
def test_what_an_elimination_costs_is_what_least_squares_loses(seed, wide):
    one, square, cross = problem(seed, wide=wide)
    everything = residual(square, cross, np.arange(len(square)))
    prices = one.costs(np.ones(6, bool))
    for atom, price in enumerate(prices):
        kept = np.setdiff1d(np.arange(len(square)), one.columns[atom])
        np.testing.assert_allclose(price, residual(square, cross, kept) - everything, rtol=1e-6, atol=1e-8)
    elimination = Elimination([one], 6)
    elimination.run(4)
    assert elimination.order[0] == int(np.argmin(prices))
    kept = np.setdiff1d(np.arange(len(square)), one.columns[elimination.order])
    np.testing.assert_allclose(elimination.costs[-1], residual(square, cross, kept) - everything, rtol=1e-6)
    solution = np.zeros_like(cross)
    solution[:, kept] = np.linalg.solve(square[np.ix_(kept, kept)], cross[:, kept].T).T
    np.testing.assert_allclose(one.weight, solution, rtol=1e-5, atol=1e-8)


def test_atoms_may_have_different_numbers_of_columns():
    columns = _places(np.array([7, 0, 3, 7, 9]), np.array([3, 7, 8]))
    assert columns.tolist() == [[2, -1], [0, 3], [-1, -1]]
    whole, square, cross = problem(0, atoms=5, wide=1)
    ragged = Problem(whole.weight.copy(), whole.inverse.copy(), columns)
    prices = ragged.costs(np.ones(3, bool))
    everything = residual(square, cross, np.arange(5))
    for price, gone in zip(prices, ([2], [0, 3], []), strict=True):
        kept = np.setdiff1d(np.arange(5), gone)
        np.testing.assert_allclose(price, residual(square, cross, kept) - everything, rtol=1e-6, atol=1e-8)


@given(size=st.integers(2, 300), align=st.sampled_from([1, 4, 8, 16, 32]), share=st.floats(0, 1))
def test_what_stays_is_aligned(size, align, share):
    least = max(1, int(share * size))
    found = levels(size, align, least)
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    kept = size - found[1:]
    assert (kept >= least).all()
    step = align
    while size < 2 * step > 2:
        step //= 2
    assert (kept % max(step, 1) == 0).all() or size < 2


@given(
    errors=st.lists(st.lists(st.floats(0, 9), min_size=4, max_size=4), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.5, 3), min_size=3, max_size=3),
    share=st.floats(0.2, 0.95),
)
def test_a_budget_is_met_without_a_step_too_many(errors, weights, share):
    curves = [Curve(np.array([0.0, *np.cumsum(one), np.inf]), np.arange(5)) for one in errors]
    prices = np.array(weights[: len(curves)])

    def cost(gone):
        return float(prices @ (1 - gone / 5))

    budget = max(share, 0.21) * prices.sum()
    gone = allocate(curves, cost, budget)
    assert cost(gone) <= budget + 1e-9
    for dimension in np.flatnonzero(gone):
        fewer = gone.copy()
        fewer[dimension] -= 1
        spared = curves[dimension].errors[gone[dimension]] > curves[dimension].errors[fewer[dimension]]
        assert not (spared and cost(fewer) <= budget)


@given(seed=st.integers(0, 200))
def test_on_convex_curves_the_greedy_way_is_close_to_the_best(seed):
    rng = np.random.default_rng(seed)
    curves = [
        Curve(np.array([0.0, *np.cumsum(np.sort(rng.exponential(size=6))), np.inf]), np.arange(7)) for _ in range(3)
    ]

    def cost(gone):
        return float((1 - gone / 8).sum())

    def error(gone):
        return sum(curve.errors[number] for curve, number in zip(curves, gone, strict=True))

    found = allocate(curves, cost, 2.0)
    best = min(error(one) for one in product(range(7), repeat=3) if cost(np.array(one)) <= 2.0)
    assert error(found) <= best + 1e-9


def test_where_the_budget_cannot_be_met_all_that_may_leave_leaves():
    curves = [Curve(np.array([0.0, 1.0, 2.0, np.inf]), np.array([0, 2]))]
    assert allocate(curves, lambda gone: 3.0 - gone.sum(), 0.5).tolist() == [2]
    assert evenly(curves, 0.4).tolist() == [2]
    assert evenly(curves, 0.1).tolist() == [0]


@given(data=st.data())
def test_prices_are_those_of_the_analysis(data):
    made = graph(
        "g (float[1,3,6,6] x) => (float[1,4] y)"
        "<float[8,3,3,3] w1, float[8,1,3,3] w2, float[6,8,1,1] w3, float[6,4] w4>"
        "{ a = Conv (x, w1)  b = Conv <group=8> (a, w2)  c = Conv (b, w3)  p = GlobalAveragePool (c)"
        "  f = Flatten (p)  y = Gemm (f, w4) }"
    )
    found = analyse(made)
    gone = [data.draw(st.integers(0, len(one) - 1)) for one in found.dimensions]
    atoms = np.concatenate([one.atoms[:number] for one, number in zip(found.dimensions, gone, strict=True)])
    assert round(macs_model(found, found.dimensions).total(np.array(gone))) == found.macs(atoms)
    assert round(params_model(found, found.dimensions).total(np.array(gone))) == found.params(atoms)


def test_a_bias_is_found_in_the_layer_or_behind_it():
    made = graph(
        "g (float[2,3] x) => (float[2,4] y) <float[3,4] w, float[4] b, float[4,4] v, float[4] c> {"
        "m = MatMul (x, w)  h = Add (b, m)  y = Gemm <beta=2.0> (h, v, c) }"
    )
    infer_types(made)
    before, ops = made.clone(), builtin_table()
    for name, inside in (("m", False), ("y", True)):
        op = made.find(name).producer
        bias = layer_bias(made, op, ops.matrix(op, made))
        assert bias.inside is inside
        set_layer_bias(made, bias, bias.values)
    assert_same_function(before, made)
    assert made.array(made.find("y").producer.input(2)).tolist() == before.array(before.find("c")).tolist()


def test_the_deeper_of_two_layers_makes_up_for_their_sum():
    made = graph(
        "g (float[1,3,4,4] x) => (float[1,3,4,4] y) <float[3,3,1,1] w, float[3,3,1,1] v, float[3,3,1,1] u> {"
        "a = Conv (x, w)  r = Relu (a)  b = Conv (r, v)  s = Conv (x, u)  y = Add (b, s) }"
    )
    infer_types(made)
    assert residual_aims(made, ["a", "b", "s"]) == {"b": ("y", "s")}


def test_where_rows_are_few_a_stronger_ridge_does_better_on_others():
    made = graph(
        "g (float[n,40] x) => (float[n,3] y) <float[40,3] w, float[3] b> { m = MatMul (x, w)  y = Add (m, b) }"
    )
    infer_types(made)
    layer = layer_of(made, "m", builtin_table())
    rng = np.random.default_rng(0)
    truth = layer.weight + rng.normal(size=layer.weight.shape) / 10

    def moments(rows):
        x = rng.normal(size=(1, rows, 40))
        y = np.einsum("gnk,gok->gno", x, truth) + rng.normal(size=(1, rows, 3))
        sums = MomentSums(1, 3, 40)
        sums.add(x, y)
        return sums.moments()

    few, many, others = moments(30), moments(4000), moments(4000)
    assert ridge_of(few, others, layer, ridge=1e-6) > ridge_of(many, others, layer, ridge=1e-6)
    assert ridge_of(few, others, layer, ridge=1e-6) in ridges(1e-6)
    assert held_out_error(many, others, layer, truth) < held_out_error(many, others, layer, layer.weight)


CUT_OFF = """
g (float[n,6,1,1] x) => (float[n,5,1,1] y)
<float[4,3,1,1] w, float[4] b, float[5,4,1,1] w2, float low = {-0.5}, float high = {1}>
{
   c = Conv <group=2> (x, w, b)
   r = ACTIVATION
   y = Conv (r, w2)
}
"""


@given(seed=st.integers(0, 99), activation=st.sampled_from(["Relu (c)", "Clip (c, low, high)"]), added=st.booleans())
def test_behind_an_activation_a_fit_to_it_is_nearer_than_a_plain_one(seed, activation, added):
    made = graph(CUT_OFF.replace("ACTIVATION", activation))
    infer_types(made)
    layer = layer_of(made, "c", builtin_table())
    rng = np.random.default_rng(seed)
    x, other = rng.normal(size=(2, 300, 3)), rng.normal(size=(2, 300, 2)) if added else None
    shift = 0.0 if other is None else other
    low, high = bounds_behind(made, layer, None)
    assert (low, high) == ((0.0, np.inf) if activation.startswith("Relu") else (-0.5, 1.0))
    total = x @ rng.normal(size=(2, 3, 2)) + shift + rng.normal(size=(2, 300, 2)) / 10
    y = np.where(total < low, low - 5 * (low - total) ** 2, total) - shift  # what is cut off is not linear
    sums = MomentSums(2, 2, 3)
    sums.add(x, y)
    moments = sums.moments()
    plain = fit(moments, layer, ridge=1e-6)
    rows = Rows(x.astype(np.float32), y.astype(np.float32), None if other is None else other.astype(np.float32))
    weight, means = rectified(plain, rows, moments, layer, (low, high), ridge=1e-6)

    def wrong(matrix, bias):
        given = x @ matrix.swapaxes(1, 2) + bias[:, None] + shift
        return np.square(np.clip(given, low, high) - np.clip(y + shift, low, high)).sum()

    bias = (moments.y - np.einsum("gok,gk->go", plain.weight, moments.x)) / moments.count
    assert wrong(weight, means) < 0.8 * wrong(plain.weight, bias)


def test_what_does_not_cut_off_alike_has_no_bounds():
    for activation in ("Sigmoid (c)", "Max (c, low)"):
        made = graph(CUT_OFF.replace("ACTIVATION", activation))
        infer_types(made)
        assert bounds_behind(made, layer_of(made, "c", builtin_table()), None) is None
    made = graph(
        CUT_OFF.replace("ACTIVATION", "Relu (c)").replace("y = Conv (r, w2)", "d = Conv (r, w2) y = Add (d, c)")
    )
    assert bounds_behind(made, layer_of(made, "c", builtin_table()), None) is None


def test_rows_that_take_too_much_are_forgotten():
    x, y = np.ones((1, 4, 3)), np.ones((1, 4, 2))
    y[0, 1] = np.nan
    store = RowStore(1000)
    store.add("a", [(x, y, None)])
    assert store.rows()["a"].x.shape == (1, 3, 3)
    for _ in range(20):
        store.add("a", [(x, y, y)])
    assert store.rows() == {}
