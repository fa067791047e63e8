"""Ops that TVM has nothing for, said in plainer ones or written out: they give ONNX Runtime's numbers."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget


def boxes_and_scores(rng, *, classes=2, boxes=12):
    corners = rng.integers(0, 8, (2, boxes, 4)).astype(np.float32)
    scores = rng.integers(0, 5, (2, classes, boxes)).astype(np.float32) / 4  # many are equal
    return {"boxes": corners, "scores": scores}


@pytest.mark.parametrize("centered", [0, 1])
def test_of_boxes_that_overlap_the_best_is_kept(agrees, centered):
    found = agrees(
        f"""
        g (float[2,12,4] boxes, float[2,2,12] scores) => (int64[] y)
        <int64 most = {{3}}, float overlap = {{0.2}}, float least = {{0.3}}>
        {{ y = NonMaxSuppression <center_point_box = {centered}> (boxes, scores, most, overlap, least) }}
        """,
        boxes_and_scores(np.random.default_rng(3)),
    )
    assert 2 <= len(found["y"]) <= 12


def test_the_end_of_a_detector_keeps_as_many_boxes_as_it_finds():
    model = graph(
        """
        g (float[2,12,4] boxes, float[2,2,12] scores) => (float[] y, int64[] rows)
        <int64 most = {20}, float overlap = {0.1}, int64[1] begin = {2}, int64[1] end = {3}, int64[1] axis = {1},
         int64 first = {0}>
        {
          rows = NonMaxSuppression (boxes, scores, most, overlap)
          column = Slice (rows, begin, end, axis)
          places = Squeeze (column, axis)
          one = Gather <axis = 0> (boxes, first)
          y = Gather <axis = 0> (one, places)
        }
        """,
        opset=18,
    )
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    sizes = set()
    for seed in (0, 1, 2):
        feeds = boxes_and_scores(np.random.default_rng(seed))
        expected, got = nncomp.runtime.run(model, feeds), artifact.run(feeds)
        np.testing.assert_array_equal(got["rows"], expected["rows"])
        np.testing.assert_array_equal(got["y"], expected["y"])
        sizes.add(len(expected["rows"]))
    assert len(sizes) > 1


def test_nothing_is_kept_where_nothing_may_be(agrees):
    agrees("g (float[1,3,4] b, float[1,1,3] s) => (int64[] y) { y = NonMaxSuppression (b, s) }")


@pytest.mark.parametrize(
    "attrs", ["strides = [2, 1], pads = [1, 0, 1, 1]", 'auto_pad = "SAME_LOWER", storage_order = 1']
)
def test_places_of_maxima_are_those_of_the_first_of_equals(agrees, attrs):
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 6, 5)).astype(np.float32)
    agrees(
        f"""
        g (float[2,3,6,5] x) => (float[] y, int64[] at)
        {{ y, at = MaxPool <kernel_shape = [3, 2], {attrs}> (x) }}
        """,
        {"x": x},
    )


def test_what_was_pooled_is_put_back_where_it_was(agrees):
    agrees("""
    g (float[1,2,6,6] x) => (float[] y)
    { p, at = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
      y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, at) }
    """)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = LpNormalization <axis = 1> (x)", "2,4,3"),
        ("y = LpNormalization <axis = -1, p = 1> (x)", "2,4,3"),
        ("y = ReverseSequence <batch_axis = 0, time_axis = 1> (x, lengths)", "2,4,3"),
        ("y = ReverseSequence <batch_axis = 1, time_axis = 0> (x, lengths)", "4,2,3"),
        ("y = Col2Im <pads = [1, 0, 1, 0], strides = [2, 1]> (x, image, block)", "2,12,6"),
        ("y = DFT <onesided = 1> (x, , axis)", "2,9,1"),
        ("y = DFT <inverse = 1> (x, longer, axis)", "2,6,2"),
        ("y = STFT (x, step, window)", "2,30,1"),
        ("y, m, v = BatchNormalization <training_mode = 1> (x, two, two, two, two)", "3,2,5"),
    ],
)
def test_ops_that_are_said_in_plainer_ones(agrees, body, shape):
    outputs = ", ".join(f"float[] {name.strip()}" for name in body.split(" = ")[0].split(","))
    agrees(
        f"""
        g (float[{shape}] x) => ({outputs})
        <int64[2] lengths = {{3, 1}}, int64[2] image = {{4, 4}}, int64[2] block = {{2, 3}}, int64 axis = {{1}},
         int64 longer = {{8}}, int64 step = {{4}}, float[8] window = {{1, 2, 3, 4, 5, 4, 3, 2}},
         float[2] two = {{1, 2}}>
        {{ {body} }}
        """,
        opset=20,
    )


def test_a_signal_comes_back_from_half_of_its_spectrum():
    model = graph(
        """
        g (float[2,9,1] x) => (float[2,9,1] y) <int64 axis = {1}, int64 n = {9}>
        { s = DFT <onesided = 1> (x, n, axis) y = DFT <onesided = 1, inverse = 1> (s, n, axis) }
        """,
        opset=20,
    )
    x = np.random.default_rng(0).standard_normal((2, 9, 1)).astype(np.float32)
    y = TvmCpuTarget().build(model, nncomp.Context()).run({"x": x})["y"]
    np.testing.assert_allclose(y, x, atol=1e-6)


def test_windows_are_bent_by_offsets(agrees):
    rng = np.random.default_rng(0)
    agrees(
        """
        g (float[2,4,5,6] x, float[2,16,6,7] bend, float[2,8,6,7] mask) => (float[] y) <float[6,2,2,2] w, float[6] b>
        { y = DeformConv <group = 2, offset_group = 2, pads = [1, 1, 1, 1]> (x, w, bend, b, mask) }
        """,
        {
            "x": rng.standard_normal((2, 4, 5, 6)).astype(np.float32),
            "bend": rng.uniform(-3, 3, (2, 16, 6, 7)).astype(np.float32),
            "mask": rng.uniform(0, 1, (2, 8, 6, 7)).astype(np.float32),
        },
        opset=19,
    )


@pytest.mark.parametrize("tail", ["y = Identity (s)", "f = Cast <to = 1> (s) y = Mul (f, scale)"])
def test_convolutions_of_bytes(agrees, tail):
    kind = "int32" if "Identity" in tail else "float"
    agrees(f"""
    g (uint8[1,3,6,6] x) => ({kind}[] y)
    <uint8 zero = {{7}}, int8[2,3,3,3] w, float scale = {{0.5}}>
    {{ s = ConvInteger <pads = [1, 1, 1, 1]> (x, w, zero) {tail} }}
    """)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_is_written_where_it_is_said(mode):
    model = graph(
        f"""
        g (float[2,1,4,3] cache, float[2,1,2,3] new, int64[2] at) => (float[] y)
        {{ y = TensorScatter <mode = "{mode}"> (cache, new, at) }}
        """,
        opset=24,
    )
    at = np.array([1, 3 if mode == "circular" else 2])
    cache, new = (np.random.default_rng(n).standard_normal((2, 1, n, 3)).astype(np.float32) for n in (4, 2))
    expected = cache.copy()
    for batch, first in enumerate(at):
        for row in range(2):
            expected[batch, 0, (first + row) % 4] = new[batch, 0, row]
    feeds = {"cache": cache, "new": new, "at": at}
    np.testing.assert_array_equal(TvmCpuTarget().build(model, nncomp.Context(data=[feeds])).run(feeds)["y"], expected)


@pytest.mark.parametrize(
    ("text", "opset", "reason"),
    [
        (
            "g (float[2] x) => (float[2] y) { y = RandomUniformLike (x) }",
            18,
            "'RandomUniformLike(y)' (RandomUniformLike): it draws at random",
        ),
        (
            """
            g (float[1,1,2,2] x, int64[1,1,2,2] at) => (float[] y) <int64[4] wanted = {1, 1, 5, 5}>
            { y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, at, wanted) }
            """,
            18,
            "'MaxUnpool(y)' (MaxUnpool): to [1, 1, 5, 5], not [1, 1, 4, 4], it is another thing in ONNX Runtime than "
            "in ONNX",
        ),
    ],
)
def test_what_is_beyond_the_target_is_refused_by_name(text, opset, reason):
    with pytest.raises(UnsupportedError) as refusal:
        TvmCpuTarget().build(graph(text, opset=opset), nncomp.Context())
    assert refusal.value.message == f"TVM cannot take {reason}"


def test_an_op_that_onnx_defines_takes_its_defaults_along(agrees):
    agrees("g (float[2,3] x) => (float[] y) { y = Swish (x) }", opset=24)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("samples", [0, 2])
def test_regions_are_resampled_at_edges_too(agrees, mode, samples):
    rois = np.array([[1, 1, 20, 20], [-3, 2, 40, 28], [0, 0, 8.5, 8], [5, 5, 5, 5]], np.float32)
    agrees(
        f"""
        g (float[2,3,16,16] x, float[4,4] rois, int64[4] batch) => (float[] y)
        {{ y = RoiAlign <mode = "{mode}", output_height = 3, output_width = 4, sampling_ratio = {samples},
                         spatial_scale = 0.5> (x, rois, batch) }}
        """,
        {
            "x": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32),
            "rois": rois,
            "batch": np.array([0, 1, 1, 0]),
        },
    )


def test_a_loop_that_a_condition_ends_is_written_out_to_its_bound(agrees):
    text = """
    g (float[2] x) => (float[] y) <int64 n = {N}, bool go = {1}, float most = {100}>
    { y = Loop (n, go, x) <
        body = step (int64 i, bool c, float[2] a) => (bool d, float[2] b)
          { b = Add (a, a) s = ReduceSum <keepdims = 0> (b) d = Less (s, most) } > }
    """
    agrees(text.replace("N", "20"), {"x": np.ones(2, np.float32)})
    with pytest.raises(UnsupportedError) as refusal:
        agrees(text.replace("N", "2000"))
    assert refusal.value.message == (
        "TVM cannot take 'Loop(y)' (Loop): it may take 2000 iterations; no more than 256 are written out"
    )


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders_of_zeros_and_infinities(fmod):
    inf, nan = np.inf, np.nan
    a = np.array([-3, 3, -1, 1, inf, -inf, 1, nan, 5.5, -5.5, 5.5], np.float32)
    b = np.array([inf, inf, -inf, -inf, 2, 2, 0, 2, 2, 2, -2], np.float32)
    model = graph(f"g (float[11] a, float[11] b) => (float[] y) {{ y = Mod <fmod = {fmod}> (a, b) }}", opset=26)
    with np.errstate(invalid="ignore"):
        expected = np.fmod(a, b) if fmod else np.mod(a, b)
    got = TvmCpuTarget().build(model, nncomp.Context(data=[{"a": a, "b": b}])).run({"a": a, "b": b})["y"]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["uint8", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bits_are_shifted(agrees, kind, direction):
    x = np.array([1, 200, 255, 3], kind)
    agrees(
        f'g ({kind}[4] x, {kind}[4] n) => ({kind}[] y) {{ y = BitShift <direction = "{direction}"> (x, n) }}',
        {"x": x, "n": np.array([0, 1, 7, 3], kind)},
    )


def test_the_largest_of_unsigned_numbers():
    model = graph("g (uint64[1,4] x) => (uint64[] v, int64[] i) <int64[1] k = {3}> { v, i = TopK (x, k) }", opset=24)
    x = np.array([[1, 2**63 + 1, 2**64 - 1, 5]], np.uint64)
    got = TvmCpuTarget().build(model, nncomp.Context()).run({"x": x})
    np.testing.assert_array_equal(got["v"], [[2**64 - 1, 2**63 + 1, 5]])
    np.testing.assert_array_equal(got["i"], [[2, 1, 3]])


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3,4] x) => (float[] y) { y = ReduceMax (x) }",
        "g (bool[2,3] x) => (bool[] y) <int64[1] one = {1}> { y = ReduceMin (x, one) }",
        "g (uint8[2,0] x) => (uint8[] y) <int64[1] one = {1}> { y = ReduceMax (x, one) }",
        "g (double[2,4] x) => (double[] y) <double[4,3] w, double[3] b> { y = Gemm <alpha = 0.5> (x, w, b) }",
        "g (float[3,7] x) => (float[] a, float[] b) { a, b = Split <axis = 1, num_outputs = 2> (x) }",
        "g (float[3,7] x) => (float[] y) <int64 one = {1}> { y = Unsqueeze (x, one) }",
        "g (float[3,7] x) => (float[] a, float[] b) <int64[2] n = {0, 7}> { a, b = Split <axis = 1> (x, n) }",
    ],
)
def test_forms_that_tvm_s_own_code_gets_wrong(agrees, text):
    agrees(text, opset=20)


def test_a_result_without_elements_is_read_back_from_a_library(tmp_path):
    model = graph(
        "g (float[2,4,3] x) => (float[] y, float[] z) <float[2,4,0] none> { y = Relu (x) z = Identity (none) }",
        opset=18,
    )
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    artifact.save(tmp_path)
    assert artifact.run({"x": np.ones((2, 4, 3), np.float32)})["z"].shape == (2, 4, 0)


def test_an_input_that_is_no_tensor_of_whole_bytes_is_refused_by_name():
    with pytest.raises(UnsupportedError) as refusal:
        TvmCpuTarget().build(graph("g (string[2] x) => (string[2] y) { y = Identity (x) }"), nncomp.Context())
    assert refusal.value.message == "input 'x' is string[2]: TVM takes dense tensors of whole bytes"
    assert refusal.value.hint == "compile what follows the ops that read it: onnx.utils.extract_model cuts it out"
