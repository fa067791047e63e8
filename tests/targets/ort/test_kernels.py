"""The kernels that ONNX Runtime executes, told by what they compute, and how long each takes."""

import numpy as np
import pytest

from nncomp.passes import Context
from nncomp.runtime import RuntimeFailure
from nncomp.testing import graph
from nncomp.timelimit import OverdueError, runs_limited
from nncomp_ort.profiling import profiled
from nncomp_ort.target import OrtTarget

NET = """
g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float[8,8,3,3] w, float[8] b>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    c = Relu (a)
    d = Conv <pads = [1, 1, 1, 1]> (c, w, b)
    y = Add (d, x)
}
"""
INTEGER = """
g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float s = {0.1}, uint8 z = {128}, int8[8,8,1,1] w, float[8] ws, int8[8] wz>
{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    dw = DequantizeLinear <axis = 0> (w, ws, wz)
    c = Conv (d, dw)
    cq = QuantizeLinear (c, s, z)
    y = DequantizeLinear (cq, s, z)
}
"""
FEEDS = {"x": np.ones((1, 8, 8, 8), np.float32)}


def test_fused_kernels_are_known_by_what_they_compute():
    net = graph(NET)
    found = profiled(net, FEEDS, seconds=0.01)
    computed = [kernel.outputs for kernel in found if kernel.kind == "Conv"]
    assert ("c",) in computed
    assert all(kernel.latency_us is not None and kernel.latency_us >= 0 for kernel in found)
    assert {value for kernel in found for value in kernel.outputs} <= {"a", "c", "d", "y"}
    assert net.ops()[0].name == ""  # it stays as it was


def test_integer_kernels_are_told_from_float_ones_and_from_those_that_move_numbers():
    found = {kernel.kind: kernel for kernel in profiled(graph(INTEGER), FEEDS, seconds=0.01)}
    assert (found["QLinearConv"].integer, found["QLinearConv"].outputs) == (True, ("c",))
    assert found["QuantizeLinear"].integer is None
    assert all(kernel.integer is False for kernel in profiled(graph(NET), FEEDS, seconds=0.01) if kernel.kind == "Conv")


def test_without_time_one_run_tells_what_is_executed():
    assert {kernel.latency_us for kernel in profiled(graph(INTEGER), FEEDS, seconds=0)} == {None}


def test_an_artifact_tells_its_own_kernels_and_those_of_another_graph():
    artifact = OrtTarget().build(graph(INTEGER), Context())
    assert "QLinearConv" in {kernel.kind for kernel in artifact.kernels(FEEDS, seconds=0)}
    assert "QLinearConv" not in {kernel.kind for kernel in artifact.kernels(FEEDS, graph=graph(NET), seconds=0)}


def test_a_graph_that_cannot_be_run_is_refused():
    with pytest.raises(RuntimeFailure, match="Required inputs"):
        profiled(graph(NET), {}, seconds=0)


def test_an_op_that_runs_as_several_float_kernels_without_names_is_what_they_compute():
    net = graph("""
        g (float[1,8] x) => (float[1,8] y) <float s = {0.1}, uint8 z = {128}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            h = HardSwish (d)
            hq = QuantizeLinear (h, s, z)
            y = DequantizeLinear (hq, s, z)
        }
    """)
    found = profiled(net, {"x": np.ones((1, 8), np.float32)}, seconds=0.01)
    parts = [kernel for kernel in found if kernel.outputs == ("h",)]
    assert [(kernel.kind, kernel.integer) for kernel in parts] == [("HardSigmoid", False), ("Mul", False)]
    assert all(kernel.latency_us is not None for kernel in parts)


def test_what_reads_an_integer_product_that_gives_floats_is_float():
    net = graph("""
        g (float[1,8] x) => (float[1,4] y)
        <float s = {0.1}, uint8 z = {128}, int8[8,4] w, int8 wz = {0}, int32[4] b, float bs = {0.01}, int32 bz = {0}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            dw = DequantizeLinear (w, s, wz)
            db = DequantizeLinear (b, bs, bz)
            a = Gemm (d, dw, db)
            y = Softmax (a)
        }
    """)
    found = {kernel.kind: kernel for kernel in profiled(net, {"x": np.ones((1, 8), np.float32)}, seconds=0)}
    assert (found["QGemm"].integer, found["Softmax"].integer) == (True, False)
    assert OrtTarget().build(net, Context()).report()["other_float_kernels"] == {"Softmax": 1}


def test_a_profiled_run_that_takes_too_long_is_stopped() -> None:
    net = graph(
        """
        g (float[2] x) => (float[2] y) <int64 n = {4611686018427387904}, bool go = {1}> {
           y = Loop (n, go, x) <
              body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) { d = Identity (c)  t = Abs (s) }
           >
        }
        """
    )
    with runs_limited(0.2), pytest.raises(OverdueError, match=r"one run took more than 0\.2 s and was stopped"):
        profiled(net, {"x": np.zeros(2, np.float32)}, seconds=0)
