"""Reading the executed graph: integer and float kernels told apart, islands with their causes, coverage."""

import json

import pytest

from nncomp.errors import UnsupportedError
from nncomp.onnx_io import save, to_bytes
from nncomp.passes import Context
from nncomp.testing import graph
from nncomp_ort.executed import Executed, Island, executed_graph, executed_of, loadable, read_executed
from nncomp_ort.target import OrtTarget

UNKNOWN = "onnxruntime chose the float kernel: no integer pattern matched"
WEIGHTS = "float[4,3,1,1] w, float[4,3,1,1] w1, float[4,4,1,1] w2, float[4,4,2,2] wt"


def read(found, causes=(), kinds=()):
    return read_executed(executed_graph(to_bytes(found)), dict(causes), dict(kinds))


def islands(made):
    return [(island.kind, island.cause) for island in made.executed.islands]


# ------------------------------------------------------------------ coverage


def test_coverage_is_the_share_of_multiplying_kernels_that_are_integer():
    island = Island("c", "Conv", "")
    assert Executed({}, 3, (island,), {}).coverage == 0.75
    assert Executed({}, 0, (island,), {}).coverage == 0
    assert Executed({}, 2, (), {"Softmax": 4}).coverage == 1


def test_a_graph_without_multiplying_kernels_is_covered():
    found = read(graph("g (float[2] x) => (float[2] y) { y = Tanh (x) }"))
    assert (found.coverage, found.integer, found.islands, found.other_float) == (1, 0, (), {"Tanh": 1})


def test_the_json_form_holds_everything_and_rounds_coverage():
    found = Executed({"Conv": 1, "QLinearConv": 2}, 2, (Island("c", "Conv", "why"),), {"Softmax": 1})
    assert json.loads(json.dumps(found.as_dict())) == {
        "int8_coverage": 0.6667,
        "integer_kernels": 2,
        "float_islands": [{"node": "c", "kind": "Conv", "cause": "why"}],
        "other_float_kernels": {"Softmax": 1},
        "kernels": {"Conv": 1, "QLinearConv": 2},
    }


def test_kernels_are_counted_in_bodies_too():
    found = read(
        graph(f"""
        g (float[1,3,8,8] x, bool k) => (float[] y) <{WEIGHTS}>
        {{
           y = If (k) <
              then_branch = yes () => (float[] p) {{ a = Conv (x, w) p = Softmax (a) }},
              else_branch = no () => (float[] q) {{ q = Conv (x, w1) }}
           >
        }}
        """)
    )
    assert sum(found.kernels[kind] for kind in ("Conv", "If", "Softmax")) == 4
    assert len(found.islands) == 2


# ------------------------------------------------------------------ what is float


def test_ops_that_move_integers_are_not_float(pattern, pair):
    found = read(pattern(f"c = Transpose <perm = [0, 2, 3, 1]> (x_d) {pair('c', out='y')}"))
    assert found.kernels == {"QuantizeLinear": 1, "Transpose": 1, "DequantizeLinear": 1}
    assert found.other_float == {}


def test_ops_that_move_floats_are_float(pattern, pair):
    found = read(pattern(f"c = Transpose <perm = [0, 2, 3, 1]> (x) {pair('c', 's0', out='y')} "))
    assert "Transpose" not in found.other_float, "moved behind the quantizer"
    found = read(pattern("t = Tanh (x) y = Transpose <perm = [0, 2, 3, 1]> (t)"))
    assert found.other_float == {"Tanh": 1, "Transpose": 1}


def test_shapes_and_indices_are_not_float():
    found = read(
        graph("""
        g (float[N,3] x) => (float[] y) <int64[1] minus = {-1}>
        { s = Shape (x) t = Concat <axis = 0> (s, minus) y = Reshape (x, t) }
        """)
    )
    assert found.other_float == {"Reshape": 1}


def test_a_dynamic_product_is_integer_and_what_reads_it_is_float(quantize):
    made = quantize("g (float[2,8] x) => (float[] y) <float[8,4] w> { m = MatMul (x, w) y = Softmax (m) }")
    assert (made.executed.integer, made.executed.other_float) == (1, {"Softmax": 1})


# ------------------------------------------------------------------ islands and their causes


def test_a_cause_is_found_by_node_by_output_and_by_kind():
    found = graph(f"g (float[1,4,8,8] x) => (float[] y) <{WEIGHTS}> {{ [up] t = ConvTranspose (x, wt) y = Tanh (t) }}")
    assert read(found).islands == (Island("up", "ConvTranspose", UNKNOWN),)
    assert read(found, kinds={"ConvTranspose": "by kind"}).islands[0].cause == "by kind"
    assert read(found, {"t": "by output"}, {"ConvTranspose": "by kind"}).islands[0].cause == "by output"
    assert read(found, {"up": "by name", "t": "by output"}).islands[0].cause == "by name"


def test_an_unnamed_node_has_no_cause_of_its_own():
    found = graph(f"g (float[1,4,8,8] x) => (float[] y) <{WEIGHTS}> {{ y = ConvTranspose (x, wt) }}")
    assert read(found, {"": "of nobody"}).islands == (Island("y", "ConvTranspose", UNKNOWN),)


def test_an_island_has_the_name_that_the_model_gives_its_op():
    net = f"""
        g (float[1,3,8,8] x) => (float[1,4,8,8] y) <{WEIGHTS}>
        {{ [wide] a = Conv (x, w) b = HardSwish (a) [deep] c = Conv (b, w2) y = Relu (c) }}
    """
    made = OrtTarget().build(graph(net), Context())
    assert [island.node for island in made.executed.islands] == ["wide", "deep"]


