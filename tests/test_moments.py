"""Second moments of layers: right, the same whatever the batches and threads, and of the changed graph in a walk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.errors import DataError, UsageError
from nncomp.ir import Graph
from nncomp.ops import builtin_table
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.statistics import LayerWalk, Moments, MomentSums, Threads, collect_moments, spread
from nncomp.testing import graph

NETWORK = """
g (float[n,3,8,8] x) => (float[n,5] y)
<float[6,3,3,3] w1, float[6] b1, float[6,1,3,3] w2, float[4,3,1,1] w3, float[4,3,1,1] w4, float[4,5] w5, float[5] b5>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv <group=6, strides=[2,2], pads=[1,1,1,1]> (r1, w2)
   r2 = Relu (c2)
   c3 = Conv <group=2> (r2, w3)
   c4 = Conv <strides=[2,2]> (x, w4)
   s = Add (c3, c4)
   p = GlobalAveragePool (s)
   f = Flatten (p)
   y = Gemm (f, w5, b5)
}
"""
LAYERS = ("c1", "c2", "c3", "c4", "y")


def samples(count: int, batch: int = 1, seed: int = 0) -> list[dict[str, npt.NDArray[np.float32]]]:
    data = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
    return [{"x": data[at : at + batch]} for at in range(0, count, batch)]


def state(moments: dict[str, Moments]) -> list[bytes]:
    parts = ("x", "xx", "y", "yx", "yy")
    return [getattr(one, part).tobytes() for one in moments.values() for part in parts]


def brute_force(changed: Graph, original: Graph, layer: str, data: list[Any], positions: int | None) -> list[Any]:
    """x and y rows of one layer over all samples, in double precision."""
    ops = builtin_table()
    op = changed.find(layer).producer
    assert op is not None
    view = ops.matrix(op, changed)
    assert view is not None
    name = op.inputs[view.data].name  # type: ignore[union-attr]
    inside = Session(changed, outputs=[name]) if name != "x" else None
    outside = Session(original, outputs=[layer])
    xs, ys = [], []
    for number, feeds in enumerate(data):
        x = feeds["x"] if inside is None else inside.run(feeds)[name]
        chosen = spread(view.positions(x.shape), positions, number)
        xs.append(view.unfold(x, chosen).astype(np.float64))
        ys.append(view.rows(outside.run(feeds)[layer], chosen).astype(np.float64))
    return [np.concatenate(xs, axis=1), np.concatenate(ys, axis=1)]


def assert_moments(found: Moments, x: Any, y: Any) -> None:
    close = {"rtol": 1e-5, "atol": 1e-4}
    assert found.count == x.shape[1]
    np.testing.assert_allclose(found.x, x.sum(1), **close)
    np.testing.assert_allclose(found.y, y.sum(1), **close)
    np.testing.assert_allclose(found.xx, np.einsum("gnk,gnl->gkl", x, x), **close)
    np.testing.assert_allclose(found.yx, np.einsum("gno,gnk->gok", y, x), **close)
    np.testing.assert_allclose(found.yy, (y * y).sum(1), **close)


@pytest.mark.parametrize("positions", [None, 5])
def test_moments_of_one_graph_are_those_of_all_rows(positions: int | None) -> None:
    made, data = graph(NETWORK), samples(5)
    found = collect_moments(made, LAYERS, data, positions=positions)
    assert tuple(found) == LAYERS
    for layer, moments in found.items():
        assert_moments(moments, *brute_force(made, made, layer, data, positions))
        np.testing.assert_array_equal(moments.xx, moments.xx.swapaxes(1, 2))


def test_the_walk_reads_the_changed_graph_and_aims_at_the_original() -> None:
    original, data = graph(NETWORK), samples(4)
    changed = original.clone()
    walk = LayerWalk(original, changed, LAYERS, data, positions=7, memory=0)
    assert walk.stages == (("c1", "c4"), ("c2",), ("c3",), ("y",))
    for stage in walk:
        for layer, moments in stage.items():
            assert_moments(moments, *brute_force(changed, original, layer, data, 7))
            op = changed.find(layer).producer
            assert op is not None
            weight = changed.array(op.input(1))
            assert weight is not None
            changed.set_input(op, 1, changed.add_constant("new", np.asarray(weight * 0.5, np.float32)))


def test_the_walk_runs_each_op_once_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    real = Graph.extract

    def watch(self: Graph, ops: Any, outputs: Any) -> Graph:
        taken = list(ops)
        ran.extend(op.output.name for op in taken)
        return real(self, taken, outputs)

    monkeypatch.setattr(Graph, "extract", watch)
    original = graph(NETWORK)
    for _ in LayerWalk(original, original.clone(), LAYERS, samples(2)):
        pass
    # The original runs to the output, the changed graph to what the last layer reads.
    assert sorted(ran) == sorted([*(op.output.name for op in original.ops())] * 2)[:-1]


def test_a_replaced_layer_is_what_the_next_ones_see() -> None:
    original, data = graph(NETWORK), samples(3)
    changed = original.clone()
    for stage in LayerWalk(original, changed, LAYERS, data):
        if "c2" in stage:
            old = changed.find("c2")
            changed.replace_uses(
                old, changed.add_op("Neg", [old], ["turned"]).output, keep=lambda use: use.op.kind == "Neg"
            )
        if "c3" in stage:
            assert_moments(stage["c3"], *brute_force(changed, original, "c3", data, 64))
            assert stage["c3"].x.max() > 0


@pytest.mark.parametrize("batch", [2, 6])
def test_bits_do_not_depend_on_the_batch(batch: int) -> None:
    # The kernels of a layer may round differently for a batch, those of these layers do not.
    made = graph("g (float[n,3,8,8] x) => (float[n,6,8,8] c) <float[6,3,3,3] w> { c = Conv <pads=[1,1,1,1]> (x, w) }")
    expected = state(collect_moments(made, ["c"], samples(6), positions=9))
    assert state(collect_moments(made, ["c"], samples(6, batch), positions=9)) == expected


def test_bits_do_not_depend_on_threads() -> None:
    made, data = graph(NETWORK), samples(40)
    expected = state(collect_moments(made, LAYERS, data))
    assert state(collect_moments(made, LAYERS, data, executor=Threads(3))) == expected
    walks = [
        [state(stage) for stage in LayerWalk(made, made.clone(), LAYERS, data, executor=Threads(count), memory=9000)]
        for count in (1, 3)
    ]
    assert walks[0] == walks[1]


BITS = """
import hashlib
import numpy as np
from nncomp.statistics import MomentSums
digest = hashlib.sha256()
for groups, rows, outputs, columns in ((1, 700, 24, 144), (1, 300, 10, 577), (3, 500, 9, 33), (4, 500, 1, 9)):
    rng, sums = np.random.default_rng(0), MomentSums(groups, outputs, columns)
    for _ in range(5):
        sums.add(rng.normal(size=(groups, rows, columns)), rng.normal(size=(groups, rows, outputs)))
    found = sums.moments()
    digest.update(found.xx.tobytes() + found.yx.tobytes())
