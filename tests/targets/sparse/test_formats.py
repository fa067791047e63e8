"""Formats: what is encoded is decoded, and closed forms of sizes are those of the encoders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nncomp_sparse.activations import run_pads
from nncomp_sparse.encoders import (
    decode_bitmask,
    decode_columns,
    decode_runs,
    encode_bitmask,
    encode_columns,
    encode_runs,
)
from nncomp_sparse.formats import conforms, expected_pads, stored_bits
from nncomp_sparse.hardware import Format
from nncomp_sparse.layer import Operand

FIBERS = arrays(np.int8, st.integers(0, 200), elements=st.sampled_from([0, 0, 0, 0, 0, 0, 1, -3]))


@given(FIBERS, st.integers(1, 6))
def test_what_is_encoded_is_decoded(fiber, bits):
    code = encode_runs(fiber, bits)
    np.testing.assert_array_equal(decode_runs(code), fiber)
    assert (code.runs < 2**bits).all()
    np.testing.assert_array_equal(decode_bitmask(*encode_bitmask(fiber), fiber.size), fiber)
    matrix = np.resize(fiber, (5, 7)) if fiber.size else np.zeros((5, 7), np.int8)
    np.testing.assert_array_equal(decode_columns(encode_columns(matrix, bits)), matrix)


@given(FIBERS, st.integers(1, 6))
def test_padding_is_counted_as_the_encoder_writes_it(fiber, bits):
    entries = len(encode_runs(fiber, bits).runs)
    assert entries == np.count_nonzero(fiber) + run_pads(fiber != 0)[bits]


@pytest.mark.parametrize("bits", [3, 4, 5])
@pytest.mark.parametrize("density", [0.04, 0.1, 0.3])
@pytest.mark.parametrize("length", [64, 512, 4096])
def test_the_closed_form_is_within_half_a_percent_of_the_encoder(bits, density, length):
    rng, count = np.random.default_rng(0), max(round(density * length), 1)
    repeats = 200_000 // length + 200
    entries = 0
    for _ in range(repeats):
        fiber = np.zeros(length, np.int8)
        fiber[rng.choice(length, count, replace=False)] = 1
        entries += len(encode_runs(fiber, bits).runs)
    assert abs((count + expected_pads(length, count, bits)) / (entries / repeats) - 1) < 0.005


@pytest.mark.parametrize(
    ("form", "payload", "metadata"),
    [
        ({"format": "dense"}, 8 * 100, 0),
        ({"format": "bitmask"}, 8 * 10, 100),
        ({"format": "coordinate"}, 8 * 10, 10 * 7),
        ({"format": "run-length", "index_bits": 16}, 8 * 10, 16 * 10),
        ({"format": "relative-index", "index_bits": 16, "pointer_bits": 12}, 8 * 10, 16 * 10 + 12 * 2),
        ({"format": "codebook", "index_bits": 16, "code_bits": 4, "pointer_bits": 0}, 4 * 10 + 8 * 16, 160),
    ],
)
def test_sizes_are_what_the_formats_say(form, payload, metadata):
    stored = stored_bits(Operand.given(100, 0.1), Format.model_validate(form), 8)
    assert (round(stored.payload, 6), round(stored.metadata, 6)) == (payload, metadata)


def test_two_of_four_holds_only_where_each_four_neighbours_keep_to_it():
    mask = np.zeros((1, 2, 8, 1, 1), bool)
    mask[:, :, [0, 1, 4, 6]] = True
    good = Operand(16, nonzeros=8, mask=mask, known="measured")
    form = Format(format="structured", n=2, m=4)
    assert conforms(good, 2, 4)
    assert stored_bits(good, form, 8).bits == 8 * 8 + 8 * 2
    mask = mask.copy()
    mask[0, 0, 2] = True
    assert not conforms(Operand(16, nonzeros=9, mask=mask, known="measured"), 2, 4)
    assert stored_bits(Operand(16, nonzeros=9, mask=mask, known="measured"), form, 8).bits == 16 * 8


def test_huffman_is_bounded_by_the_entropy():
    counts = np.array([8.0, 4, 2, 2])
    form = Format(format="codebook", huffman=True, index_bits=16, code_bits=4, pointer_bits=0)
    stored = stored_bits(Operand(16, nonzeros=16.0, codes=counts), form, 8)
    assert stored.payload == pytest.approx(16 * 1.75 + 8 * 16)
