"""The pass ``equalize``: channels change size, the function does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.data import DataSource
from nncomp.errors import DataError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.ops import builtin_table
from nncomp.passes import Context
from nncomp.runtime import Feeds, random_feeds
from nncomp.testing import assert_same_function, graph
from nncomp_quant.channels import channel_classes
from nncomp_quant.equalize import ClippedRange, Equalize

_CHAIN = """
g (float[1,3,8,8] x) => (float[1,5,8,8] y)
<float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] w2, float[4] b2, float[5,4,1,1] w3>
{
   a = Conv <pads = [1,1,1,1]> (x, w1, b1)
   r = Relu (a)
   d = Conv <group = 4, pads = [1,1,1,1]> (r, w2, b2)
   s = Relu (d)
   y = Conv (s, w3)
}
"""

_RESIDUAL = """
g (float[1,3,8,8] x) => (float[1,2] y)
<float[6,3,3,3] w1, float[6,3,3,3] w2, float[6] b2, float[2,6] w3, float[2] b3>
{
   a = Conv <pads = [1,1,1,1]> (x, w1)
   r = Relu (a)
   b = Conv <group = 2, pads = [1,1,1,1]> (r, w2, b2)
   t = Add (r, b)
   p = GlobalAveragePool (t)
   f = Flatten (p)
   y = Gemm <transB = 1> (f, w3, b3)
}
"""

_CLIPPED = """
g (float[1,3,8,8] x) => (float[1,5,8,8] y)
<float[4,3,3,3] w1, float zero = {0}, float six = {6}, float[5,4,1,1] w3>
{
   a = Conv <pads = [1,1,1,1]> (x, w1)
   r = Clip (a, zero, six)
   y = Conv (r, w3)
}
"""

_SLOPES = """
g (float[1,3,8,8] x) => (float[1,5,8,8] y)
<float[4,3,3,3] w1, float[4,1,1] slope, float[4,3,1,1] w2, float[5,4,1,1] w3>
{
   a = Conv <pads = [1,1,1,1]> (x, w1)
   r = PRelu (a, slope)
   y = Conv (r, w3)
}
"""


class _Samples(DataSource):
    name = "samples"

    def __init__(self, model: Graph, count: int = 3) -> None:
        self.feeds = [random_feeds(model, seed=seed) for seed in range(count)]

    def __iter__(self) -> Iterator[Feeds]:
        return iter(self.feeds)

    def fingerprint(self) -> str:
        return "samples"


def _equalized(text: str, *, seed: int = 0, **options: object) -> tuple[Graph, Graph, Context]:
    before = graph(text, seed=seed)
    after = before.clone()
    ctx = Context(data=_Samples(before))
    infer_types(after, ctx.ops)
    Equalize(**options).run(after, ctx)
    return before, after, ctx


def _uneven(model: Graph, name: str) -> float:
    """Largest over smallest peak of the channels of a value."""
    from nncomp.runtime import Session

    run = Session(model, outputs=[name]).run(random_feeds(model, seed=0))
    peaks = np.abs(run[name]).max(axis=(0, 2, 3))
    return float(peaks.max() / peaks[peaks > 0].min())


@pytest.mark.parametrize("text", [_CHAIN, _RESIDUAL, _SLOPES])
def test_the_function_stays_the_same(text: str) -> None:
    before, after, _ = _equalized(text, strength=1.0)
    assert_same_function(before, after)


def test_channels_come_nearer_to_each_other() -> None:
    uneven = np.random.default_rng(0).standard_normal((4, 3, 3, 3)) * np.array([1, 10, 0.1, 3]).reshape(4, 1, 1, 1)
    before = graph(_CHAIN, constants={"w1": uneven.astype(np.float32), "b1": np.zeros(4, np.float32)})
    after = before.clone()
    ctx = Context(data=_Samples(before))
    infer_types(after, ctx.ops)
    Equalize(strength=1.0).run(after, ctx)
    infer_types(before)
    assert 2 * _uneven(after, "r") < _uneven(before, "r")


def test_a_residual_sum_and_its_terms_share_their_factors() -> None:
    model = graph(_RESIDUAL)
    infer_types(model)
    classes = channel_classes(model, builtin_table())
    together = next(one for one in classes if model.find("t") in one.values)
    assert {value.name for value in together.values} == {"a", "r", "b", "t", "p", "f"}
    assert sorted(op.kind for op in together.readers) == ["Conv", "Gemm"]


def test_a_factor_passes_through_a_prelu_but_not_through_its_slopes() -> None:
    computed = _SLOPES.replace("r = PRelu (a, slope)", "s = Conv (x, w2) t = Relu (s) r = PRelu (a, t)")
    for text in (_SLOPES, computed):
        model = graph(text)
        model.remove_unused(model.constants())
        infer_types(model)
        (only,) = channel_classes(model, builtin_table())
        assert {value.name for value in only.values} == {"a", "r"}
        assert_same_function(*_equalized(text, strength=1.0)[:2])


def test_graph_inputs_and_outputs_keep_their_size() -> None:
    model = graph(_CHAIN)
    infer_types(model)
    members = {value.name for one in channel_classes(model, builtin_table()) for value in one.values}
    assert members == {"a", "r", "d", "s"}


def test_channels_that_an_unknown_op_reads_are_left_alone() -> None:
    text = _CHAIN.replace("y = Conv (s, w3)", "u = Sigmoid (s)\n   y = Conv (u, w3)")
    model = graph(text)
    infer_types(model)
    members = {value.name for one in channel_classes(model, builtin_table()) for value in one.values}
    assert members == {"a", "r"}


def test_a_shared_weight_is_left_alone() -> None:
    text = """
    g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    <float[4,4,1,1] w>
    {
       a = Conv (x, w)
       r = Relu (a)
       y = Conv (r, w)
    }
    """
    _, after, ctx = _equalized(text)
    assert [note.event for note in ctx.notes] == ["skipped"]
    assert after.has_name("w")


def test_channels_behind_an_upper_bound_are_left_alone_on_request() -> None:
    _, _, ctx = _equalized(_CLIPPED, through_clips=False)
    assert [note.reason for note in ctx.notes] == ["no channels lie between layers that could share a factor"]


def test_through_clips_a_channel_grows_no_further_than_its_bound() -> None:
    before, after, _ = _equalized(_CLIPPED, strength=1.0, through_clips=True, margin=1.0)
    for feeds in _Samples(before):
        assert_same_function(before, after, feeds=feeds)


def test_a_channel_keeps_room_for_what_samples_show_of_surprises() -> None:
    rng = np.random.default_rng(0)
    steady, wild = ClippedRange(), ClippedRange()
    for sample in range(32):
        array = rng.normal(1.0, 0.1, size=(1, 40, 6, 6)).astype(np.float32)
        steady.update(array)
        if sample == 7:
            array[:, 3] += 5.0  # a feature that one sample in 32 has
        wild.update(array)
    for seen in (steady, wild):
        np.testing.assert_allclose(seen.reach(0.0), seen.high)
    room, wide = steady.reach(2.0) - steady.high, wild.reach(2.0) - wild.high
    assert room.min() > 0.1
    assert room.max() < 0.5
    others = np.arange(40) != 3
    assert np.all(wide[others] > 1.5 * room[others])  # where one channel surprises, all keep room
    assert wide[3] > 5.0


def test_of_one_sample_nothing_is_known_of_others() -> None:
    seen = ClippedRange()
    seen.update(np.ones((1, 3, 4, 4), np.float32))
    assert np.isinf(seen.reach(2.0)).all()
    seen.update(np.full((1, 3, 4, 4), np.nan, np.float32))
    assert np.isinf(seen.reach(2.0)).all()


def test_ranges_of_two_workers_are_one() -> None:
    one, two, both = ClippedRange(), ClippedRange(), ClippedRange()
    for number, part in enumerate((one, two)):
        array = np.random.default_rng(number).normal(size=(2, 3, 4, 4)).astype(np.float32)
        part.update(array)
        both.update(array)
    one.merge(two)
    np.testing.assert_array_equal((one.low, one.high), (both.low, both.high))
    two.merge(ClippedRange(highs=both.highs[:2]))
    np.testing.assert_array_equal(two.reach(1.0), both.reach(1.0))


def test_without_data_it_says_what_is_missing() -> None:
    model = graph(_CHAIN)
    infer_types(model)
    with pytest.raises(DataError) as caught:
        Equalize().run(model, Context())
    assert caught.value.code == "NNC-D006"
    assert caught.value.message == "equalize: channel ranges need calibration data"
    assert caught.value.hint.endswith("an .npz, or module:function; --data random to try it out")


@given(seed=st.integers(0, 10_000), strength=st.floats(0.0, 1.0), limit=st.floats(1.0, 100.0))
def test_any_strength_keeps_the_function(seed: int, strength: float, limit: float) -> None:
    for text in (_CHAIN, _RESIDUAL):
        before, after, _ = _equalized(text, seed=seed, strength=strength, max_factor=limit)
        assert_same_function(before, after)
