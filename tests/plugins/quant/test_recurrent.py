"""LSTM with INT8 weights."""

import numpy as np
import pytest

from nncomp.onnx_io import to_bytes
from nncomp_ort.executed import executed_graph

HIDDEN, INPUTS = 32, 24


def layer(direction, outputs="y", body="", inputs="x, w, r, b", extra=""):
    d = 2 if direction == "bidirectional" else 1
    weights = f"float[{d},{4 * HIDDEN},{INPUTS}] w, float[{d},{4 * HIDDEN},{HIDDEN}] r, float[{d},{8 * HIDDEN}] b"
    return f"""
        g (float[6,2,{INPUTS}] x{extra}) => ({", ".join(f"float[] {name}" for name in outputs.split(", ") if name)})
        <{weights}>
        {{ {outputs} = LSTM <hidden_size = {HIDDEN}, direction = "{direction}"> ({inputs}) }}
    """


def constants(direction):
    rng = np.random.default_rng(0)
    d = 2 if direction == "bidirectional" else 1
    shapes = {"w": (d, 4 * HIDDEN, INPUTS), "r": (d, 4 * HIDDEN, HIDDEN), "b": (d, 8 * HIDDEN)}
    return {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_layer_keeps_its_outputs_with_a_quarter_of_the_weights(quantize, direction):
    made = quantize(layer(direction, "y, h, c"), constants=constants(direction), data=None)
    assert [op.kind for op in made.graph.ops()] == ["DynamicQuantizeLSTM"]
    assert made.ctx.results["quantize"]["recurrent"] == ["LSTM(y)"]
    assert [value.name for value in made.graph.outputs] == ["y", "h", "c"]
    assert made.sqnr() > 30
    assert len(to_bytes(made.graph)) < 0.4 * len(to_bytes(made.before))
    assert [node.op_type for node in executed_graph(to_bytes(made.graph)).graph.node] == ["DynamicQuantizeLSTM"]


def test_initial_states_are_kept(quantize):
    text = layer(
        "forward", "y", inputs='x, w, r, b, "", h0, c0', extra=f", float[1,2,{HIDDEN}] h0, float[1,2,{HIDDEN}] c0"
    )
    made = quantize(text, constants=constants("forward"), data=None)
    assert made.sqnr() > 30


def test_why_a_layer_stays_float(quantize):
    made = quantize(
        f"""
        g (float[6,2,{INPUTS}] x, float[1,{4 * HIDDEN},{INPUTS}] wx) => (float[] y, float[] z, float[] a, float[] m)
        <float[1,{4 * HIDDEN},{INPUTS}] w, float[1,{4 * HIDDEN},{HIDDEN}] r, float[1,{3 * HIDDEN},{INPUTS}] wg,
         float[1,{3 * HIDDEN},{HIDDEN}] rg, float[{INPUTS},8] v>
        {{
           y = LSTM <hidden_size = {HIDDEN}> (x, wx, r)
           z = LSTM <hidden_size = {HIDDEN}, layout = 1> (x, w, r)
           a = GRU <hidden_size = {HIDDEN}> (x, wg, rg)
           m = MatMul (x, v)
        }}
        """,
        data=None,
    )
    assert made.ctx.results["quantize"]["left_float"] == {
        "LSTM(y)": "its weight is computed",
        "LSTM(z)": "it keeps the batch first: the integer kernel has the sequence first",
        "GRU(a)": "no INT8 kernel, unlike LSTM",
    }
