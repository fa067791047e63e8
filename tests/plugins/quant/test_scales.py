"""Scales from ranges, histograms and weights: what holds for all of them, and what each method is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomp.statistics import Histogram, Range
from nncomp_quant.scales import (
    LEVELS,
    Method,
    QuantParams,
    activation_params,
    chosen_range,
    pair_safe_scale,
    quantize_weight,
    symmetric_scale,
    within,
    without_weight,
)

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROUNDING = 1 + 1e-6  # of float32

# ------------------------------------------------------------------ activations


@given(FINITE, FINITE)
def test_activation_parameters_are_finite_cover_the_range_and_have_a_code_for_zero(a, b):
    low, high = min(a, b), max(a, b)
    params = activation_params(low, high)
    scale = float(params.scale)
    assert 0 < scale < np.inf
    assert params.scale.dtype == np.float32
    assert params.zero_point.dtype == np.uint8
    assert params.low <= 0 <= params.high
    # The zero point is rounded: half a step may be missing at one end.
    assert params.low <= min(low, 0) + scale / 2 * ROUNDING + 1e-30
    assert params.high >= max(high, 0) - scale / 2 * ROUNDING - 1e-30


@given(FINITE, FINITE)
def test_activation_parameters_waste_no_codes(a, b):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    if high - low > 1e-20:
        assert float(activation_params(low, high).scale) * LEVELS <= (high - low) * ROUNDING


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0, 255, 1, 0),
        (-255, 0, 1, 255),
        (-128, 127, 1, 128),
        (3, 510, 2, 0),  # widened to hold zero
        (-510, -3, 2, 255),
        (0, 0, 1, 0),
        (0, 1e-31, 1, 0),  # as good as zero
        (-1e38, 1e38, np.float32(2e38 / 255), 127),
    ],
)
def test_activation_parameters_by_hand(low, high, scale, zero_point):
    assert activation_params(low, high) == QuantParams(np.float32(scale), np.uint8(zero_point))


@pytest.mark.parametrize("extent", [1e300, float("inf")])
def test_a_range_beyond_float32_gets_the_largest_scale_that_covers_float32(extent):
    params = activation_params(0, extent)
    assert np.isfinite(params.scale)
    assert params.high == pytest.approx(np.finfo(np.float32).max)


def test_low_and_high_are_the_numbers_of_the_outermost_codes():
    params = QuantParams(np.float32(0.5), np.uint8(55))
    assert (params.low, params.high) == (-27.5, 100)


# ------------------------------------------------------------------ clipping by the quantizer itself

BOUND = st.one_of(st.none(), st.floats(0.0009765625, 1e4, width=32))


@given(st.floats(-1e4, 0, width=32), st.floats(0, 1e4, width=32), BOUND, BOUND)
def test_parameters_within_bounds_have_no_code_beyond_them(low, high, below, above):
    params = activation_params(low, high)
    bounded = within(params, None if below is None else -below, above)
    assert bounded.zero_point == params.zero_point
    assert 0 < bounded.scale <= params.scale
    assert below is None or bounded.low >= -below
    assert above is None or bounded.high <= above


def test_parameters_that_keep_the_bounds_stay():
    params = activation_params(-1, 2)
    assert within(params, None, None) == params
    assert within(params, -3, 4) == params


def test_a_symmetric_clip_costs_less_than_half_a_step():
    params = within(activation_params(-1, 1), -1, 1)
    assert params == QuantParams(np.float32(1 / 128), np.uint8(127))


def test_bounds_of_zero_leave_the_scale_positive():
    params = activation_params(0, 0)
    assert within(params, 0, 0) == params


# ------------------------------------------------------------------ ranges


def histogram(*arrays, **options):
    found = Histogram(**options)
    for array in arrays:
        found.update(np.asarray(array, np.float32))
    return found


VALUES = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32))


@given(VALUES, st.sampled_from(list(Method)), st.floats(50.5, 100))
def test_every_method_stays_inside_what_was_seen(values, method, percentile):
    low, high = chosen_range(histogram(values), method, percentile)
    # Zero always has a code, so the range may be widened to it.
    assert min(float(values.min()), 0) <= low * (1 - 1e-12) <= max(float(values.max()), 0) + 1e-30
    assert min(float(values.min()), 0) - 1e-30 <= high <= max(float(values.max()), 0) * (1 + 1e-12)
    assert low <= high


@given(VALUES)
def test_minmax_is_the_same_from_a_range_and_from_a_histogram(values):
    seen = Range()
    seen.update(values)
    expected = (float(values.min()), float(values.max()))
    assert chosen_range(seen, Method.MINMAX) == chosen_range(histogram(values), Method.MINMAX) == expected


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("seen", [Range(), Histogram(), histogram([np.nan, np.inf])], ids=["range", "none", "bad"])
def test_nothing_seen_is_a_range_of_zero(method, seen):
    assert chosen_range(seen, method) == (0, 0)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("value", [0.0, 7.0, -7.0, 1e38, -1e38, 1e-38])
def test_a_constant_gives_a_finite_scale(method, value):
    params = activation_params(*chosen_range(histogram(np.full(100, value)), method))
    assert 0 < params.scale < np.inf
    assert params.low <= 0 <= params.high
    if abs(value) > 1e-30 and method in (Method.MINMAX, Method.PERCENTILE):
        codes = np.clip(np.rint(value / float(params.scale)) + int(params.zero_point), 0, 255)
        assert float(params.scale) * (codes - int(params.zero_point)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("method", Method)
def test_zeros_and_what_lies_in_their_bin_are_no_reason_to_clip(method):
    """A Relu makes most values zero; large tensors are read with a stride, which may see nothing else."""
    seen = Histogram(per_sample=2)
    seen.update(np.array([0, 3, 0, 0], np.float32))
    assert seen.counts.sum() == 2, "the three was not looked at"
    assert chosen_range(seen, method) == (0, 3)


def heavy_tailed():
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    return np.concatenate([values, [-40, 40]]).astype(np.float32)


def rounding_error(values, low, high):
    params = activation_params(low, high)
    codes = np.clip(np.rint(values / params.scale) + int(params.zero_point), 0, 255)
    return float(np.mean((values - params.scale * (codes - int(params.zero_point))) ** 2))


def test_mse_beats_minmax_on_a_heavy_tail():
    values = heavy_tailed()
    seen = histogram(values, per_sample=len(values))
    clipped = rounding_error(values, *chosen_range(seen, Method.MSE))
    assert clipped < 0.75 * rounding_error(values, *chosen_range(seen, Method.MINMAX))


def test_mse_keeps_a_flat_distribution_whole():
    low, high = chosen_range(histogram(np.linspace(-1, 3, 8000)), Method.MSE)
    assert (low, high) == (-1, 3)


def test_mse_is_near_the_best_of_all_shrunken_ranges():
    values = heavy_tailed()
    factors = np.linspace(0.25, 1, 8)
    best = min(rounding_error(values, -40 * a, 40 * b) for a in factors for b in factors)
    seen = histogram(values, per_sample=len(values))
    assert rounding_error(values, *chosen_range(seen, Method.MSE)) <= 1.1 * best


@pytest.mark.parametrize("method", [Method.MSE, Method.ENTROPY, Method.PERCENTILE])
def test_methods_that_clip_shrink_a_heavy_tail(method):
    values = heavy_tailed()
    low, high = chosen_range(histogram(values, per_sample=len(values)), method, 99.5)
    assert -40 < low < 0 < high < 40


@pytest.mark.parametrize("percentile", [99, 99.9, 100])
def test_percentile_leaves_out_so_much_of_the_mass_at_each_end_and_no_more(percentile):
    values = np.random.default_rng(1).normal(0, 1, 8000).astype(np.float32)
    low, high = chosen_range(histogram(values), Method.PERCENTILE, percentile)
    out = 1 - percentile / 100
    assert np.mean(values < low) <= out + 1e-9
    assert np.mean(values > high) <= out + 1e-9
    width = 2 * histogram(values).bin_width
    assert np.mean(values <= low + width) >= out
    assert np.mean(values >= high - width) >= out


def test_entropy_clips_no_more_than_it_must_of_a_flat_distribution():
    low, high = chosen_range(histogram(np.random.default_rng(2).uniform(0, 1, 8000)), Method.ENTROPY)
    assert low == 0
    assert high > 0.9


# ------------------------------------------------------------------ weights

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.one_of(st.just(0.0), st.floats(-(2.0**127), 2.0**127, width=32), st.floats(-1, 1, width=32)),
)


def slices(array, axis):
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


@given(WEIGHTS, st.integers(0, 1), st.integers(2, 8))
def test_a_quantized_weight_is_off_by_half_a_step_at_most(weight, axis, bits):
    codes, scale = quantize_weight(weight, axis, bits=bits)
    limit = 2 ** (bits - 1) - 1
    assert (codes.dtype, codes.shape, scale.dtype, scale.shape) == (
        np.int8,
        weight.shape,
        np.float32,
        weight.shape[axis : axis + 1],
    )
    assert np.abs(codes).max() <= limit
    assert (scale > 0).all()
    steps = scale.astype(np.float64)[:, None]
    error = np.abs(slices(weight, axis).astype(np.float64) - steps * slices(codes, axis))
    weightless = without_weight(weight, axis)
    assert (error[~weightless] <= (steps / 2 * (1 + 1e-5))[~weightless]).all()


@given(WEIGHTS, st.integers(0, 1))
def test_the_largest_weight_of_a_channel_has_the_largest_code(weight, axis):
    codes, _ = quantize_weight(weight, axis)
    weightless = without_weight(weight, axis)
    assert (np.abs(slices(codes, axis)).max(axis=1)[~weightless] == 127).all()


@pytest.mark.parametrize("small", [0.0, 1e-40, -1e-45])
def test_a_channel_without_weight_gets_scale_one_and_zeros(small):
    weight = np.array([[1, -2], [small, 0], [3, 4]], np.float32)
    codes, scale = quantize_weight(weight, 0)
    assert scale[1] == 1
    assert not codes[1].any()
    assert without_weight(weight, 0).tolist() == [False, True, False]
    assert without_weight(np.zeros((2, 2), np.float32), None).tolist() is True


def test_one_scale_in_all():
    codes, scale = quantize_weight(np.array([[1, -2], [0.5, 0]], np.float32), None)
    assert scale.shape == ()
    assert scale == np.float32(2) / np.float32(127)
    assert codes.tolist() == [[64, -127], [32, 0]]


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_a_weight_without_elements_is_quantized(axis):
    codes, scale = quantize_weight(np.zeros((0, 3), np.float32), axis)
    assert codes.shape == (0, 3)
    assert (scale == 1).all()


def test_quantization_leaves_the_weight_alone():
    weight = np.array([[1, -2]], np.float32)
    weight.flags.writeable = False
    quantize_weight(weight, 0)
    assert weight.tolist() == [[1, -2]]


# ------------------------------------------------------------------ weights on CPUs that add pairs in 16 bits


def rows_of(weight, axis):
    """Flatten rows as kernels do: channels last."""
    rows = np.moveaxis(weight, axis, 0)
    return (np.moveaxis(rows, 1, -1) if rows.ndim > 2 else rows).reshape(rows.shape[0], -1)


def worst_pair(codes, axis):
    rows = rows_of(codes.astype(np.int32), axis)
    even = rows.shape[1] // 2 * 2
    return int(np.abs(rows[:, 0:even:2] + rows[:, 1:even:2]).max(initial=0))


@given(WEIGHTS, st.integers(0, 1), st.booleans())
def test_no_pair_of_neighbouring_codes_can_saturate(weight, axis, per_channel):
    scale = pair_safe_scale(weight, axis, per_channel=per_channel)
    codes, _ = quantize_weight(weight, axis if per_channel else None, scale=scale)
    assert worst_pair(codes, axis) <= 128
    assert np.iinfo(np.int16).max >= 255 * 128


@given(WEIGHTS, st.integers(0, 1), st.booleans())
def test_pair_safety_widens_a_scale_at_most_twofold(weight, axis, per_channel):
    plain = symmetric_scale(weight, axis if per_channel else None).astype(np.float64)
    safe = pair_safe_scale(weight, axis, per_channel=per_channel).astype(np.float64)
    assert safe.shape == plain.shape
    assert (safe >= plain).all()
    assert (safe <= 2 * plain * ROUNDING).all()


def test_a_row_whose_pairs_are_safe_keeps_its_scale():
    weight = np.array([[1, -1, 1, 0], [0.5, 0.5, -0.5, -0.5], [1, 1, 0, 0]], np.float32)
    widened = pair_safe_scale(weight, 0) / symmetric_scale(weight, 0)
    assert widened.tolist() == pytest.approx([1, 2, 2])


def test_pairs_of_a_convolution_are_of_channels_not_of_pixels():
    across = np.zeros((1, 2, 1, 2), np.float32)
    across[0, :, 0, 0] = 1  # both channels of one pixel
    along = np.zeros((1, 2, 1, 2), np.float32)
    along[0, 0, 0, :] = 1  # one channel of both pixels
    assert pair_safe_scale(across, 0)[0] == pytest.approx(2 / 127)
    assert pair_safe_scale(along, 0)[0] == pytest.approx(1 / 127)


def test_pairs_of_a_product_run_along_its_inner_axis():
    weight = np.array([[1, 0], [1, 1]], np.float32)  # (K, N)
    assert pair_safe_scale(weight, 1).tolist() == pytest.approx([2 / 127, 1 / 127])


def test_the_last_element_of_an_odd_row_has_no_neighbour():
    assert pair_safe_scale(np.array([[1, 0, 1]], np.float32), 0)[0] == pytest.approx(1 / 127)


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_pair_safety_costs_less_than_a_bit(seed):
    weight = np.random.default_rng(seed).normal(0, 1, (8, 64)).astype(np.float32)
    safe = quantize_weight(weight, 0, scale=pair_safe_scale(weight, 0))
    reduced = quantize_weight(weight, 0, bits=7)
    errors = [float(np.square(weight - codes * scale[:, None]).sum()) for codes, scale in (safe, reduced)]
    assert errors[0] < errors[1]
