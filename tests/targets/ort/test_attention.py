"""Attention is one kernel: the same results as from its parts, for every mask, and only where it is that."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.infer import infer_types
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_ort.attention import fuse_attention
from nncomp_ort.legalize import legalize
from nncomp_ort.target import OrtTarget

NET = """
g (float[B,S,12] q, float[B,T,12] k, float[B,T,12] v, float[B,1,1,T] mask) => (float[B,S,12] y)
<int64[4] split, int64[3] join, float scale>
{
   q4 = Reshape (q, split)
   k4 = Reshape (k, split)
   v4 = Reshape (v, split)
   qt = Transpose <perm = [0,2,1,3]> (q4)
   kt = Transpose <perm = [0,2,3,1]> (k4)
   vt = Transpose <perm = [0,2,1,3]> (v4)
   p = MatMul (qt, kt)
   s = Div (p, scale)
   m = Add (s, mask)
   a = Softmax <axis = -1> (m)
   o = MatMul (a, vt)
   ot = Transpose <perm = [0,2,1,3]> (o)
   y = Reshape (ot, join)
}
"""
CONSTANTS = {
    "split": np.array([0, -1, 3, 4], np.int64),
    "join": np.array([0, 0, -1], np.int64),
    "scale": np.array(2.0, np.float32),
}


def made(text=NET, opset=17, **constants):
    found = graph(text, opset=opset, constants=CONSTANTS | constants)
    found.remove_unused(found.constants())
    infer_types(found)
    return found


def feeds(seed, *, batch=2, queries=5, keys=7, mask=(2, 1, 1, 7)):
    rng = np.random.default_rng(seed)
    shapes = {"q": (batch, queries, 12), "k": (batch, keys, 12), "v": (batch, keys, 12)}
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {
        "mask": np.where(rng.random(mask) < 0.3, np.float32(-1e9), rng.normal(size=mask)).astype(np.float32)
    }


def kinds(found):
    return [op.kind for op in found.ops()]


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_one_kernel_gives_what_its_parts_give(seed, batch, queries, keys):
    before, after = made(), made()
    assert fuse_attention(after) == 1
    assert kinds(after) == ["Shape", "Shape", "Concat", "Expand", "Attention"]
    assert after.opsets[""] == 23
    feed = feeds(seed, batch=batch, queries=queries, keys=keys, mask=(batch, 1, 1, keys))
    np.testing.assert_allclose(run(after, feed)["y"], run(before, feed)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "mask"),
    [
        ("float[B,1,1,T] mask", "float[S,T] mask", (5, 7)),
        ("float[B,1,1,T] mask", "float[3,1,T] mask", (3, 1, 7)),
        ("float[B,1,1,T] mask", "float[B,3,S,T] mask", (2, 3, 5, 7)),
        ("Add (s, mask)", "Add (mask, s)", (2, 1, 1, 7)),
        ("Div (p, scale)", "Mul (scale, p)", (2, 1, 1, 7)),
        ("m = Add (s, mask)\n   a = Softmax <axis = -1> (m)", "a = Softmax <axis = 3> (s)", None),
    ],
)
def test_masks_of_all_forms_and_scales_of_both(old, new, mask):
    text = NET.replace(old, new) if mask else NET.replace(old, new).replace(", float[B,1,1,T] mask", "")
    before, after = made(text), made(text)
    assert fuse_attention(after) == 1
    assert "Softmax" not in kinds(after)
    assert ("Expand" in kinds(after)) == (mask is not None and mask != (5, 7) and mask != (2, 3, 5, 7))
    feed = feeds(1, mask=mask or (1,))
    if mask is None:
        del feed["mask"]
    np.testing.assert_allclose(run(after, feed)["y"], run(before, feed)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vt = Transpose <perm = [0,2,1,3]>", "vt = Transpose <perm = [0,2,3,1]>"),
        ("y = Reshape (ot, join)", "y = Reshape (ot, join) z = Relu (a)"),
        ("a = Softmax <axis = -1> (m)", "a = Softmax <axis = 2> (m)"),
        ("s = Div (p, scale)", "s = Div (scale, p)"),
        ("k4 = Reshape (k, split)", "k5 = Tanh (k) k4 = Reshape (k5, four)"),
    ],
)
def test_what_only_looks_like_it_stays(old, new):
    text = NET.replace(old, new).replace("float scale>", "float scale, int64[4] four>")
    if "z = Relu" in new:
        text = text.replace("=> (float[B,S,12] y)", "=> (float[B,S,12] y, float[B,3,S,T] z)")
    if "perm = [0,2,3,1]> (v4)" in text:
        text = text.replace("float[B,T,12] k, float[B,T,12] v", "float[B,4,12] k, float[B,4,12] v")
    after = made(text, four=np.array([0, -1, 6, 2], np.int64))
    before = str(after)
    assert fuse_attention(after) == 0
    assert str(after) == before


def test_layers_share_an_expanded_mask_and_the_name_of_the_result_stays():
    body = NET[NET.index("{") + 1 : NET.rindex("}")]
    second = re.sub(r"\b(q4|k4|v4|qt|kt|vt|p|s|m|a|o|ot|y)\b", r"\g<1>2", body).replace("(q, split)", "(y, split)")
    text = NET.replace("y = Reshape (ot, join)", "y = Reshape (ot, join)" + second)
    after = made(text.replace("=> (float[B,S,12] y)", "=> (float[B,S,12] y, float[B,S,12] y2)"))
    assert fuse_attention(after) == 2
    assert kinds(after).count("Expand") == 1
    assert [value.name for value in after.outputs] == ["y", "y2"]


def test_why_it_stays_float_is_told():
    (island,) = OrtTarget().build(made(), nncomp.Context()).report()["float_islands"]
    assert island["kind"] == "Attention"
    assert island["cause"] == "both operands of its products are computed: float is as fast and more accurate"


def test_the_target_writes_it():
    after = made(opset=24)
    legalize(after)
    assert "Attention" in kinds(after)
    assert after.opsets[""] == 24
    np.testing.assert_allclose(run(after, feeds(0))["y"], run(made(), feeds(0))["y"], rtol=1e-5, atol=1e-6)
