"""The target in the compiler: a price with its dense baseline, what is not priced, options and their errors."""

import json
import tomllib

import numpy as np
import pytest

import nncomp
from nncomp.cli import main
from nncomp.compiler import CompileRequest, compile_model
from nncomp.data import FeedSource
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.onnx_io import save
from nncomp.probe import TargetProbe
from nncomp.runtime import random_feeds
from nncomp.testing import graph
from nncomp_sparse.hardware import load_hardware, parse_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer
from nncomp_sparse.target import SparseTarget

NET = """
g (float[1,4,8,8] x) => (float[] y)
<float[8,4,3,3] w, float[8] b, float[8,8,1,1] v, float[8,10] m>
{
   c = Conv <pads=[1,1,1,1]> (x, w, b)
   r = Relu (c)
   d = Conv (r, v)
   p = GlobalAveragePool (d)
   f = Flatten (p)
   y = MatMul (f, m)
}
"""


def build(found, data=None, **options):
    return SparseTarget.from_options(options).build(found, nncomp.Context(data=data))


def test_a_dense_model_costs_exactly_what_the_dense_baseline_costs():
    for name in ("eyeriss", "eie", "scnn", "bitfusion", "sparse-tensor-core", "systolic", "eyeriss-v2"):
        artifact = build(graph(NET, opset=17), hw=name, compare=True)
        assert artifact.price.cycles == artifact.dense.cycles, name
        assert artifact.price.energy_uj == artifact.dense.energy_uj, name


def test_zeros_in_weights_are_counted_as_they_are():
    w = np.ones((8, 4, 3, 3), np.float32)
    w[:, 1] = 0
    found = graph(NET, opset=17, constants={"w": w})
    layer = build(found).work.layers[0]
    assert layer.weight.density == 0.75
    assert layer.weight.channels.tolist() == [[1, 0, 1, 1]]


def test_activations_are_dense_without_data_and_measured_with_it():
    found = graph(NET, opset=17)
    assert build(found).report()["activations"] == "no calibration data: activations count as dense"
    feeds = [random_feeds(found, seed=seed) for seed in range(3)]
    artifact = build(found, FeedSource(feeds, found))
    second = artifact.work.layers[1]
    assert second.input.known == "measured"
    assert 0.2 < second.input.density < 0.8
    assert second.input.channels.shape == (1, 8)
    assert np.isclose(second.input.channels.mean(), second.input.density)


def test_what_has_no_price_is_listed():
    text = """g (float[4,4] x) => (float[] y, float[] z) <float[4,4] w>
    { y = MatMul (x, w) z = acme.Thing (x) }"""
    unpriced = build(graph(text)).report()["unpriced"]
    assert unpriced["unknown"] == 1
    assert [(one["kind"], one["reason"]) for one in unpriced["ops"]] == [
        ("Thing", "no op semantics: nothing is known about this op")
    ]


def test_a_model_without_products_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        build(graph("g (float[2] x) => (float[] y) { y = Relu (x) }"))
    nothing = "there is nothing to price: no op multiplies and accumulates with known sizes"
    assert caught.value.message == f"{nothing} (1 x Relu: no multiply-accumulates)"


def test_sizes_that_the_model_states_need_no_inputs_made_up():
    """A string cannot be made up, and what is larger than memory need not be."""
    text = "g (string[3] s, float[1000000,1000000] x) => (float[] y) <float[1000000,1] w> { y = MatMul (x, w) }"
    found = graph(text.replace("<float[1000000,1] w>", "").replace("w)", "x)"))
    assert build(found).price.macs == 10**18


def test_a_machine_that_is_too_small_says_which_level():
    text = 'name = "tiny"\nclock_mhz = 1.0\narray = { rows = 8, cols = 8 }\n'
    text += 'levels = [{ name = "dram" }, { name = "glb", kb = 0.01 }]\n'
    with pytest.raises(UnsupportedError) as caught:
        price_layer(Layer.given("fc", nncomp.ops.LoopNest(outputs=64, inputs=64)), parse_hardware(tomllib.loads(text)))
    assert caught.value.message.startswith(
        "hardware 'tiny': level 'glb' holds 0.01 KB, too little for the smallest tile"
    )


def test_options_are_checked():
    with pytest.raises(RecipeError) as caught:
        SparseTarget.from_options({"hardware": "eie"})
    assert caught.value.message == "sparse: unknown option 'hardware'"
    assert caught.value.hint == "options: hw, objective, compare, samples"
    with pytest.raises(RecipeError, match=r"^sparse\.objective: expected 'cycles', 'energy' or 'edp', got 'speed'$"):
        SparseTarget.from_options({"objective": "speed"})
    assert SparseTarget.from_options({"hw": "eie"}).spec == 'sparse{hw="eie"}'
    assert SparseTarget().spec == "sparse"


