"""Static or dynamic, op by op: what is offered, what is written, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from nncomp import Context
from nncomp.compiler import CompileRequest, compile_model
from nncomp.data import FeedSource
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.ir import DataType
from nncomp.onnx_io import save, to_bytes
from nncomp.plugins import Registry
from nncomp.runtime import random_feeds
from nncomp.targets import WideActivations
from nncomp.testing import assert_text, graph
from nncomp.tuning import Unit
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph
from nncomp_quant.quantize import Quantize

from .conftest import prepared

GEMM = """
g (float[2,8] x) => (float[2,4] y) <float[8,8] w, float[8] b, float[4,8] w2, float[4] b2>
{ [one] h = Gemm (x, w, b) r = Relu (h) [two] y = Gemm <transB = 1> (r, w2, b2) }
"""
PRODUCTS = """
g (float[2,8] x) => (float[2,4] y) <float[8,8] w, float[8] b, float[8,4] w2>
{ [one] h = MatMul (x, w) a = Add (h, b) t = Tanh (a) [two] y = MatMul (t, w2) }
"""


def kernels(made):
    return [node.op_type for node in executed_graph(to_bytes(made.graph)).graph.node]


def units(text, *, data=True, target=CAPABILITIES, **options):
    found = prepared(text)
    source = FeedSource([random_feeds(found)], found) if data else None
    return Quantize(**options).units(found, Context(target=target, data=source))


def test_a_product_that_is_static_may_be_dynamic():
    assert units(GEMM) == [Unit(name, "Gemm", ("int8", "dynamic", "float")) for name in ("one", "two")]


def test_a_product_that_is_dynamic_may_be_static_where_there_is_data():
    assert units(PRODUCTS) == [Unit(name, "MatMul", ("int8", "static", "float")) for name in ("one", "two")]
    assert units(PRODUCTS, data=False) == [Unit(name, "MatMul", ("int8", "float")) for name in ("one", "two")]


def test_only_what_the_target_has_is_offered():
    conv = "g (float[1,3,8,8] x) => (float[] y) <float[4,3,1,1] w> { [one] y = Conv (x, w) }"
    assert units(conv) == [Unit("one", "Conv", ("int8", "float"))]
    sparse = Registry.discover().target("sparse").capabilities
    assert units(GEMM, target=sparse) == [Unit(name, "Gemm", ("int8", "float")) for name in ("one", "two")]


def test_sixteen_bits_are_offered_where_they_pay(quantize):
    int8 = replace(CAPABILITIES.int8, wide=WideActivations(DataType.UINT16, pays=True))
    wide = replace(CAPABILITIES, int8=int8)
    assert [unit.settings for unit in units(GEMM, target=wide)] == [("int8", "dynamic", "int16", "float")] * 2
    assert [unit.settings for unit in units(PRODUCTS, target=wide)] == [("int8", "static", "int16", "float")] * 2
    assert [unit.settings for unit in units(GEMM, target=wide, activation_bits=16)] == [("int8", "float")] * 2
    tuned = Quantize().tuned({"one": "int16"})
    assert tuned.wide == ("one",)
    made = quantize(PRODUCTS, target=wide, **tuned.model_dump())
    assert made.constant("x_zero_point").dtype == np.uint16
    assert made.ctx.results["quantize"]["dynamic"] == ["two"]


def test_what_a_kernel_cannot_take_is_not_offered():
    weights = "float[3,8,8] w, float[8,8] u"
    deep = f"g (float[3,2,8] x) => (float[] y) <{weights}> {{ [one] h = MatMul (x, u) y = MatMul (h, w) }}"
    assert [unit.name for unit in units(deep)] == ["one"]


def test_what_a_recipe_decided_is_not_decided_again():
    found = {unit.name: unit.settings for unit in units(GEMM, static=("one",))}
    assert found == {"one": ("int8", "float"), "two": ("int8", "dynamic", "float")}


def test_settings_become_options():
    tuned = Quantize(skip=("a",)).tuned({"b": "float", "c": "dynamic", "d": "static", "e": "int8", "a": "float"})
    assert (tuned.skip, tuned.dynamic, tuned.static) == (("a", "b"), ("c",), ("d",))


def test_a_dynamic_product_with_bias_becomes_integers_and_two_scales(quantize):
    made = quantize(
        "g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {127, 0, 0, -254}, float[2] b = {1, 2}>"
        "{ y = Gemm <transB = 1> (x, w, b) }",
        data=None,
        dynamic=("*",),
    )
    assert_text(
        made.graph,
        """
        g (float[1,2] x) => (float[1,2] y)
        <float[2] b = {1, 2}, int8[2,2] w_quantized = {127, 0, 0, -127}, float[2] w_scale = {1, 2}>
        {
           [x_DynamicQuantizeLinear] x_quantized, x_scale, x_zero_point = DynamicQuantizeLinear (x)
           ["Gemm(y)_integer"] y_sums = MatMulInteger (x_quantized, w_quantized, x_zero_point)
           y_cast = Cast <to = 1> (y_sums)
           y_unit = Mul (x_scale, w_scale)
           ["Gemm(y)_scaled"] y_scaled = Mul (y_cast, y_unit)
           ["Gemm(y)_biased"] y = Add (y_scaled, b)
        }
        """,
    )
    assert kernels(made) == ["DynamicQuantizeMatMul"]


def test_a_transposed_weight_is_written_as_it_is_read(quantize):
    made = quantize(GEMM, data=None, dynamic=("one", "two"))
    assert sorted(kernels(made)) == ["DynamicQuantizeMatMul", "DynamicQuantizeMatMul", "Relu"]
    assert made.sqnr() > 30


def test_one_weight_that_is_read_both_ways_is_written_twice(quantize):
    made = quantize(
        "g (float[2,8] x) => (float[] y) <float[8,8] w>{ h = Gemm (x, w) t = Tanh (h) y = Gemm <transB = 1> (t, w) }",
        data=None,
        dynamic=("kind:Gemm",),
    )
    codes = [made.graph.array(value) for value in made.graph.constants() if value.name.startswith("w_quantized")]
    assert np.abs(codes[0] - codes[1].T).max() <= 127
    assert made.sqnr() > 30


def test_the_result_of_a_static_product_stays_float(quantize):
    made = quantize(PRODUCTS, static=("kind:MatMul",))
    written = [op.output.name for op in made.graph.ops() if op.is_a("DequantizeLinear")]
    assert sorted(written) == ["t_dequantized", "w2_dequantized", "w_dequantized", "x_dequantized"]
    assert made.sqnr() > 30


def test_static_and_dynamic_live_in_one_graph(quantize):
    made = quantize(GEMM, dynamic=("two",))
    assert made.ctx.results["quantize"]["static"] == ["one"]
    assert made.ctx.results["quantize"]["dynamic"] == ["two"]
    assert made.sqnr() > 25


@pytest.mark.parametrize(
    ("options", "error", "message", "hint"),
    [
        (
            {"dynamic": ("conv",)},
            UnsupportedError,
            "quantize.dynamic: for 'conv' (Conv) the target has no kernel that quantizes its activations at run time",
            "take it out: its integer kernel is static",
        ),
        (
            {"static": ("rnn",)},
            UnsupportedError,
            "quantize.static: for 'rnn' (LSTM) the target has no kernel that quantizes its activations with scales "
            "from calibration",
            "take it out: its integer kernel is dynamic",
        ),
        (
            {"dynamic": ("tanh",)},
            UnsupportedError,
            "quantize.dynamic: for 'tanh' (Tanh) the target has no integer kernel",
            "take it out",
        ),
        (
            {"dynamic": ("fc",), "wide": ("fc",)},
            RecipeError,
            "quantize: 'fc' is in dynamic, where activations of 16 bits are not",
            "take it out of dynamic, or out of what has 16 bits",
        ),
        (
            {"dynamic": ("fc",), "static": ("f*",)},
            RecipeError,
            "quantize: 'fc' is in static and in dynamic",
            "take it out of one of them",
        ),
    ],
)
def test_what_the_target_does_not_run_is_refused(quantize, options, error, message, hint):
    text = """
    g (float[1,3,8,8] x, float[2,1,4] s, float[2,8] z) => (float[] y, float[] u, float[] v)
    <float[4,3,1,1] w, float[1,16,4] lw, float[1,16,4] lr, float[8,4] f, float[4] b>
    {
      [conv] c = Conv (x, w) [tanh] y = Tanh (c) [rnn] u = LSTM <hidden_size = 4> (s, lw, lr) [fc] v = Gemm (z, f, b)
    }
    """
    with pytest.raises(error) as caught:
        quantize(text, **options)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.code == ("NNC-R012" if error is RecipeError else "NNC-T002")


@pytest.fixture
def searched(tmp_path):
    """Compile a network that was calibrated on larger samples than those that it is judged on, for 35 dB at least."""

    def compiled(body):
        random = np.random.default_rng(3)
        text = f"g (float[N,32] x) => (float[N,8] y) <float[32,8] w, float[8] b, float[8,8] u> {{ {body} }}"
        weights = {"w": random.normal(size=(32, 8)), "b": np.zeros(8), "u": random.normal(size=(8, 8))}
        found = graph(text, constants={name: one.astype(np.float32) for name, one in weights.items()})
        found.remove_unused(found.constants())
        save(found, tmp_path / "net.onnx")
        for name, size in (("large", 30), ("usual", 1)):
            np.savez(tmp_path / f"{name}.npz", x=(random.normal(size=(8, 32)) * size).astype(np.float32))
        request = CompileRequest(
            model=tmp_path / "net.onnx",
            data=str(tmp_path / "large.npz"),
            evaluation=str(tmp_path / "usual.npz"),
            passes=("cleanup", "quantize"),
            target="ort",
            out=tmp_path / "out",
            measure=False,
            budget={"min_sqnr_db": 35},
        )
        report = compile_model(request, Registry.discover()).report
        assert report.search.trials[0].missed
        (best,) = [trial for trial in report.search.trials if trial.chosen]
        assert best.sqnr_db >= 35
        return dict(best.settings)

    return compiled


def test_search_gives_back_calibrated_scales_before_float(searched):
    assert searched("[fc] h = Gemm (x, w, b) [last] y = MatMul (h, u)") == {"fc": "dynamic"}


def test_search_finds_the_other_way_where_all_of_float_leaves_nothing_to_do(searched):
    assert searched("[fc] y = Gemm (x, w, b)") == {"fc": "dynamic"}
