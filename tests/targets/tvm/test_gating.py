"""The gate: a build that gives other numbers than ONNX Runtime is refused, and the smallest piece that does is left."""

import json

import numpy as np
import pytest

import nncomp
from nncomp.errors import GateError
from nncomp.onnx_io import load
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_tvm.gating import difference
from nncomp_tvm.target import TvmCpuTarget

CHAIN = "g (float[2,3] x) => (float[2,3] y) { a = Neg (x) b = Exp (a) c = Abs (b) y = Neg (c) }"


@pytest.fixture
def broken_exp(monkeypatch):
    """A compiler in which Exp is 2 to the power."""
    from nncomp_tvm.lowering import frontend

    def wrong(call):
        from nncomp_tvm.library import relax

        if call.op.kind == "Exp":
            return [call.builder.emit(relax.op.power(relax.const(2.0, "float32"), call.inputs[0]))]
        return frontend.from_frontend(call)

    monkeypatch.setattr("nncomp_tvm.lowering.importer.converted", wrong)


def test_a_wrong_build_is_refused_with_the_smallest_piece(tmp_path, broken_exp):
    ctx = nncomp.Context(reproducer=tmp_path / "o.repro")
    with pytest.raises(GateError) as refusal:
        TvmCpuTarget().build(graph(CHAIN, opset=18), ctx)
    assert (refusal.value.code, refusal.value.exit_status) == ("NNC-G005", 5)
    assert refusal.value.message.startswith("the compiled model is wrong: output 'y' is 0.")
    folder = ctx.reproducer
    assert refusal.value.hint == (
        f"1 op still does; replay: nncomp compile {folder}/repro.onnx -t 'tvm-cpu' -r {folder}/recipe.toml "
        f"--data {folder}/feeds.npz -o {folder}/out"
    )
    assert [op.kind for op in load(folder / "repro.onnx").ops()] == ["Exp"]
    assert list(np.load(folder / "feeds.npz")) == ["a"]
    assert json.loads((folder / "repro.json").read_text())["ops"] == 1


def test_without_an_output_folder_nothing_is_written(broken_exp):
    with pytest.raises(GateError) as refusal:
        TvmCpuTarget().build(graph(CHAIN, opset=18), nncomp.Context())
    assert refusal.value.hint == ""


def test_floats_may_differ_by_rounding_integers_not_at_all_and_codes_by_one_step():
    floats = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset=18)
    ones = {"y": np.ones(2, np.float32)}
    assert difference(floats, ones, {"y": ones["y"] * np.float32(1 + 1e-5)}) == ""
    assert difference(floats, ones, {"y": ones["y"] * np.float32(1 + 1e-3)}) == (
        "output 'y' is 0.001 relative away from ONNX Runtime's"
    )
    integers = graph("g (int64[2] x) => (int64[2] y) { y = Neg (x) }", opset=18)
    assert difference(integers, {"y": np.array([5, 100000])}, {"y": np.array([5, 100001])}) != ""
    codes = graph(
        "g (float[2] x) => (uint8[2] y) <float s = {1}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }", opset=18
    )
    five = {"y": np.array([5, 5], np.uint8)}
    assert difference(codes, five, {"y": np.array([5, 6], np.uint8)}) == ""
    assert difference(codes, five, {"y": np.array([5, 7], np.uint8)}) == (
        "output 'y' is up to 2 steps away from ONNX Runtime's"
    )


def test_what_nobody_can_run_for_comparison_is_a_warning(monkeypatch):
    from nncomp.runtime import RuntimeFailure

    def refuse(feeds):
        raise RuntimeFailure("no kernel")

    monkeypatch.setattr("nncomp_tvm.gating.reference_of", lambda graph, optimize: refuse)
    model, ctx = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset=18), nncomp.Context()
    artifact = TvmCpuTarget().build(model, ctx)
    assert [(note.code, note.reason) for note in ctx.notes] == [
        ("NNC-W063", "the gate could not look: the graph cannot be run for comparison: no kernel")
    ]
    feeds = {"x": np.array([-1, 1], np.float32)}
    np.testing.assert_array_equal(artifact.run(feeds)["y"], run(model, feeds)["y"])


def test_a_tensor_is_no_sequence():
    model = graph("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct (x) }", opset=18)
    ones = np.ones(2, np.float32)
    assert difference(model, {"y": [ones]}, {"y": [ones]}) == ""
    assert difference(model, {"y": [ones]}, {"y": ones}) == "output 'y' is a tensor, not a sequence"
    assert difference(model, {"y": ones}, {"y": [ones]}) == "output 'y' is a sequence, not a tensor"