print(digest.hexdigest())
"""


def test_bits_do_not_depend_on_the_threads_of_numpy_or_the_hash_seed() -> None:
    found = set()
    for threads, seed in (("1", "0"), ("4", "1")):
        env = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": seed, "PATH": ""}
        done = subprocess.run([sys.executable, "-c", BITS], env=env, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_rows_that_are_not_finite_count_for_nothing_else() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 2))
    x[1, 2, 0], y[0, 4, 1] = np.nan, np.inf
    sums = MomentSums(2, 2, 3)
    sums.add(x, y)
    found, sound = sums.moments(), [0, 1, 3, 5]
    assert (found.count, found.dropped) == (4, 2)
    assert_moments(found, x[:, sound], y[:, sound])


@given(seed=st.integers(0, 99), biased=st.booleans())
def test_centered_sums_and_errors_are_those_of_the_rows(seed: int, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(1.0, 2.0, size=(2, 40, 5)), rng.normal(-1.0, 1.0, size=(2, 40, 3))
    sums = MomentSums(2, 3, 5)
    for first, last in pairwise((0, 7, 20, 40)):
        sums.add(x[:, first:last], y[:, first:last])
    found = sums.moments()
    centered = found.centered()
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    np.testing.assert_allclose(centered.xx, dx.swapaxes(1, 2) @ dx, atol=1e-9)
    np.testing.assert_allclose(centered.yx, dy.swapaxes(1, 2) @ dx, atol=1e-9)
    np.testing.assert_allclose(centered.yy, (dy * dy).sum(1), atol=1e-9)
    matrix, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3)) if biased else None
    error = ((x @ matrix.swapaxes(1, 2) + (0 if bias is None else bias[:, None, :]) - y) ** 2).sum(1)
    np.testing.assert_allclose(found.squared_error(matrix, bias), error, atol=1e-8)


@given(count=st.integers(1, 3000), limit=st.integers(1, 100), offset=st.integers(0, 1000))
def test_spread_positions_are_distinct_and_about_as_many_as_asked_for(count: int, limit: int, offset: int) -> None:
    found = spread(count, limit, offset)
    if found is None:
        assert count <= limit
        return
    assert 1 <= len(found) <= limit
    assert len(set(found.tolist())) == len(found)
    assert found.min() >= 0
    assert found.max() < count


def test_there_must_be_samples_and_layers() -> None:
    made = graph(NETWORK)
    with pytest.raises(DataError, match=r"^the calibration data holds no sample$"):
        collect_moments(made, LAYERS, [])
    with pytest.raises(DataError, match=r"^the calibration data holds no sample$"):
        list(LayerWalk(made, made.clone(), LAYERS, []))
    with pytest.raises(UsageError, match=r"^'Relu\(r1\)' is no layer with a constant weight, so it has no moments$"):
        collect_moments(made, ["r1"], samples(1))
    with pytest.raises(UsageError, match=r"^no layer of the graph gives 'nothing'$"):
        LayerWalk(made, made.clone(), ["nothing"], samples(1))
    with pytest.raises(UsageError, match=r"^no layer of the graph gives 'x'$"):
        collect_moments(made, ["x"], samples(1))


def test_data_is_read_once() -> None:
    class Counting:
        def __init__(self) -> None:
            self.times = 0

        def __iter__(self) -> Iterator[Feeds]:
            self.times += 1
            return iter(samples(3))

    made, data = graph(NETWORK), Counting()
    for _ in LayerWalk(made, made.clone(), LAYERS, data, samples=2):
        pass
    assert data.times == 1


def test_what_is_held_out_and_the_rest_are_all() -> None:
    made, data = graph(NETWORK), samples(10)
    walk = LayerWalk(made, made.clone(), LAYERS, data, positions=7, hold_out=4)
    for stage in walk:
        assert walk.held_out.keys() == stage.keys()
        for layer, moments in stage.items():
            x, y = brute_force(made, made, layer, data, 7)
            assert_moments(moments + walk.held_out[layer], x, y)
            per_sample = x.shape[1] // 10
            assert walk.held_out[layer].count == pytest.approx(2 * per_sample, abs=4)


def test_the_walk_of_a_pass_needs_data() -> None:
    made = graph(NETWORK)
    with pytest.raises(DataError) as caught:
        LayerWalk.of_pass(made, made.clone(), LAYERS, Context(), samples=4, positions=8)
    assert (caught.value.message, caught.value.code) == ("there is no calibration data", "NNC-D004")


def test_kept_rows_are_those_of_the_moments() -> None:
    made = graph(NETWORK)
    walk = LayerWalk(made, made.clone(), LAYERS, samples(3), hold_out=3, keep=1 << 20)
    for stage in walk:
        for name, moments in stage.items():
            rows, total = walk.rows[name], moments + walk.held_out[name]
            assert rows.other is None
            np.testing.assert_allclose(rows.x.sum(axis=1, dtype=np.float64), total.x, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(rows.y.sum(axis=1, dtype=np.float64), total.y, rtol=1e-5, atol=1e-5)
    for _ in (walk := LayerWalk(made, made.clone(), LAYERS, samples(3), keep=100)):
        assert walk.rows == {}
