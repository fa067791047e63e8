"""Builds with ``dynamic``: other sizes run, what does not fit is said, and the gate looks at two sizes."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import GateError, UnsupportedError
from nncomp.runtime import RuntimeFailure, run
from nncomp.testing import graph
from nncomp_tvm.manifest import Manifest, Port
from nncomp_tvm.open_sizes import at_other_sizes
from nncomp_tvm.target import TvmCpuTarget

OPEN = """g (float[N,3,8,8] x, float[N,4] z) => (float[N,4] y) <float[4,3,3,3] w> {
    c = Conv (x, w) r = Relu (c) m = GlobalAveragePool (r) f = Flatten (m) y = Add (f, z)
}"""


def feeds_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((count, 3, 8, 8), np.float32),
        "z": rng.standard_normal((count, 4), np.float32),
    }


@pytest.fixture(scope="module")
def built():
    model = graph(OPEN, opset=18)
    return model, TvmCpuTarget.from_options({"dynamic": True}).build(model, nncomp.Context())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 17])
def test_any_number_of_images_runs_with_our_kernels(built, count):
    model, artifact = built
    feeds = feeds_of(count)
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)
    assert [kernel.ops for kernel in artifact.compiled] == [("nn.conv2d", "nn.relu"), ("mean", "add")]


def test_sizes_that_do_not_fit_are_named(built):
    _, artifact = built
    good = feeds_of(2)
    for changed, message in [
        ({"x": good["x"][:, :2]}, "input 'x' is [2, 2, 8, 8], expected [N, 3, 8, 8]"),
        ({"x": good["x"][0]}, "input 'x' is [3, 8, 8], expected [N, 3, 8, 8]"),
        ({"z": good["z"][:1]}, "input 'z' is [1, 4]: N is 1 there, and 2 in 'x'"),
        ({"x": good["x"][:0]}, "input 'x' is [0, 3, 8, 8]: open sizes of [N, 3, 8, 8] are 1 or more"),
    ]:
        with pytest.raises(RuntimeFailure) as failure:
            artifact.run({**good, **changed})
        assert failure.value.message == message


def test_the_gate_sees_what_is_wrong_with_another_size_only(monkeypatch):
    """A build that gives the first row for all others is right for one row."""
    from nncomp_tvm import artifact

    honest = artifact.Loaded.run

    def first_row(self, feeds):
        return {name: np.repeat(array[:1], len(array), 0) for name, array in honest(self, feeds).items()}

    monkeypatch.setattr(artifact.Loaded, "run", first_row)
    with pytest.raises(GateError) as refusal:
        TvmCpuTarget.from_options({"dynamic": True}).build(graph(OPEN, opset=18), nncomp.Context())
    assert refusal.value.message.startswith("the compiled model is wrong: output 'y' is ")


def test_feeds_of_other_sizes_have_the_same_numbers_in_rows_that_differ():
    manifest = Manifest([Port("x", "int64", ("N", 4)), Port("p", "int64", (2,))], [], "cpu", {}, "0")
    feeds = {"x": np.array([[1, 2, 3, 4]]), "p": np.array([1, 2])}
    found = at_other_sizes(manifest, feeds)
    assert found["x"].tolist() == [[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2]]
    assert found["p"] is feeds["p"]
    assert at_other_sizes(manifest, {**feeds, "x": np.ones((3, 4), np.int64)})["x"].shape == (2, 4)
    assert at_other_sizes(Manifest([Port("p", "int64", (2,))], [], "cpu", {}, "0"), {"p": feeds["p"]}) is None


ATTENTION = """g (int64[B,S] ids, float[B,S,8] x) => (float[B,S,8] y)
<int64[1,16] numbers = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}, float[16,8] places, float[8,8] w, int64 one = {1},
 int64[1] begin = {0}, int64[1] axis = {1}, int64[1] step = {1}, int64[2] heads = {2, 4}, int64[1] ones = {1},
 float large = {-10000.0}, int64[1] last = {-1}>
{
   shape = Shape (ids)
   length = Gather (shape, one)
   end = Unsqueeze (length, begin)
   used = Slice (numbers, begin, end, axis, step)
   place = Gather (places, used)
   h = Add (x, place)
   start = Shape <start = 0, end = 2> (h)
   split = Concat <axis = 0> (start, heads)
   p = MatMul (h, w)
   apart = Reshape (p, split)
   q = Transpose <perm = [0, 2, 1, 3]> (apart)
   k = Transpose <perm = [0, 2, 3, 1]> (apart)
   scores = MatMul (q, k)
   mask = Cast <to = 1> (ids)
   low = Mul (mask, large)
   first = Shape <start = 0, end = 1> (ids)
   wide = Concat <axis = 0> (first, ones, ones, end)
   flat = Reshape (low, wide)
   square = Concat <axis = 0> (first, ones, end, end)
   full = Expand (flat, square)
   masked = Add (scores, full)
   weights = Softmax <axis = -1> (masked)
   mixed = MatMul (weights, q)
   back = Transpose <perm = [0, 2, 1, 3]> (mixed)
   joined = Concat <axis = 0> (start, last)
   y = Reshape (back, joined)
}"""


def text_of(batch, length):
    rng = np.random.default_rng(batch + length)
    return {"ids": rng.integers(0, 2, (batch, length)), "x": rng.standard_normal((batch, length, 8), np.float32)}


@pytest.fixture(scope="module")
def attention():
    model = graph(ATTENTION, opset=18)
    return model, TvmCpuTarget.from_options({"dynamic": True}).build(model, nncomp.Context())


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 3), (3, 2), (1, 7), (2, 16)])
def test_sizes_that_are_computed_from_shapes_may_be_open(attention, batch, length):
    model, artifact = attention
    feeds = text_of(batch, length)
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)
    ours = {kernel.ops[0] for kernel in artifact.compiled}
    assert ours >= {"matmul", "nn.softmax"}


def test_a_size_that_a_table_of_the_graph_does_not_have_is_refused(attention):
    _, artifact = attention
    with pytest.raises(RuntimeFailure) as failure:
        artifact.run(text_of(1, 17))
    assert failure.value.message == "a size is more than the 16 elements that the graph has of it"


POSITIONS = """
g (int64[n,l] ids) => (float[n,l,4] y)
<float[9,4] words, float[16,4] places, int64 zero = {0}, int64 one = {1}, int64[3] all = {0, 0, 4}>
{
  w = Gather (words, ids)
  shape = Shape (ids)
  l = Gather (shape, one)
  count = Range (zero, l, one)
  p = Gather (places, count)
  x = Add (w, p)
  y = Reshape (x, all)
}"""


@pytest.fixture(scope="module")
def positions():
    model = graph(POSITIONS, opset=18)
    return model, TvmCpuTarget.from_options({"dynamic": True}).build(model, nncomp.Context())


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 5), (3, 16)])
def test_positions_are_counted_up_to_an_open_length(positions, batch, length):
    model, artifact = positions
    feeds = {"ids": np.random.default_rng(length).integers(0, 9, (batch, length))}
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_more_positions_than_there_are_are_refused(positions):
    _, artifact = positions
    with pytest.raises(RuntimeFailure) as failure:
        artifact.run({"ids": np.zeros((1, 17), np.int64)})
    assert failure.value.message == "a size is more than the 16 elements that the graph has of it"


def test_an_input_whose_size_alone_counts_is_not_taken_from_the_data():
    model = graph(POSITIONS, opset=18)
    first, other = ({"ids": np.random.default_rng(seed).integers(0, 9, (2, 5))} for seed in (1, 2))
    artifact = TvmCpuTarget().build(model, nncomp.Context(data=[first]))
    assert artifact.manifest.pinned == {}
    np.testing.assert_allclose(artifact.run(other)["y"], run(model, other)["y"], rtol=1e-4, atol=1e-5)


def test_what_does_not_count_from_0_to_an_open_size_is_refused_by_name():
    model = graph(POSITIONS.replace("zero = {0}", "zero = {1}"), opset=18)
    with pytest.raises(UnsupportedError) as refusal:
        TvmCpuTarget.from_options({"dynamic": True}).build(model, nncomp.Context())
    assert refusal.value.message == (
        "TVM cannot take 'Range(count)' (Range): Loop in it: the number of its iterations is not known before the run"
    )
