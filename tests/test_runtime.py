"""Running a graph on ONNX Runtime: weights by reference, any value as an output, errors in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nncomp.errors import UnsupportedError
from nncomp.gate import Gate
from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import save, to_bytes
from nncomp.passes import Effect
from nncomp.runtime import RuntimeFailure, Session, random_feeds, run, run_bytes, session_options
from nncomp.testing import graph

TEXT = """
g (float[2,8] x) => (float[2,4] y) <float[8,16] big, float[16,4] w, float[4] small> {
   a = MatMul (x, big)  b = MatMul (a, w)  y = Add (b, small)
}
"""
X = np.ones((2, 8), np.float32)


def test_a_graph_gives_its_outputs_by_name() -> None:
    g = graph("g (float[2] x) => (float[2] y, float[2] z) { y = Neg (x)  z = Abs (x) }")
    found = run(g, {"x": np.array([1, -2], np.float32)})
    assert {name: data.tolist() for name, data in found.items()} == {"y": [-1, 2], "z": [1, 2]}


@pytest.mark.parametrize("optimize", [False, True])
def test_weights_handed_over_by_reference_give_what_numpy_gives(optimize: bool) -> None:
    g = graph(TEXT)
    big, w, small = (g.array(g.find(name)).astype(np.float32) for name in ("big", "w", "small"))  # type: ignore[union-attr]
    assert np.allclose(run(g, {"x": X}, optimize=optimize)["y"], X @ big @ w + small, rtol=1e-5)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_large_constant_that_nobody_reads_does_no_harm(optimize: bool) -> None:
    model = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    model.add_constant("unread", np.ones(1000, np.float32))
    assert run(model, {"x": np.array([-1, 1], np.float32)}, optimize=optimize)["y"].tolist() == [0, 1]


def test_a_session_outlives_its_graph() -> None:
    session = Session(graph(TEXT))
    expected = session.run({"x": X})["y"]
    garbage = [np.random.default_rng(n).normal(size=1000) for n in range(100)]
    assert np.array_equal(session.run({"x": X})["y"], expected)
    assert len(garbage) == 100


def test_any_value_may_be_an_output() -> None:
    found = Session(graph(TEXT), outputs=["a", "y"]).run({"x": X})
    assert {name: data.shape for name, data in found.items()} == {"a": (2, 16), "y": (2, 4)}


def test_asking_for_a_value_changes_nothing_in_the_graph() -> None:
    g = graph(TEXT)
    version = g.version
    Session(g, outputs=["a"])
    assert g.version == version
    assert [value.name for value in g.outputs] == ["y"]


def test_a_session_knows_what_it_takes_and_gives() -> None:
    session = Session(graph(TEXT))
    assert (session.input_names, session.output_names) == (["x"], ["y"])


def test_an_input_with_a_default_may_be_left_out_or_given() -> None:
    numbers = ", ".join(["2"] * 100)
    g = graph(f"g (float[100] x, float[100] d = {{{numbers}}}) => (float[100] y) {{ y = Mul (x, d) }}")
    x = np.ones(100, np.float32)
    assert run(g, {"x": x})["y"][0] == 2
    assert run(g, {"x": x, "d": x * 5})["y"][0] == 5


def test_weights_of_bodies_run_too() -> None:
    g = graph(
        "g (bool c, float[1,64] x) => (float[1,64] y) <float[64,64] v> { y = If (c) <then_branch = t () => (p) "
        "<float[64,64] w> { p = MatMul (x, w) }, else_branch = e () => (q) { q = MatMul (x, v) }> }"
    )
    body = g.ops()[0].bodies["then_branch"]
    inner, outer = body.array(body.find("w")), g.array(g.find("v"))
    assert inner is not None
    assert outer is not None
    x = np.ones((1, 64), np.float32)
    for condition, weight in ((True, inner), (False, outer)):
        found = run(g, {"c": np.array(condition), "x": x})["y"]
        assert np.allclose(found, x @ weight.astype(np.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["BFLOAT16", "INT4", "STRING"])
def test_constants_that_numpy_cannot_hand_over_run_too(dtype: str) -> None:
    kind = DataType[dtype]
    data = np.array(["1"] * 200, object) if kind is DataType.STRING else np.ones(200).astype(kind.numpy())
    g = Graph()
    g.import_opset("", 21)
    cast = g.add_op("Cast", [g.add_constant("k", data)], [("y", TensorType(DataType.FLOAT, (200,)))], attrs={"to": 1})
    g.set_outputs([cast.output])
    assert run(g, {})["y"].tolist() == [1] * 200


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("g (float[2] x) => (float[2] y, float[2] y) { y = Relu (x) }", ["y"]),
        ("g (float[2] x) => (float[2] x) { }", ["x"]),
        ("g (float[2] x) => (float[99] c, float[2] y) <float[99] c> { y = Relu (x) }", ["c", "y"]),
    ],
    ids=["twice", "input", "constant"],
)
def test_unusual_outputs_run(text: str, names: list[str]) -> None:
    assert list(run(graph(text), {"x": np.ones(2, np.float32)})) == names


def test_a_model_newer_than_the_runtime_is_handed_over_as_old_as_it_can_be() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    g.set_info(ir_version=14)
    assert run(g, {"x": np.ones(2, np.float32)})["y"].tolist() == [1, 1]


def test_what_the_runtime_refuses_is_one_line() -> None:
    with pytest.raises(RuntimeFailure) as error:
        Session(graph("g (float[2] x) => (float[2] y) { y = com.acme.Foo (x) }"))
    assert error.value.message.startswith("[ONNXRuntimeError] : ")
    assert "\n" not in error.value.message
    assert (error.value.code, error.value.exit_status) == ("NNC-T002", 4)


def test_a_kernel_that_fails_is_one_line() -> None:
    g = graph("g (float[2] x, int64[1] i) => (y) { y = Gather (x, i) }")
    with pytest.raises(RuntimeFailure) as error:
        run(g, {"x": np.ones(2, np.float32), "i": np.array([7])})
    assert "indices element out of data bounds" in error.value.message
    assert "\n" not in error.value.message


def test_a_missing_input_is_said() -> None:
    with pytest.raises(RuntimeFailure) as error:
        run(graph(TEXT), {})
    assert "Required inputs (['x']) are missing" in error.value.message
    assert re.fullmatch(r"input 'x' is float32\[.*\], and was not given", error.value.hint)


@pytest.mark.parametrize(
    ("name", "given", "hint"),
    [
        ("y", np.ones(2, np.float32), "'y' is no input of the model; input 'x' is float32[2], and was not given"),
        ("x", np.ones(2), "input 'x' is float32[2], and was given float64[2]"),
        ("x", np.ones((2, 1), np.float32), "input 'x' is float32[2], and was given float32[2,1]"),
        ("x", np.ones(3, np.float32), "input 'x' is float32[2], and was given float32[3]"),
    ],
)
def test_what_does_not_fit_an_input_is_said_with_what_would(name, given, hint) -> None:
    with pytest.raises(RuntimeFailure) as error:
        run(graph("g (float[2] x) => (float[2] y) { y = Relu (x) }"), {name: given})
    assert error.value.hint == hint


def test_without_onnxruntime_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnsupportedError) as error:
        Session(graph(TEXT))
    assert (error.value.code, error.value.message) == ("NNC-T001", "onnxruntime is not installed")
    assert error.value.hint == "pip install onnxruntime"


def test_references_run_as_they_stand_on_one_thread() -> None:
    import onnxruntime

    plain, fast = session_options(optimize=False), session_options(threads=3)
    level = onnxruntime.GraphOptimizationLevel
    assert (plain.graph_optimization_level, plain.intra_op_num_threads) == (level.ORT_DISABLE_ALL, 1)
    assert (fast.graph_optimization_level, fast.intra_op_num_threads) == (level.ORT_ENABLE_ALL, 3)


# ---------------------------------------------------------------- inputs


def test_random_inputs_fit_types_and_depend_on_the_seed_only() -> None:
    g = graph("g (float[N,3] x, int64[M] i, bool[4] b, float16 h, float[?] u, double[] r) => () { }")
    feeds = random_feeds(g, dims={"M": 5})
    assert {name: (data.shape, data.dtype.name) for name, data in feeds.items()} == {
        "x": ((1, 3), "float32"),
        "i": ((5,), "int64"),
        "b": ((4,), "bool"),
        "h": ((), "float16"),
        "u": ((1,), "float32"),
        "r": ((), "float64"),
    }
    again, other = random_feeds(g, dims={"M": 5}), random_feeds(g, dims={"M": 5}, seed=1)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert not np.array_equal(feeds["x"], other["x"])


def test_integers_are_safe_as_ids_and_indices() -> None:
    feeds = random_feeds(graph("g (int64[1000] i) => () { }"))
    assert set(feeds["i"].tolist()) == {0, 1}


def test_inputs_with_a_default_are_left_out() -> None:
    assert list(random_feeds(graph("g (float[2] x, float[2] d = {1, 2}) => () { }"))) == ["x"]


@pytest.mark.parametrize(
    ("type_", "said"),
    [("seq(float[2])", "seq(float[2])"), ("string[2]", "string[2]"), ("complex64[2]", "complex64[2]")],
)
def test_inputs_that_cannot_be_generated_are_named(type_: str, said: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        random_feeds(graph(f"g ({type_} s) => () {{ }}"))
    assert error.value.message == f"input 's' is {said}: only dense numeric tensors can be generated"


@pytest.mark.parametrize(
    ("word", "dtype"),
    [
        ("bfloat16", DataType.BFLOAT16),
        ("float8e4m3fn", DataType.FLOAT8E4M3FN),
        ("int4", DataType.INT4),
        ("uint4", DataType.UINT4),
    ],
)
def test_types_that_numpy_lacks_go_in_and_out_bit_by_bit(word: str, dtype: DataType) -> None:
    text = f"g ({word}[3,5] x) => ({word}[3,5] y) {{ f = Cast <to = 1> (x)  y = Cast <to = {dtype.value}> (f) }}"
    model = graph(text, opset=21)
    x = np.random.default_rng(0).integers(0, 8, (3, 5)).astype(dtype.numpy())
    y = run(model, {"x": x})["y"]
    assert (y.dtype, y.shape, y.tobytes()) == (dtype.numpy(), (3, 5), x.tobytes())
    assert random_feeds(model)["x"].dtype == dtype.numpy()
    assert Gate().check(model, model.clone(), Effect.EXACT).passed


def test_a_written_model_is_run_as_it_stands() -> None:
    model = graph("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    samples = [{"x": np.array([1, -2], np.float32)}, {"x": np.zeros(2, np.float32)}]
    assert [one["y"].tolist() for one in run_bytes(to_bytes(model), samples)] == [[-1, 2], [0, 0]]
    with pytest.raises(RuntimeFailure):
        run_bytes(b"", samples)
    with pytest.raises(RuntimeFailure):
        run_bytes(to_bytes(model), [{}])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of memory")
def test_a_reference_costs_no_copy_of_weights_that_lie_in_a_file(tmp_path: Path) -> None:
    g = Graph("big")
    x = g.add_input("x", TensorType(DataType.FLOAT, (1, 2048)))
    for number in range(4):  # 16 MiB each
        x = g.add_op("MatMul", [x, g.add_constant(f"w{number}", np.full((2048, 2048), 2.0**-11, np.float32))]).output
    g.set_outputs([x])
    path = save(g, tmp_path / "big.onnx")[0]
    code = f"""
from nncomp.onnx_io import load
from nncomp.runtime import Session
import numpy as np
def own():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(lines["RssAnon"].split()[0]) >> 10
g, feeds = load({str(path)!r}), {{"x": np.ones((1, 2048), np.float32)}}
import onnxruntime
before = own()
session = Session(g)
assert session.run(feeds)[session.output_names[0]].tolist() == [[1.0] * 2048]
print(own() - before)
"""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}  # what is freed is given back
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 32