def test_a_convolution_without_a_quantizer_behind_it_is_an_island(pattern):
    (island,) = read(pattern("y = Conv (x_d, w_d)")).islands
    assert (island.kind, island.cause) == ("Conv", UNKNOWN)


@pytest.mark.parametrize(
    "behind",
    [
        "r = Relu (c)",
        "r = Sigmoid (c)",
        "r = HardSigmoid (c)",
        "d = Conv (x, w1) a = Add (c, d) r = Relu (a)",
        "r = Identity (c)",
    ],
)
@pytest.mark.parametrize("name", ["", "[first]"])
def test_a_skipped_convolution_is_float_and_keeps_its_cause_whatever_is_fused_into_it(quantize, behind, name):
    made = quantize(
        f"""
        g (float[1,3,8,8] x) => (float[] y) <{WEIGHTS}>
        {{
           {name} c = Conv (x, w)
           {behind}
           y = Conv (r, w2)
        }}
        """,
        skip=("output:c",),
    )
    assert islands(made) == [("Conv", "skipped by option")]


def test_a_skipped_convolution_between_integer_ones_is_float(quantize):
    made = quantize(
        f"g (float[1,3,8,8] x) => (float[] y) <{WEIGHTS}> {{ a = Conv (x, w) b = Conv (a, w2) y = Conv (b, w2) }}",
        skip=("output:b",),
    )
    assert islands(made) == [("Conv", "skipped by option")]
    assert made.executed.as_dict()["int8_coverage"] == 0.6667


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        ("n = MatMul (m, w2) y = Add (n, b)", "Gemm"),
        ("n = Gemm (m, w2, b) y = Relu (n)", "FusedGemm"),
        ("n = MatMul (m, w2) y = Mul (n, k)", "FusedMatMul"),
    ],
)
def test_a_skipped_product_keeps_its_cause_under_the_names_that_fusion_gives_it(quantize, product, kind):
    made = quantize(
        f"""
        g (float[2,8] x) => (float[] y) <float[8,8] w, float[8,4] w2, float[4] b, float k = {{0.3}}>
        {{ m = MatMul (x, w) [head] {product} }}
        """,
        skip=("head",),
    )
    assert islands(made) == [(kind, "skipped by option")]


def test_a_transposed_convolution_is_an_island_that_says_so(quantize):
    made = quantize(f"g (float[1,3,8,8] x) => (float[] y) <{WEIGHTS}> {{ c = Conv (x, w) y = ConvTranspose (c, wt) }}")
    assert islands(made) == [("ConvTranspose", "no INT8 kernel for transposed convolution")]


def test_a_product_of_two_computed_operands_is_an_island_that_says_so(quantize):
    made = quantize("""
    g (float[2,8] x, float[8,4] z) => (float[] y) <float[8,8] w> { m = MatMul (x, w) y = MatMul (m, z) }
    """)
    assert islands(made) == [("MatMul", "both operands are computed: float is as fast and more accurate")]


def test_a_convolution_in_a_body_has_its_own_cause(quantize):
    made = quantize(
        f"""
    g (float[1,3,8,8] x, bool k) => (float[1,4,8,8] y) <{WEIGHTS}>
    {{
       c = Conv (x, w)
       y = If (k) <
          then_branch = yes () => (float[1,4,8,8] p) {{ p = Conv (c, w2) }},
          else_branch = no () => (float[1,4,8,8] q) {{ [left] q = Conv (c, w2) }}
       >
    }}
    """,
        skip=["left"],
    )
    assert islands(made) == [("Conv", "skipped by option")]


def test_a_recurrent_layer_is_an_island_that_says_so(quantize):
    made = quantize("""
    g (float[4,2,8] x) => (float[] y) <float[8,8] w, float[1,12,8] wl, float[1,12,4] rl>
    { m = MatMul (x, w) y = GRU <hidden_size = 4> (m, wl, rl) }
    """)
    assert islands(made) == [("GRU", "no INT8 kernel, unlike LSTM")]


# ------------------------------------------------------------------ loading


def test_a_file_is_read_as_bytes_are(tmp_path):
    found = graph(f"g (float[1,3,8,8] x) => (float[] y) <{WEIGHTS}> {{ c = Conv (x, w) y = Relu (c) }}")
    found.remove_unused(found.constants())
    path, *_ = save(found, tmp_path / "model.onnx")
    assert executed_graph(path).graph.node == executed_graph(to_bytes(found)).graph.node
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_are_not_read_back():
    found = graph("g (float[1,64] x) => (float[] y) <float[64,512] w> { y = MatMul (x, w) }")
    assert executed_graph(to_bytes(found)).ByteSize() < 4096


def test_a_model_that_onnxruntime_refuses_is_unsupported_in_one_line():
    found = graph("g (float[2] x) => (float[] y) { y = acme.Nothing (x) }")
    with pytest.raises(UnsupportedError) as error:
        executed_graph(to_bytes(found))
    assert (error.value.code, error.value.exit_status) == ("NNC-T002", 4)
    assert error.value.message.startswith("onnxruntime refuses the model: ")
    assert "acme" in error.value.message
    assert "\n" not in error.value.message


def test_a_large_model_is_loaded_from_a_file_with_its_weights_beside_it(tmp_path, monkeypatch) -> None:
    net = graph("g (float[1,64] x) => (float[1,64] y) <float[64,64] w> { y = MatMul (x, w) }")
    assert loadable(net, tmp_path) == to_bytes(net)
    small = executed_of(net)
    monkeypatch.setattr("nncomp_ort.executed._SMALL", 1024)
    assert loadable(net, tmp_path) == tmp_path / "model.onnx"
    assert (tmp_path / "model.onnx.data").stat().st_size == 64 * 64 * 4
    assert executed_of(net).graph.node == small.graph.node
