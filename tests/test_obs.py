"""The sweep of the optimal brain surgeon, against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.obs import inverse_factor, sweep


class Recorded:
    """Sends each column to ``decide`` and remembers what it was shown."""

    def __init__(self, decide):
        self.decide, self.blocks, self.seen = decide, [], []

    def begin(self, columns, weights, pivots):
        self.blocks.append((columns.tolist(), weights.copy(), pivots.copy()))

    def column(self, index, weights):
        self.seen.append(index)
        return self.decide(index, weights)


def problem(outputs=5, inputs=24, samples=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, inputs)) @ rng.standard_normal((inputs, inputs))
    return rng.standard_normal((outputs, inputs)), x.T @ x / samples


def error(difference, moments):
    return float(np.trace(difference @ moments @ difference.T))


def test_the_factor_is_that_of_the_inverse():
    _, moments = problem()
    factor = inverse_factor(moments, damping=0.0)
    assert np.array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor.T @ factor @ moments, np.eye(24), atol=1e-8)


def test_damping_is_relative_to_the_diagonal():
    _, moments = problem()
    damped = moments + 0.1 * np.diagonal(moments).mean() * np.eye(24)
    np.testing.assert_allclose(inverse_factor(moments, damping=0.1), inverse_factor(damped, damping=0.0), rtol=1e-9)


def test_an_input_that_was_always_zero_takes_part_in_nothing():
    _, moments = problem()
    moments[3] = moments[:, 3] = 0
    factor = inverse_factor(moments)
    assert np.isfinite(factor).all()
    assert np.count_nonzero(factor[3]) == np.count_nonzero(factor[:, 3]) == 1


@pytest.mark.parametrize("damping", [0.0, 1e-12])
def test_moments_of_few_samples_are_damped_until_they_have_an_inverse(damping):
    x = np.ones((2, 16))
    assert np.isfinite(inverse_factor(x.T @ x, damping=damping)).all()


def test_moments_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="moments that are not finite"):
        inverse_factor(np.full((2, 2), np.nan))


def test_the_columns_behind_make_up_for_the_first_as_least_squares_does():
    weight, moments = problem()
    kept = {}

    def decide(index, column):
        kept[index] = column
        return np.zeros_like(column) if index == 0 else column

    result = sweep(weight, inverse_factor(moments, damping=0.0), Recorded(decide), block=7)
    best = weight.copy()
    best[:, 0] = 0
    best[:, 1:] += weight[:, :1] @ moments[:1, 1:] @ np.linalg.inv(moments[1:, 1:])
    np.testing.assert_allclose(result, best, atol=1e-8)


@given(st.integers(1, 30), st.sampled_from([1, 4, 128]), st.integers(0, 5))
def test_blocks_and_a_given_order_change_what_is_called_and_not_the_result(inputs, block, seed):
    weight, moments = problem(inputs=inputs, seed=seed)
    order = np.random.default_rng(seed).permutation(inputs)
    factor = inverse_factor(moments[np.ix_(order, order)])
    decision = Recorded(lambda index, column: np.tanh(column))
    result = sweep(weight, factor, decision, order=order, block=block)
    whole = sweep(weight, factor, Recorded(lambda index, column: np.tanh(column)), order=order, block=inputs)
    np.testing.assert_allclose(result, whole, atol=1e-6)
    assert decision.seen == order.tolist()
    assert [index for columns, _, _ in decision.blocks for index in columns] == order.tolist()
    assert decision.blocks[0][1].shape == (5, min(block, inputs))
    np.testing.assert_array_equal(np.concatenate([pivots for _, _, pivots in decision.blocks]), np.diagonal(factor))


def test_rounding_in_a_sweep_costs_less_than_rounding_at_once():
    weight, moments = problem()
    result = sweep(4 * weight, inverse_factor(moments), Recorded(lambda index, column: np.rint(column)))
    assert np.array_equal(result, np.rint(result))
    assert error(result - 4 * weight, moments) < 0.6 * error(np.rint(4 * weight) - 4 * weight, moments)
