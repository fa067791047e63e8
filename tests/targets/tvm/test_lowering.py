"""What is said otherwise before TVM sees it, and that it still gives ONNX Runtime's numbers."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.runtime import RuntimeFailure, random_feeds, run
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget


class Samples(list):
    """Calibration data."""


def built(text, *, opset=18, feeds=None, **options):
    model = graph(text, opset=opset)
    data = Samples([feeds]) if feeds is not None else None
    return model, TvmCpuTarget.from_options(options).build(model, nncomp.Context(data=data))


def assert_agrees(text, *, opset=18, feeds=None):
    model, artifact = built(text, opset=opset, feeds=feeds)
    feeds = feeds or random_feeds(model, seed=1)
    expected, got = run(model, feeds), artifact.run(feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_sizes_that_are_computed_are_known_before_the_run():
    assert_agrees("""
    g (float[N,3,4] x) => (float[] y) <int64 zero = {0}, int64[1] rest = {-1}, int64[1] axis = {0}>
    { s = Shape (x) n = Gather (s, zero) m = Unsqueeze (n, axis) t = Concat <axis = 0> (m, rest) y = Reshape (x, t) }
    """)


def test_an_input_that_says_sizes_is_taken_from_the_data_and_others_are_refused_at_the_run():
    text = "g (float[2,3,4] x, int64[1] axes) => (float[] y) { y = ReduceSum <keepdims = 0> (x, axes) }"
    feeds = {"x": np.ones((2, 3, 4), np.float32), "axes": np.array([1])}
    assert_agrees(text, feeds=feeds)
    _, artifact = built(text, feeds=feeds)
    with pytest.raises(RuntimeFailure) as refusal:
        artifact.run({**feeds, "axes": np.array([2])})
    assert refusal.value.message == "input 'axes' is [2]: the library was built for [1]"
    with pytest.raises(UnsupportedError):
        built(text)


def test_an_op_that_tvm_lacks_is_said_as_onnx_defines_it():
    assert_agrees("g (float[2,3] x) => (float[2,3] y) { y = Celu <alpha = 0.5> (x) }")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_ops_are_written_out(kind, direction):
    rows, ways = {"LSTM": 12, "GRU": 9, "RNN": 3}[kind], 2 if direction == "bidirectional" else 1
    assert_agrees(f"""
    g (float[3,1,2] x) => (float[] y, float[] h)
    <float[{ways},{rows},2] w, float[{ways},{rows},3] r, float[{ways},{2 * rows}] b>
    {{ y, h = {kind} <hidden_size = 3, direction = "{direction}"> (x, w, r, b) }}
    """)


def test_a_branch_that_is_chosen_at_the_run_becomes_a_selection():
    text = """
    g (float[2] x, bool c) => (float[2] y)
    { y = If (c) <
        then_branch = yes () => (float[2] p) { p = Exp (x) },
        else_branch = no () => (float[2] q) { q = Neg (x) } > }
    """
    model, artifact = built(text)
    for chosen in (True, False):
        feeds = {"x": np.array([1, 2], np.float32), "c": np.array(chosen)}
        np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-6)


@pytest.mark.parametrize(
    ("condition", "more"), [("bool c", "; it asks for 'c', which --data would fix"), ("bool[n,9,9] c", "")]
)
def test_branches_of_different_sizes_say_which_input_would_decide(condition, more):
    text = f"""
    g (float[2] x, {condition}) => (float[] y) <int64[1] one = {{1}}, int64[1] none = {{0}}>
    {{ o = {"Identity (c)" if not more else "Not (c)"} y = If (o) <
        then_branch = yes () => (float[2] p) {{ p = Exp (x) }},
        else_branch = no () => (float[1] q) {{ q = Slice (x, none, one) }} > }}
    """
    with pytest.raises(UnsupportedError) as refusal:
        built(text)
    assert refusal.value.message == (
        f"TVM cannot take 'If(y)' (If): its branches give different sizes, float[2] and float[1]{more}"
    )


def test_a_loop_of_known_length_is_written_out():
    assert_agrees("""
    g (float[2] x) => (float[2] y, float[] all) <int64 n = {3}, bool go = {1}>
    { y, all = Loop (n, go, x) <
        body = step (int64 i, bool c, float[2] a) => (bool d, float[2] b, float[2] s)
          { d = Identity (c) b = Add (a, a) s = Identity (b) } > }
    """)


def test_symbols_stay_symbols_when_they_are_to():
    model, artifact = built("g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }", dynamic=True)
    for rows in (1, 5):
        feeds = random_feeds(model, dims={"N": rows})
        np.testing.assert_array_equal(artifact.run(feeds)["y"], run(model, feeds)["y"])


@pytest.mark.parametrize(
    "attrs",
    [
        'mode = "nearest"',
        'mode = "linear"',
        'mode = "linear", coordinate_transformation_mode = "align_corners"',
        'mode = "cubic", coordinate_transformation_mode = "asymmetric", exclude_outside = 1',
        'mode = "cubic", antialias = 1',
    ],
)
def test_resize_is_a_weighted_sum_of_known_places(attrs):
    assert_agrees(f"""
    g (float[1,2,4,6] x) => (float[] y) <int64[2] sizes = {{3, 9}}>
    {{ y = Resize <axes = [2, 3], {attrs}> (x, , , sizes) }}
    """)


def test_indices_are_normalized_and_never_read_other_memory():
    text = "g (float[4,2] x, int64[3] i) => (float[3,2] y) { y = Gather (x, i) }"
    model, artifact = built(text)
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    feeds = {"x": rows, "i": np.array([-1, 0, 2])}
    np.testing.assert_array_equal(artifact.run(feeds)["y"], run(model, feeds)["y"])
    outside = artifact.run({"x": rows, "i": np.array([10**9, 0, 0])})["y"]
    np.testing.assert_array_equal(outside[0], rows[3])


def test_slices_are_clamped_as_onnx_says():
    assert_agrees("""
    g (float[5,7] x) => (float[] a, float[] b, float[] c)
    <int64[2] s1 = {1, -3}, int64[2] e1 = {9223372036854775807, 100}, int64[1] s2 = {-1}, int64[1] e2 = {-1000},
     int64[1] zero = {0}, int64[1] back = {-2}, int64[2] axes = {0, 1}, int64[1] s3 = {3}, int64[1] e3 = {1}>
    { a = Slice (x, s1, e1, axes) b = Slice (x, s2, e2, zero, back) c = Slice (x, s3, e3, zero) }
    """)


def test_a_dynamically_quantized_product_is_made_of_integers():
    assert_agrees("""
    g (float[3,8] x) => (int32[] y, float[] s)
    <int8[8,4] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,-8}>
    { q, s, z = DynamicQuantizeLinear (x) y = MatMulInteger (q, w, z) }
    """)


def test_tiles_are_right_on_wide_vectors():
    assert_agrees("""
    g (float[2,3,4,5] x) => (float[] y) <int64[4] times = {7, 6, 4, 2}> { y = Tile (x, times) }
    """)


def test_infinities_of_one_sign_are_told_from_the_other():
    x = np.array([-np.inf, np.inf, np.nan, 1], np.float32)
    assert_agrees(
        """
        g (float[4] x) => (bool[4] a, bool[4] b)
        { a = IsInf <detect_positive = 0> (x) b = IsInf <detect_negative = 0> (x) }
        """,
        feeds={"x": x},
    )


def test_blocks_of_pixels_become_channels_in_either_order():
    model = graph(
        'g (float[1,2,4,6] x) => (float[] y) { y = SpaceToDepth <blocksize = 2, mode = "CRD"> (x) }', opset=28
    )
    x = np.arange(48, dtype=np.float32).reshape(1, 2, 4, 6)
    y = TvmCpuTarget().build(model, nncomp.Context()).run({"x": x})["y"]
    np.testing.assert_array_equal(y, x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 2, 3))


def test_a_sequence_of_one_tensor_stays_a_sequence():
    model, artifact = built("g (float[3] x) => (seq(float[3]) y) { y = SequenceConstruct (x) }")
    feeds = random_feeds(model, seed=1)
    found = artifact.run(feeds)["y"]
    assert isinstance(found, list)
    np.testing.assert_array_equal(found, [feeds["x"]])


def test_what_drops_at_random_is_refused_and_what_drops_nothing_is_not():
    text = """
    g (float[4] x) => (float[4] y) <float ratio = {RATIO}, bool train = {1}> { y = Dropout (x, ratio, train) }
    """
    assert_agrees(text.replace("RATIO", "0"))
    with pytest.raises(UnsupportedError) as refusal:
        built(text.replace("RATIO", "0.5"))
    assert refusal.value.message == "TVM cannot take 'Dropout(y)' (Dropout): it drops at random"
