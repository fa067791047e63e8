"""fold-constants: budgets. A bomb costs nothing, because sizes are known before anything is computed."""

import time
import tracemalloc

import numpy as np
import pytest

import nncomp
from nncomp.testing import graph
from nncomp_cleanup.fold_constants import FoldConstants

BOMBS = {
    "ConstantOfShape": "<int64[1] s = {274877906944}> { z = ConstantOfShape (s)  y = ReduceSum (z) }",
    "ConstantOfShape overflow": """<int64[3] s = {4294967296, 4294967296, 4}>
        { z = ConstantOfShape (s)  y = ReduceSum (z) }""",
    "Range": """<int64 a = {0}, int64 b = {4000000000}, int64 d = {1}>
        { r = Range (a, b, d)  f = Cast <to = 1> (r)  y = ReduceSum (f) }""",
    "Tile": "<float[1024] w, int64[1] r = {1073741824}> { z = Tile (w, r)  y = ReduceSum (z) }",
    "Expand": "<float[1] w, int64[2] s = {1048576, 1048576}> { z = Expand (w, s)  y = ReduceSum (z) }",
    "Pad": "<float[1] w, int64[2] p = {0, 1099511627776}> { z = Pad (w, p)  y = ReduceSum (z) }",
    "OneHot": """<int64[1] i, int64 depth = {1099511627776}, float[2] v>
        { z = OneHot (i, depth, v)  y = ReduceSum (z) }""",
    "Resize": """<float[1,1,1,1] w, float roi, float[4] scales = {1, 1, 1048576, 1048576}>
        { z = Resize (w, , scales)  y = ReduceSum (z) }""",
    "chain": """<int64[1] s = {1048576}, int64[1] r = {1048576}>
        { z = ConstantOfShape (s)  t = Tile (z, r)  y = ReduceSum (t) }""",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_declined_at_once(bomb):
    before = graph(f"g (float[1] x) => (y) {BOMBS[bomb]}")
    ctx, ops = nncomp.Context(), len(before.ops())
    tracemalloc.start()
    started = time.process_time()
    FoldConstants(max_growth=1e12).run(before, ctx)
    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 32 * 2**20
    assert len(before.ops()) >= ops - 1
    assert any("max_bytes" in note.reason or "depends on data" in note.reason for note in ctx.notes)


def test_a_result_above_max_bytes_is_declined_and_one_below_is_folded(check):
    text = "g (float[4] x) => (float[4] y) <float[4] w> { e = Exp (w)  y = Add (x, e) }"
    assert check(FoldConstants(max_bytes=16), text).kinds == ["Add"]
    found = check(FoldConstants(max_bytes=15), text, None)
    assert found.declined == ["its result takes 16 bytes, max_bytes allows 15"]


def test_results_computed_at_once_have_a_budget(check):
    text = "g (float[4] x) => (float[4] y) <float[4] w> { e = Exp (w)  f = Neg (e)  y = Add (x, f) }"
    assert check(FoldConstants(max_total_bytes=20), text).kinds == ["Add"], "one after the other"
    found = check(FoldConstants(max_total_bytes=15), text, None)
    assert found.declined == ["results would take more than max_total_bytes at once"]


def test_computation_has_a_budget(check):
    text = (
        "g (float[64,64] x) => (float[64,64] y) <float[64,64] a, float[64,64] b> { c = MatMul (a, b)  y = Add (x, c) }"
    )
    assert check(FoldConstants(), text).kinds == ["Add"]
    found = check(FoldConstants(max_ops=1000), text, None)
    assert found.declined == ["it takes 262144 operations, of max_ops=1000 1000 are left"]


def test_a_model_does_not_grow(check):
    text = """
    g (float[300,300] x) => (float[300,300] y) <float[300,1] w, int64[2] s = {300, 300}>
    { e = Expand (w, s)  y = Add (x, e) }
    """
    found = check(FoldConstants(), text, None)
    assert found.declined == ["its result takes 360000 bytes, the constants that would go take 1216"]
    assert check(FoldConstants(max_growth=300), text).kinds == ["Add"]


def test_only_what_is_kept_counts_as_growth(check):
    text = """
    g (float[1,300] x) => (float[1,300] y) <float[300,1] w, int64[2] s = {300, 300}>
    { e = Expand (w, s)  r = ReduceSum (e)  y = Add (x, r) }
    """
    assert check(FoldConstants(), text).kinds == ["Add"]


def test_a_shared_weight_is_not_copied(check):
    text = """
    g (float[1,200] x) => (float[1,200] y, float[1,200] z) <float[200,200] w>
    { t = Transpose (w)  y = MatMul (x, t)  z = MatMul (x, w) }
    """
    found = check(FoldConstants(), text, None)
    assert found.declined == ["its result takes 160000 bytes, the constants that would go take 0"]


def test_a_weight_of_its_own_is_transposed(check):
    text = "g (float[1,200] x) => (float[1,200] y) <float[200,200] w> { t = Transpose (w)  y = MatMul (x, t) }"
    assert check(FoldConstants(), text).kinds == ["MatMul"]


def test_a_size_that_depends_on_data_follows_when_the_data_is_known(check):
    text = """
    g (float[2,3] x) => (float[2,3] y) <float[2] f = {2, 3}, float[1] w>
    { s = Cast <to = 7> (f)  e = Expand (w, s)  y = Add (x, e) }
    """
    assert check(FoldConstants(), text).kinds == ["Add"]


def test_nonzero_is_bounded_by_its_input(check):
    text = "g (int64[1,2] x) => (int64[1,2] y) <float[3] w = {0, 1, 2}> { z = NonZero (w)  y = Add (x, z) }"
    assert check(FoldConstants(), text).kinds == ["Add"]


def test_a_sparse_constant_of_any_size_is_not_made_dense():
    import onnx

    from nncomp.onnx_io import graph_from_proto

    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [5.0])
    indices = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [1])
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[1] x) => (y) <float[1] w = {1}> { a = ReduceMax (w)  y = Add (x, a) }"""
    )
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [2**38]))
    before, ctx = graph_from_proto(proto), nncomp.Context()
    FoldConstants().run(before, ctx)
    assert [note.reason for note in ctx.notes] == [
        "a sparse input takes 1099511627776 bytes when dense, max_bytes allows 67108864"
    ]


def test_fifteen_thousand_ops_are_folded_in_one_session():
    before = nncomp.Graph()
    value = before.add_constant("c", np.ones(2, np.float32))
    for _ in range(15_000):
        value = before.add_op("Neg", [value]).output
    x = before.add_input("x", nncomp.TensorType(nncomp.DataType.FLOAT, (2,)))
    before.set_outputs([before.add_op("Add", [x, value]).output])
    started = time.process_time()
    FoldConstants().run(before, nncomp.Context())
    assert len(before.ops()) == 1
    assert time.process_time() - started < 30
