"""The pass ``sparsify``: zeros where the pattern wants them, chosen by error, and refused where they are of no use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.errors import DataError, RecipeError, UnsupportedError
from nncomp.passes import Context
from nncomp.targets import Capabilities
from nncomp.verify import verify
from nncomp_prune.patterns import Pattern, pattern_of
from nncomp_prune.sparsify import Sparsify
from nncomp_prune.zeros import by_error, by_size, chosen, exchanged, refitted


@pytest.fixture(scope="session")
def sparsified(context):
    def apply(made, ctx=None, **options):
        found, ctx = made.clone(), ctx or context(made)
        Sparsify(**options).run(found, ctx)
        verify(found)
        return found, ctx

    return apply


def weight(made, layer):
    op = made.find(layer).producer
    return made.array(op.input(1))


def test_two_of_four_neighbouring_channels_stay_at_each_kernel_element(network, sparsified):
    found, ctx = sparsified(network, pattern="2:4")
    zeros = (weight(found, "c3") == 0).reshape(16, 4, 4, 3, 3)
    assert (zeros.sum(axis=2) == 2).all()
    assert ctx.results["sparsify"]["sparsity"] == 0.5
    reasons = {note.node: note.reason for note in ctx.notes if note.event == "declined"}
    assert reasons == {
        "Conv(c1)": "its matrix has 3 columns, no multiple of 4",
        "Conv(c2)": "its matrix has 1 columns, no multiple of 4",
    }


def test_rows_and_tiles_are_balanced_and_blocks_whole(chain, sparsified):
    rows = (weight(sparsified(chain, pattern="row", sparsity=0.25)[0], "h1") == 0).T
    assert (rows.sum(axis=1) == 2).all()
    tiles = (weight(sparsified(chain, pattern="tile 4x4", skip=("output:y",))[0], "m2") == 0).T
    assert (tiles.reshape(3, 4, 6, 4).sum(axis=(1, 3)) == 8).all()
    blocks = (weight(sparsified(chain, pattern="block 4x2", skip=("output:y",))[0], "m2") == 0).T.reshape(3, 4, 12, 2)
    assert set(np.unique(blocks.sum(axis=(1, 3)))) == {0, 8}


@pytest.mark.parametrize("pattern", ["row", "2:4", "block 4x2"])
def test_what_is_left_makes_up_for_the_zeros(chain, pattern, sparsified, distance):
    errors = [
        distance(chain, sparsified(chain, pattern=pattern, method=method)[0])
        for method in ("obs", "magnitude-refit", "magnitude")
    ]
    assert errors[0] < errors[2]
    assert errors[1] < errors[2]


@given(seed=st.integers(0, 99), share=st.sampled_from([0.25, 0.5, 0.75]))
def test_refitting_solves_each_row_over_what_it_has_left(seed, share):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), rng.normal(size=(60, 4))
    square, cross = x.T @ x + 0.1 * np.eye(8), y.T @ x
    start = by_size(rng.normal(size=(4, 8)), Pattern(share))
    found = refitted(start, square, cross)
    for row, given_ in enumerate(start):
        free = np.flatnonzero(given_)
        assert not found[row][given_ == 0].any()
        best = cross[row, free] @ np.linalg.solve(square[np.ix_(free, free)], cross[row, free])
        gained = 2 * found[row] @ cross[row] - found[row] @ square @ found[row]
        assert gained == pytest.approx(best, rel=1e-6)


@given(seed=st.integers(0, 99))
def test_zeros_by_error_cost_less_than_zeros_by_size(seed):
    rng = np.random.default_rng(seed)
    x, target = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16)), rng.normal(size=(12, 16))
    square = x.T @ x + np.eye(16)
    pattern = pattern_of("2:4", 0.5, option="pattern")

    def cost(found):
        return np.einsum("ok,kl,ol->", found - target, square, found - target)

    cross = target @ square
    found = chosen(target, target, square, cross, pattern)
    for start in (by_error, lambda one, _, pattern: by_size(one, pattern)):
        assert cost(found) < 1.001 * cost(refitted(start(target, square, pattern), square, cross))
    assert (np.count_nonzero(found.reshape(12, 4, 4), axis=2) <= 2).all()


def test_a_pattern_with_a_huge_number_of_choices_is_not_tried_choice_by_choice():
    rng = np.random.default_rng(0)
    weight, rows = rng.normal(size=(2, 64)), rng.normal(size=(256, 64))
    square = rows.T @ rows
    pattern = pattern_of("32:64", 0.5, option="pattern")  # 1.8e18 choices
    zeros = by_size(weight, pattern)
    assert exchanged(zeros, square, weight @ square, pattern) is zeros


def test_a_target_that_gains_nothing_refuses(chain, sparsified, context):
    target = Capabilities(13, (7, 26))
    with pytest.raises(UnsupportedError) as caught:
        sparsified(chain, context(chain, target=target))
    assert caught.value.message == (
        "sparsify: the target computes no faster with zeros of pattern 'element'; it skips none"
    )
    assert (caught.value.code, caught.value.exit_status) == ("NNC-T002", 4)
    sparsified(chain, context(chain, target=target), objective="size")
    target = Capabilities(13, (7, 26), sparse_weights=frozenset({"n:m"}))
    sparsified(chain, context(chain, target=target), pattern="2:4")
    with pytest.raises(UnsupportedError) as caught:
        sparsified(chain, context(chain, target=target), pattern="row")
    assert caught.value.message.endswith("it skips those of n:m")


def test_a_pattern_that_nobody_knows_is_named():
    for text in ("4:2", "5", "block 4", "tile 0x3"):
        with pytest.raises(RecipeError) as caught:
            Sparsify.from_options({"pattern": text})  # before any work
        assert caught.value.message == (
            f"sparsify.pattern: expected 'element', 'row', 'N:M', 'block RxC' or 'tile RxC', got {text!r}"
        )


def test_data_is_asked_for_and_layers_without_the_pattern_are_a_failure(chain, sparsified):
    with pytest.raises(DataError) as caught:
        sparsified(chain, Context())
    assert caught.value.message == "sparsify: method 'obs' needs calibration data"
    found, _ = sparsified(chain, Context(), method="magnitude")
    assert np.mean(weight(found, "m2") == 0) == 0.5
    with pytest.raises(UnsupportedError) as caught:
        sparsified(chain, pattern="block 5x5")
    assert caught.value.message == (
        "sparsify: no layer can have the pattern 'block 5x5' (1 x its matrix has 24 rows, no multiple of 5; "
        "1 x its matrix has 12 rows, no multiple of 5; 1 x its matrix has 4 rows, no multiple of 5)"
    )