def test_a_machine_is_for_targets_that_describe_some(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    save(graph(NET, opset=17), path)
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "--hw", "eie"]) == 2
    assert "ort: unknown option 'hw'\n  hint: --hw is for -t sparse\n" in capsys.readouterr().err
    assert main(["compile", str(path), "-t", "sparse", "--hw", "eyeris"]) == 2
    assert "unknown hardware 'eyeris'" in capsys.readouterr().err


def test_the_price_is_compared_with_that_of_the_original():
    found = graph(NET, opset=17)
    request = CompileRequest(
        model=found, target="sparse", target_options={"hw": "systolic"}, passes=("cleanup",), measure_seconds=0
    )
    report = compile_model(request).report
    assert report.latency.ratio == 1.0
    assert report.target_report["hardware"]["name"] == "systolic"


def test_the_command_prices_without_a_folder(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    save(graph(NET, opset=17), path)
    assert main(["compile", str(path), "-t", "sparse", "--hw", "eyeriss", "--compare", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target_report"]["dense"]["cycles"] == said["target_report"]["cycles"]
    assert main(["compile", str(path), "-t", "sparse", "--hw", "eyeriss"]) == 0
    shown = capsys.readouterr().out
    assert "DRAM traffic" in shown
    assert "products not priced" in shown


def test_a_recipe_keeps_the_machine(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('version = 1\ntarget = \'sparse{hw="systolic"}\'\npasses = ["cleanup"]\n')
    result = compile_model(CompileRequest(model=graph(NET, opset=17), recipe=recipe, measure=False))
    assert result.report.target_report["hardware"]["name"] == "systolic"
    assert 'sparse{hw=\\"systolic\\"}' in result.lock


def test_a_quantized_model_has_the_widths_that_it_says():
    found = graph(NET, opset=17)
    feeds = [random_feeds(found, seed=seed) for seed in range(3)]
    request = CompileRequest(
        model=found,
        target="sparse",
        target_options={"hw": "bitfusion"},
        passes=("cleanup", "fuse", "quantize"),
        data=FeedSource(feeds, found),
        measure=False,
    )
    layers = compile_model(request).report.target_report["layers"]
    assert [layer["bits"]["weight"] for layer in layers[:2]] == [{"bits": 8, "from_model": True}] * 2
    assert layers[1]["bits"]["input"] == {"bits": 8, "from_model": True}
    assert all(layer["density"]["weight"]["known"] == "measured" for layer in layers)


def test_narrow_weights_are_faster_where_units_split():
    def one(bits):
        nest = nncomp.ops.LoopNest(batch=64, outputs=64, inputs=512)
        layer = Layer.given("fc", nest, weight_bits=bits, input_bits=bits, output_bits=bits)
        return price_layer(layer, load_hardware("bitfusion"), "edp")

    assert one(8).compute_cycles == 4 * one(4).compute_cycles == 16 * one(2).compute_cycles
    assert one(4).energy < one(8).energy


def test_costs_are_those_of_the_layers_by_op():
    artifact = build(graph(NET, opset=17))
    costs = artifact.costs()
    assert costs.keys() == {"Conv(c)", "Conv(d)", "MatMul(y)"}
    assert sum(cost.energy_pj for cost in costs.values()) == pytest.approx(artifact.price.energy_uj * 1e6)
    assert sum(cost.latency_us for cost in costs.values()) == pytest.approx(artifact.price.latency_us)


def test_a_probe_prices_by_op_and_with_the_zeros_of_data():
    made, probe = graph(NET, opset=17), TargetProbe(SparseTarget.from_options({"hw": "eyeriss-v2"}))
    nothing = FeedSource([{"x": np.zeros((1, 4, 8, 8), np.float32)}], made)
    plain, seen = probe.costs(made), probe.costs(made, data=nothing)
    assert plain.keys() == seen.keys()
    assert seen["Conv(c)"].energy_pj < plain["Conv(c)"].energy_pj


CHAIN = """g (float[1,64] x) => (float[] y) <float[16,8] a, float[8,64] b, float[8,4] c>
{ r = Reshape (x, s1) p = MatMul (r, c) q = Reshape (p, s2) y = MatMul (q, b) }"""


def test_what_a_chain_of_products_hands_on_stays_on_chip():
    text = CHAIN.replace("float[8,4] c", "float[8,4] c, int64[2] s1 = {8, 8}, int64[2] s2 = {4, 8}")
    artifact = build(graph(text.replace("float[16,8] a, ", "")), hw="tt-engine")
    first, second = artifact.price.layers
    moved = {(layer.name, one.tensor): one.payload_bytes for layer in (first, second) for one in layer.traffic[:3]}
    assert moved["MatMul(p)", "output"] == moved["MatMul(y)", "input"] == 0
    assert moved["MatMul(p)", "input"] > 0
    assert moved["MatMul(y)", "output"] > 0
