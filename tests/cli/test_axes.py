"""``nncomp axes``: dimensions, what stays, and why."""

import json

from nncomp.cli import main
from nncomp.onnx_io import save
from nncomp.testing import graph

MODEL = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w1, float[4] b1, float[5,4] w2, float[5] b2>
{
   c = Conv (x, w1, b1)
   m = acme.Odd (c)
   r = Relu (c)
   p = GlobalAveragePool (r)
   f = Flatten (p)
   y = Gemm <transB = 1> (f, w2, b2)
}
"""


def shown(tmp_path, capsys, text, *options):
    save(graph(text), tmp_path / "m.onnx")
    assert main(["axes", str(tmp_path / "m.onnx"), *options]) == 0
    return capsys.readouterr().out


def test_dimensions_are_listed_with_what_an_atom_is_worth(tmp_path, capsys):
    found = json.loads(shown(tmp_path, capsys, MODEL.replace("   m = acme.Odd (c)\n", ""), "--json", "--dim", "N=2"))
    (one,) = found["dimensions"]
    assert (one["name"], one["atoms"], one["params"], one["macs"]) == ("c[1]", 4, 27 + 1 + 5, 2 * (27 * 36 + 5))
    assert [(m["tensor"], m["axis"]) for m in one["members"] if m["constant"]] == [("w1", 0), ("b1", 0), ("w2", 1)]
    assert (found["params"], found["macs"]) == (4 * 27 + 4 + 20 + 5, 2 * (4 * 27 * 36 + 20))
    reasons = {one["name"]: one["reasons"][0]["reason"] for one in found["pinned"]}
    assert reasons == {"w1[1]": "a graph input", "y[1]": "a graph output"}


def test_an_unknown_op_pins_what_it_touches_and_is_named(tmp_path, capsys):
    out = shown(tmp_path, capsys, MODEL)
    assert "nothing is known about Odd: all that these ops touch stays" in out
    assert "nothing is known about the axes of Odd (Odd(m), Odd, input 0 axis 1)" in " ".join(out.split())
