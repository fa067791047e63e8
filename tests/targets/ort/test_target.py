"""Target ``ort``: what it says beforehand, what it makes legal, what it builds."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import TensorType
from nncomp.onnx_io import load, to_bytes
from nncomp.runtime import Session, random_feeds, run
from nncomp.testing import assert_same_function, assert_text, graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph
from nncomp_ort.keep_float import keep_float
from nncomp_ort.legalize import legalize
from nncomp_ort.target import OrtTarget

SMALL = "g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w> { c = Conv (x, w) y = Relu (c) }"


def check(text, *, opset=18):
    found = graph(text, opset=opset) if isinstance(text, str) else text
    infer_types(found)
    return OrtTarget().check(found, nncomp.Context(target=CAPABILITIES))


def said(findings):
    return [(one.level, one.kind, one.reason) for one in findings]


# ------------------------------------------------------------------ check


def test_check_says_how_each_op_will_run():
    findings = check("""
    g (float[1,3,8,8] x) => (float[1,4,8,6] y) <float[4,3,1,1] w, float[8,6] w2>
    { c = Conv (x, w) r = Relu (c) t = Tanh (r) y = MatMul (t, w2) }
    """)
    assert said(findings) == [
        ("ok", "Conv", "INT8"),
        ("ok", "Relu", "INT8, part of the op in front of it"),
        ("float", "Tanh", "no INT8 kernel"),
        ("ok", "MatMul", "INT8, activations quantized at run time"),
    ]
    assert [one.node for one in findings] == ["Conv(c)", "Relu(r)", "Tanh(t)", "MatMul(y)"]


@pytest.mark.parametrize(
    ("op", "level", "reason"),
    [
        ('Resize <mode = "nearest"> (x, , factors)', "ok", "INT8"),
        ('Resize <mode = "linear"> (x, , factors)', "float", "INT8 in nearest mode only"),
        ("MatMul (x, x)", "float", "its weight is not constant"),
        ("Relu (x)", "float", "no INT8 kernel"),
        ("Softmax (x)", "float", "exponentials magnify rounding errors, and small probabilities vanish"),
        ("ConvTranspose (x, w)", "float", "no INT8 kernel for transposed convolution"),
        (
            "com.microsoft.Gelu (x)",
            "float",
            "its small negative outputs need a finer scale than its large positive ones",
        ),
    ],
)
def test_check_knows_attributes_and_operands(op, level, reason):
    findings = check(
        f"g (float[1,3,8,8] x) => (float[] y) <float[3,4,2,2] w, float[4] factors = {{1, 1, 2, 2}}> {{ y = {op} }}"
    )
    assert (findings[-1].level, findings[-1].reason) == (level, reason)


def test_check_looks_into_bodies():
    findings = check("""
    g (float[1,3,8,8] x, bool k) => (float[1,4,8,8] y) <float[4,3,1,1] w>
    {
       y = If (k) <
          then_branch = yes () => (float[1,4,8,8] p) { p = Conv (x, w) },
          else_branch = no () => (float[1,4,8,8] q) { q = Conv (x, w) }
       >
    }
    """)
    inside = [one for one in findings if one.kind == "Conv"]
    assert [(one.level, one.reason) for one in inside] == [("ok", "INT8"), ("ok", "INT8")]


def test_check_has_one_refusal_with_what_onnxruntime_says():
    findings = check("g (float[2] x) => (float[2] y) { y = acme.Nothing (x) }")
    refused = [one for one in findings if one.level == "refused"]
    assert len(refused) == 1
    assert "acme" in refused[0].reason
    assert "\n" not in refused[0].reason


def test_check_leaves_the_graph_alone():
    found = graph(SMALL, opset=6)
    version = found.version
    OrtTarget().check(found, nncomp.Context())
    assert (found.version, found.opsets[""]) == (version, 6)


def test_a_target_with_its_library_misses_nothing():
    assert OrtTarget().missing() == ""


# ------------------------------------------------------------------ legalize


@pytest.mark.parametrize(("given", "expected"), [(6, 7), (7, 7), (17, 17), (26, 26), (27, 26), (28, 26)])
def test_opsets_that_onnxruntime_does_not_read_are_converted(given, expected):
    found = graph(SMALL, opset=given)
    legalize(found)
    assert found.opsets[""] == expected
    assert_same_function(graph(SMALL, opset=17), found)


def test_an_ir_version_that_onnxruntime_does_not_read_is_lowered():
    found = graph(SMALL)
    found.set_info(ir_version=14)
    legalize(found)
    assert found.info.ir_version == 13
    Session(found)


def test_an_ir_version_that_it_reads_stays():
    found = graph(SMALL)
    legalize(found)
    assert found.info.ir_version == 10


def test_what_the_table_promises_is_read_by_the_installed_runtime():
    """The limits are those of the oldest runtime that the table was made for (1.31); newer ones read more."""
    for opset in CAPABILITIES.opsets:
        found = graph(SMALL, opset=opset)
        found.set_info(ir_version=CAPABILITIES.max_ir_version)
        executed_graph(to_bytes(found))


def test_a_model_without_onnx_own_opset_is_left_alone():
    found = graph("g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu (x) }")
    found.set_info(opsets={"com.microsoft": 1})
    legalize(found)
    assert dict(found.opsets) == {"com.microsoft": 1}


# ------------------------------------------------------------------ keep_float

KEPT = """
g (float[1,4,8,8] x) => (float[1,4,8,8] y)
<float s = {0.05}, uint8 z = {0}, float[4,4,1,1] w, float[4,4] m>
{
   x_q = QuantizeLinear (x, s, z)
   x_d = DequantizeLinear (x_q, s, z)
   %s
   c_q = QuantizeLinear (%s, s, z)
   y = DequantizeLinear (c_q, s, z)
}
"""


def test_a_float_convolution_between_quantizers_gets_a_copy_in_front():
    found = graph(KEPT % ("a = Conv (x_d, w) c = Relu (a)", "c"))
    assert keep_float(found) == 1
    assert_text(found, KEPT % ("x_d_float = Concat <axis = 0> (x_d) a = Conv (x_d_float, w) c = Relu (a)", "c"))
    assert keep_float(found) == 0


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ("c = Conv (x, w)", "c"),
        ("a = Conv (x_d, w) c = Tanh (a)", "c"),
        ("a = Conv (x_d, w) b = Relu (a) c = Add (a, b)", "c"),
        ("c = MatMul (x_d, m)", "c"),
        ("v = Tanh (w) c = Conv (x_d, v)", "c"),
    ],
    ids=["float input", "no quantizer behind", "two readers", "another kind", "computed weight"],
)
def test_what_onnxruntime_leaves_float_gets_no_copy(body, last):
    assert keep_float(graph(KEPT.replace("float[4,4] m", "float[8,8] m") % (body, last))) == 0


def test_a_graph_that_was_not_left_float_in_part_gets_no_copy(quantize):
    made = quantize("""
    g (float[1,3,8,8] x) => (float[] y) <float[4,3,1,1] w, float[4,4,1,1] w2> { c = Conv (x, w) y = Conv (c, w2) }
    """)
    assert "Concat" not in made.executed.kernels


def test_a_skipped_convolution_computes_what_it_did(quantize):
    text = """
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w, float[4,4,1,1] w2, float[4,4,1,1] w3>
    { a = Conv (x, w) b = Conv (a, w2) y = Conv (b, w3) }
    """
    made = quantize(text, skip=("output:b",))
    feeds = random_feeds(made.before)
    assert np.abs(made.artifact.run(feeds)["y"] - run(made.graph, feeds)["y"]).max() <= 1e-5


# ------------------------------------------------------------------ build and the artifact


def quantized(quantize):
    return quantize("""
    g (float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,1,1] w, float[4,4,3,3] w2, float[4] b>
    { c = Conv (x, w, b) r = Relu (c) y = Conv <pads = [1, 1, 1, 1]> (r, w2) }
    """)


def test_build_leaves_the_graph_alone():
    found = graph(SMALL, opset=6)
    artifact = OrtTarget().build(found, nncomp.Context())
    assert found.opsets[""] == 6
    assert artifact.graph.opsets[""] == 7


def test_build_runs_with_the_threads_of_the_context():
    assert OrtTarget().build(graph(SMALL), nncomp.Context(threads=2)).threads == 2


def test_a_model_that_onnxruntime_refuses_is_unsupported_in_one_line():
    with pytest.raises(UnsupportedError) as error:
        OrtTarget().build(graph("g (float[2] x) => (float[2] y) { y = acme.Nothing (x) }"), nncomp.Context())
    assert error.value.code == "NNC-T002"
    assert "\n" not in str(error.value)


def test_an_artifact_is_saved_as_a_model_that_gives_the_same_results(quantize, tmp_path):
    made = quantized(quantize)
    files = made.artifact.save(tmp_path, name="small")
    assert files == (tmp_path / "small.onnx",)
    assert_same_function(made.graph, load(files[0]), feeds=random_feeds(made.before), exact=True)


def test_an_artifact_runs_as_onnxruntime_does_with_all_optimizations(quantize):
    made = quantize("g (float[8,256] x) => (float[8,64] y) <float[256,64] w> { y = Gemm (x, w) }")
    feeds = made.feeds[0]
    integer, written = (Session(made.graph, optimize=optimize).run(feeds)["y"] for optimize in (True, False))
    assert not np.array_equal(integer, written), "sums of integers are exact, those of floats are rounded"
    assert np.array_equal(made.artifact.run(feeds)["y"], integer)


def test_an_artifact_is_measured_against_the_model_it_came_from(quantize):
    made = quantized(quantize)
    found = made.artifact.measure(random_feeds(made.before), made.before, seconds=0.01)
    low, high = found.spread
    assert 0 < low <= found.ratio <= high
    assert min(found.latency_us, found.baseline_us) > 0
    assert found.pairs >= 15
    assert found.threads == 1


def test_the_report_of_an_artifact_is_what_is_executed(quantize):
    made = quantized(quantize)
    assert made.artifact.report() == made.executed.as_dict()
    assert made.artifact.report()["int8_coverage"] == 1.0
    assert made.artifact.report()["kernels"]["QLinearConv"] == 2


def test_the_interface_of_what_is_built_is_that_of_the_model(quantize):
    made = quantized(quantize)
    assert [(value.name, value.type) for value in made.artifact.graph.inputs] == [
        (value.name, value.type) for value in made.before.inputs
    ]
    (output,) = made.artifact.graph.outputs
    assert isinstance(output.type, TensorType)
    assert (output.name, output.type.shape) == ("y", ("N", 4, 8, 8))


# ------------------------------------------------------------------ opsets above the promise


def test_a_model_that_onnx_cannot_lower_stays_where_the_runtime_loads_it_and_says_so(monkeypatch):
    import nncomp_ort.legalize as legalizing

    def refuse(graph, version):
        raise UnsupportedError("no", code="NNC-M038")

    model = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset=27)
    monkeypatch.setattr(legalizing, "convert_opset", refuse)
    monkeypatch.setattr(legalizing, "_loads", lambda graph: True)
    monkeypatch.setattr("nncomp_ort.target.executed_of", lambda model: executed_graph(to_bytes(graph(TINY)), threads=1))
    ctx = nncomp.Context(target=CAPABILITIES)
    OrtTarget().build(model, ctx)
    assert [(note.code, note.reason) for note in ctx.notes] == [
        (
            "NNC-W064",
            "the model stays at opset 27, as onnx cannot lower it to 26: an older onnxruntime may refuse it",
        )
    ]
    monkeypatch.setattr(legalizing, "_loads", lambda graph: False)
    with pytest.raises(UnsupportedError, match="no"):
        legalize(model.clone())


TINY = "g (float[2] x) => (float[2] y) { y = Relu (x) }"
