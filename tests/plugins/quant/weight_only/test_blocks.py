"""Block-wise formats: what covers a block, what is nearest, and how codes are packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nncomp.ir.tensors import unpacked_codes
from nncomp_quant.weight_only.blocks import Blocks

FORMATS = st.builds(Blocks, st.sampled_from([2, 4, 8]), st.sampled_from([16, 32]), st.booleans())
WEIGHTS = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 50)), elements=st.floats(-1e3, 1e3, width=32))


@given(FORMATS, WEIGHTS)
def test_no_weight_moves_by_more_than_a_step(blocks, rows):
    params = blocks.params(rows)
    codes = blocks.codes(rows, params)
    step = np.repeat(params.scale, blocks.size, axis=1)[:, : rows.shape[1]]
    assert codes.shape == (len(rows), blocks.count(rows.shape[1]), blocks.size)
    assert (params.scale > 0).all()
    assert (np.abs(blocks.rounded(rows, params) - rows) <= step * 1.001).all()


@given(FORMATS, WEIGHTS)
def test_zero_stays_zero_and_padding_is_zero(blocks, rows):
    rows = np.where(rows > 0, 0, rows)
    params = blocks.params(rows)
    values = blocks.values(blocks.codes(rows, params), params)
    assert (values[:, : rows.shape[1]][rows == 0] == 0).all()
    assert (values[:, rows.shape[1] :] == 0).all()


@given(FORMATS, WEIGHTS)
def test_what_has_been_rounded_is_rounded_to_itself(blocks, rows):
    params = blocks.params(rows)
    once = blocks.rounded(rows, params)
    np.testing.assert_array_equal(blocks.rounded(once, params), once)


@given(st.sampled_from([2, 4, 8]), st.integers(1, 33), st.data())
def test_packing_is_onnx_s_own(bits, count, data):
    codes = data.draw(arrays(np.uint8, (3, count), elements=st.integers(0, 2**bits - 1)))
    packed = Blocks(bits, 16, symmetric=False).pack(codes)
    assert packed.shape == (3, -(-count * bits // 8))
    for row, one in zip(packed, codes, strict=True):
        np.testing.assert_array_equal(unpacked_codes(row, bits, count), one)


def test_packing_leaves_codes_as_they_are():
    codes = np.arange(16, dtype=np.uint8).reshape(1, 16)
    Blocks(4, 16, symmetric=False).pack(codes)
    assert codes.tolist() == [list(range(16))]


def test_a_symmetric_block_reaches_one_step_further_down():
    rows = np.zeros((2, 16), np.float32)
    rows[0, 0], rows[1, 0] = -8, 7
    params = Blocks(4, 16, symmetric=True).params(rows)
    assert params.scale.ravel().tolist() == [1, 1]
    assert params.zero.ravel().tolist() == [8, 8]


def test_an_asymmetric_block_holds_zero():
    rows = np.full((1, 16), 3, np.float32)
    params = Blocks(4, 16, symmetric=False).params(rows)
    assert (params.scale.item(), params.zero.item()) == (pytest.approx(0.2), 0)


def test_a_block_of_zeros_and_one_of_huge_numbers_have_scales():
    big = np.finfo(np.float32).max / 2
    rows = np.zeros((2, 16), np.float32)
    rows[1, :2] = big, -big
    blocks = Blocks(4, 16, symmetric=False)
    params = blocks.params(rows)
    assert params.scale[0] == 1
    assert np.isfinite(params.scale).all()
    assert np.isfinite(blocks.rounded(rows, params)).all()


@given(FORMATS, WEIGHTS)
def test_a_fitted_range_is_never_worse(blocks, rows):
    importance = np.linspace(0, 2, rows.shape[1], dtype=np.float32)

    def error(params):
        return (importance * np.square(blocks.rounded(rows, params) - rows, dtype=np.float64)).sum(axis=1)

    plain, fitted = error(blocks.params(rows)), error(blocks.fitted(rows, importance))
    assert (fitted <= plain * 1.001 + 1e-9).all()


def test_a_fitted_range_gives_up_an_outlier_that_does_not_matter():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1, 64)).astype(np.float32)
    rows[0, 5] = 6
    importance = np.ones(64)
    importance[5] = 1e-3
    blocks = Blocks(4, 64, symmetric=False)
    assert blocks.fitted(rows, importance).scale.item() < 0.75 * blocks.params(rows).scale.item()
