"""Layers of a report: what belongs to one kernel, what it costs, how far its output is from what it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.compiler import CompileRequest, compile_model
from nncomp.compiler.watching import seen_values
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.passes import Context, Effect, Pass
from nncomp.plugins import Registry
from nncomp.report import LayerTime, find_layers, spread_of
from nncomp.report.page import report_page
from nncomp.report.page.blocks import blocks, drawing
from nncomp.report.spread import BINS, sampled
from nncomp.targets import Kernel
from nncomp.testing import graph
from nncomp.testing.generate import graphs

TABLE = builtin_table()
FLOAT = """
g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w>
{
    [first] a = Conv (x, w)
    [act] b = Relu (a)
    [second] c = Conv (b, w)
    [sum] y = Add (b, c)
}
"""
INTEGER = """
g (float[1,2,4,4] x) => (float[1,2,4,4] y)
<float s = {0.1}, uint8 z = {128}, int8[2,2,1,1] w, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}>
{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    dw = DequantizeLinear <axis = 0> (w, ws, wz)
    [first] a = Conv (d, dw)
    aq = QuantizeLinear (a, s, z)
    ad = DequantizeLinear (aq, s, z)
    [second] c = Conv (ad, dw)
    [sum] y = Add (ad, c)
}
"""


def typed(text):
    """Return a graph whose types are inferred, as passes find it."""
    net = graph(text)
    infer_types(net, TABLE)
    return net


def names(found):
    return [layer.name for layer in found.layers]


def edges(found):
    return [layer.inputs for layer in found.layers]


# ------------------------------------------------------------------ layers


def test_without_kernels_each_op_is_a_layer_and_quantizers_belong_to_it():
    found = find_layers(typed(INTEGER), TABLE)
    assert names(found) == ["QuantizeLinear(q)", "first", "second", "sum"]  # nothing computes what the first one reads
    assert edges(found) == [(), (0,), (1,), (1, 2)]
    first = found.layers[1]
    assert (first.weight_bits, first.activation_bits, first.precision, first.macs, first.params) == (
        8, 8, "integer", 64, 4,
    )  # fmt: skip
    assert found.layers[3].precision == "integer"


def test_what_one_kernel_computes_is_one_layer():
    kernels = [Kernel("Conv", ("b",), False, 3.0), Kernel("Conv", ("y",), False, 5.0), Kernel("Reorder", (), None, 1.0)]
    found = find_layers(typed(FLOAT), TABLE, kernels)
    assert [layer.ops for layer in found.layers] == [("Conv", "Relu"), ("Conv", "Add")]
    assert (names(found), edges(found)) == (["first", "second"], [(), (0,)])
    assert [layer.output for layer in found.layers] == ["b", "y"]
    theirs = [Kernel("Conv", ("a",), False, 2.0), Kernel("Relu", ("b",), False, 2.0)]
    assert found.times(theirs) == (LayerTime(3.0, 4.0), LayerTime(5.0, None))


def test_a_kernel_named_after_the_op_in_the_middle_takes_the_quantizer_behind_it():
    kernels = [Kernel("QuantizeLinear", ("q",), None), Kernel("QLinearConv", ("a",), True)]
    found = find_layers(
        typed(INTEGER), TABLE, [*kernels, Kernel("QLinearConv", ("c",), True), Kernel("Add", ("y",), False)]
    )
    assert names(found)[1:] == ["first", "second", "sum"]
    assert edges(found) == [(), (0,), (1,), (1, 2)]
    assert [layer.precision for layer in found.layers] == ["moves", "integer", "integer", "float"]
    assert found.layers[1].kernel == "QLinearConv"


def test_a_dequantizer_that_is_a_kernel_of_its_own_is_read():
    kernels = [
        Kernel("QLinearConv", ("a",), True),
        Kernel("DequantizeLinear", ("ad",), None),
        Kernel("Add", ("y",), False),
    ]
    found = find_layers(typed(INTEGER), TABLE, [*kernels, Kernel("Conv", ("c",), False)])
    place = {name: number for number, name in enumerate(names(found))}
    assert found.layers[place["sum"]].inputs == (place["DequantizeLinear(ad)"], place["second"])


def test_an_activation_in_front_of_a_product_belongs_to_what_it_reads():
    found = find_layers(typed(FLOAT), TABLE, [Kernel("Conv", ("a",), False), Kernel("Conv", ("c",), False)])
    assert [layer.ops for layer in found.layers] == [("Conv", "Relu"), ("Conv", "Add")]


def test_an_activation_that_a_quantizer_replaces_belongs_to_the_convolution_in_front_of_it():
    net = typed("""
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float s = {0.1}, uint8 z = {0}, float[2,2,1,1] w>
        { [first] a = Conv (x, w) [act] b = Relu (a) q = QuantizeLinear (b, s, z) y = DequantizeLinear (q, s, z) }
    """)
    kernels = [
        Kernel("Conv", ("a",), False),
        Kernel("QuantizeLinear", ("q",), None),
        Kernel("Dequantize", ("y",), None),
    ]
    found = find_layers(net, TABLE, kernels)
    assert [(layer.ops, layer.precision) for layer in found.layers] == [
        (("Conv", "Relu"), "float"), ((), "moves"), ((), "moves"),
    ]  # fmt: skip


def test_an_activation_whose_value_a_change_of_layout_gives_belongs_to_what_computes_it():
    kernels = [Kernel("Conv", ("a",), False, 5.0), Kernel("ReorderOutput", ("b",), None, 1.0)]
    found = find_layers(typed(FLOAT), TABLE, [*kernels, Kernel("Conv", ("c",), False), Kernel("Add", ("y",), False)])
    assert [(layer.ops, layer.kernel, layer.precision) for layer in found.layers] == [
        (("Conv", "Relu"), "Conv + ReorderOutput", "float"), (("Conv",), "Conv", "float"), (("Add",), "Add", "float"),
    ]  # fmt: skip
    assert found.times()[0].latency_us == 6.0


def test_why_a_layer_is_float_comes_from_passes_then_from_the_target():
    found = find_layers(typed(FLOAT), TABLE, (), {"first": "asked for", "Add": "no kernel"})
    assert [layer.cause for layer in found.layers] == ["asked for", "", "", "no kernel"]


def test_what_follows_from_constants_alone_is_no_layer():
    net = graph("g (float[2] x) => (float[2] y) { c = Constant <value = float[2] {1.0, 2.0}> () y = Add (x, c) }")
    assert names(find_layers(net, TABLE)) == ["Add(y)"]


# ------------------------------------------------------------------ spreads


def test_a_spread_counts_what_is_finite_and_what_lies_outside():
    found = spread_of(np.array([0.0, 1.0, 2.0, np.nan, np.inf]), (0.0, 1.0))
    assert (found.low, found.high, sum(found.counts), len(found.counts)) == (0.0, 2.0, 3, BINS)
    assert found.outside == pytest.approx(1 / 3)


@pytest.mark.parametrize("array", [np.zeros(0), np.full(3, np.nan)])
def test_nothing_finite_has_no_spread(array):
    assert spread_of(array) is None


def test_large_tensors_are_read_with_a_stride_that_meets_all_columns():
    array = np.arange(64 * 4096).reshape(4096, 64)
    assert len(set((sampled(array, 1000) % 64).tolist())) == 64


# ------------------------------------------------------------------ what a pass does


def test_errors_and_spreads_are_told_by_value():
    feeds = {"x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)}
    before = typed(FLOAT.replace("Relu (a)", "Identity (a)"))
    found = seen_values(before, typed(INTEGER), feeds, Context(), "quantize")
    assert found["errors"].keys() == {"a", "c", "y"}
    assert found["pass"] == "quantize"
    assert found["activations"]["a"]["covered"] == pytest.approx([-12.8, 12.7])
    assert found["activations"]["c"]["covered"] is None
    assert found["weights"]["a"]["covered"] == pytest.approx([-2.56, 2.54])


def test_a_graph_that_cannot_be_run_says_so():
    found = seen_values(typed(FLOAT), typed(INTEGER), {}, Context(), "quantize")
    assert "x" in found["skipped"]
    assert found["errors"] == {}


# ------------------------------------------------------------------ whole compilations


def test_a_compilation_tells_of_its_layers(classifier):
    data = [{"image": np.random.default_rng(n).normal(size=(1, 3, 224, 224)).astype(np.float32)} for n in range(2)]
    request = CompileRequest(model=classifier, data=data, measure_seconds=0.1)
    report = compile_model(request, Registry.discover()).report
    found = {layer.name: layer for layer in report.layers.layers}
    assert report.layers.against == "quantize"
    assert {"stem", "body", "head"} <= found.keys()
    assert found["body"].precision == "integer"
    assert 0 < found["body"].error < 0.2
    assert found["body"].weight.covered[1] >= found["body"].weight.high * 0.99
    assert all(times.latency_us is not None for times in report.layers.times)
    assert any(times.baseline_us for times in report.layers.times)


def test_what_was_not_measured_says_why(classifier):
    request = CompileRequest(model=classifier, passes=("cleanup",), measure=False)
    report = compile_model(request, Registry.discover()).report
    assert report.layers.skipped == {"latency": "not asked for", "error": "no pass changed numbers"}
    assert {times.latency_us for times in report.layers.times} == {None}
    assert report.as_dict()["measured"]["other_kernels_us"] is None


def test_kernels_that_do_not_say_what_they_compute_make_no_layer(monkeypatch):
    vague = (Kernel("fused_conv", (), True, 100.0),)
    monkeypatch.setattr("nncomp_ort.artifact.OrtArtifact.kernels", lambda *_, **__: vague)
    request = CompileRequest(model=graph(FLOAT), passes=("cleanup",), measure_seconds=0.05)
    report = compile_model(request, Registry.discover()).report.as_dict()
    assert [layer["name"] for layer in report["layers"]["items"]] == ["first", "act", "second", "sum"]
    assert report["layers"]["skipped"]["kernels"] == "target 'ort' does not tell what each of its kernels computes"
    assert report["measured"]["other_kernels_us"] is None
    assert "the runtime put in" not in report_page(report)


def test_an_original_whose_kernels_are_not_known_takes_no_times_from_the_result(monkeypatch):
    def kernels(self, feeds, *, graph=None, seconds=0.25):
        if graph is not None:
            raise UnsupportedError("the original does not run here")
        timed = (("Conv", "b", 3.0), ("Conv", "c", 2.0), ("Add", "y", 1.0))
        return tuple(Kernel(kind, (name,), False, us) for kind, name, us in timed)

    monkeypatch.setattr("nncomp_ort.artifact.OrtArtifact.kernels", kernels)
    request = CompileRequest(model=graph(FLOAT), passes=("cleanup",), measure_seconds=0.05)
    report = compile_model(request, Registry.discover()).report
    assert "kernels" not in report.layers.skipped
    assert [times.latency_us for times in report.layers.times] == [3.0, 2.0, 1.0]
    assert {times.baseline_us for times in report.layers.times} == {None}


@pytest.mark.parametrize("said", [3, "no", ["a"], {"first": 7}])
def test_what_a_pass_says_of_float_ops_in_another_form_is_no_bug(said):
    class Odd(Pass):
        """Leave results in a form of its own."""

        name = "odd"
        effect = Effect.EXACT

        def run(self, graph, ctx):
            ctx.results["odd"] = {"left_float": said}

    report = nncomp.compile(graph(FLOAT), passes=[Odd()], measure=False).report
    causes = {layer.name: layer.cause for layer in report.layers.layers}
    assert causes["first"] == ("7" if said == {"first": 7} else "")


# ------------------------------------------------------------------ any graph


@given(graphs(), st.data())
@settings(max_examples=60)
def test_layers_of_any_graph_hold_each_op_once_and_read_what_was_computed(net, data):
    infer_types(net, TABLE)
    values = [op.output.name for op in net.ops() if op.outputs and op.output.name]
    chosen = data.draw(st.lists(st.sampled_from(values), unique=True)) if values else []
    found = find_layers(net, TABLE, [Kernel("K", (name,), None, 1.0) for name in chosen])
    held = [op for group in found.members for op in group]
    assert len(held) == len(set(held))
    missing = set(net.ops()) - set(held)
    assert all(not op.bodies for op in missing)  # what follows from constants alone
    for number, layer in enumerate(found.layers):
        assert number not in layer.inputs
        assert all(0 <= source < len(found.layers) for source in layer.inputs)
    assert sum(time.latency_us or 0 for time in found.times()) <= len(chosen)
    inputs = [layer.inputs for layer in found.layers]
    parts = blocks(inputs)
    assert [member for part in parts for member in part] == list(range(len(inputs)))
    for part in parts:
        found_drawing = drawing(part, inputs)
        assert all(
            0 <= node.x < found_drawing.width and 0 <= node.y < found_drawing.height for node in found_drawing.nodes
        )
