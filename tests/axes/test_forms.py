"""Quantized, half-precision and fused forms: the same dimensions, and what is removed is exact."""

import numpy as np
import pytest

from nncomp.axes import analyse, remove_checked
from nncomp.errors import GateError
from nncomp.testing import graph

QLINEAR = """
g (float[1,3,4,4] x) => (float[1,5,4,4] y)
<float s = {0.05}, uint8 z = {128}, int8[8,3,1,1] w1, float[8] ws, int8[8] wz = {0, 0, 0, 0, 0, 0, 0, 0},
 int8[5,8,1,1] w2, float s2 = {0.02}, int8 z0 = {0}>
{
   q = QuantizeLinear (x, s, z)
   a = QLinearConv (q, s, z, w1, ws, wz, s, z)
   b = QLinearConv (a, s, z, w2, s2, z0, s, z)
   y = DequantizeLinear (b, s, z)
}
"""
INTEGER = """
g (float[2,6] x) => (int32[2,5] y) <float s = {0.05}, uint8 z = {128}, int8[6,8] w1, int8[8,5] w2, float s2 = {0.5}>
{
   q = QuantizeLinear (x, s, z)
   a = MatMulInteger (q, w1, z)
   f = Cast <to = 1> (a)
   m = Mul (f, s2)
   r = QuantizeLinear (m, s, z)
   y = MatMulInteger (r, w2, z)
}
"""
HALF = """
g (float16[2,6] x) => (float16[2,5] y) <float16[6,8] w1, float16[8,5] w2>
{ a = MatMul (x, w1) b = Relu (a) y = MatMul (b, w2) }
"""
MULTI_HEAD = """
g (float[2,4,12] x) => (float[2,4,3] y) <float[12,12] wq, float[12,12] wk, float[12,12] wv, float[12,3] wo, float[36] b>
{
   q = MatMul (x, wq)
   k = MatMul (x, wk)
   v = MatMul (x, wv)
   a = com.microsoft.MultiHeadAttention <num_heads = 3> (q, k, v, b)
   y = MatMul (a, wo)
}
"""
PACKED = """
g (float[2,4,12] x) => (float[2,4,3] y) <float[12,36] w, float[36] b, float[12,3] wo>
{ a = com.microsoft.Attention <num_heads = 3> (x, w, b) y = MatMul (a, wo) }
"""
FUSED_CONV = """
g (float[1,3,4,4] x) => (float[1,5,4,4] y) <float[8,3,1,1] w1, float[8] b, float[5,8,1,1] w2>
{ a = com.microsoft.FusedConv <activation = "Relu"> (x, w1, b) y = Conv (a, w2) }
"""
SKIP_NORM = """
g (float[2,4,12] x) => (float[2,4,12] y) <float[12,20] w1, float[20,12] w2, float[12] s, float[12] b, float[20] c>
{
   a = MatMul (x, w1)
   m = com.microsoft.BiasGelu (a, c)
   n = MatMul (m, w2)
   y = com.microsoft.SkipLayerNormalization (n, x, s, b)
}
"""
NORM = """
g (float[2,4] x) => (float[2,5] y) <float[4,12] w1, float[12] s, float[12] b, float[12,5] w2>
{ a = MatMul (x, w1) n = LayerNormalization (a, s, b) y = MatMul (n, w2) }
"""

PACKED_GROUPS = """
g (float[1,6,8] x) => (float[1,6,8] y)
<float[8,16] wq, float[8,16] wkv, float[16,8] wo, float[1,1,6,4] cos, float[1,1,6,4] sin,
 int64[4] heads = {1,6,4,4}, int64[5] both = {1,6,2,2,4}, int64[5] copies = {1,2,2,6,4}, int64[4] joined = {1,4,6,4},
 int64[3] flat = {1,6,16}, int64 zero = {0}, int64 one = {1}, int64[1] begin = {0}, int64[1] mid = {2},
 int64[1] end = {4}, int64[1] last = {-1}>
{
   qm = MatMul (x, wq)
   q4 = Reshape (qm, heads)
   q = Transpose <perm=[0,2,1,3]> (q4)
   km = MatMul (x, wkv)
   k5 = Reshape (km, both)
   kv = Transpose <perm=[2,0,3,1,4]> (k5)
   k = Gather <axis=0> (kv, zero)
   v = Gather <axis=0> (kv, one)
   qa = Slice (q, begin, mid, last)
   qb = Slice (q, mid, end, last)
   qn = Neg (qb)
   qr = Concat <axis=-1> (qn, qa)
   qc = Mul (q, cos)
   qs = Mul (qr, sin)
   qq = Add (qc, qs)
   ka = Slice (k, begin, mid, last)
   kb = Slice (k, mid, end, last)
   kn = Neg (kb)
   kr = Concat <axis=-1> (kn, ka)
   kc = Mul (k, cos)
   ks = Mul (kr, sin)
   kk = Add (kc, ks)
   ku = Unsqueeze (kk, mid)
   ke = Expand (ku, copies)
   kj = Reshape (ke, joined)
   kt = Transpose <perm=[0,1,3,2]> (kj)
   vu = Unsqueeze (v, mid)
   ve = Expand (vu, copies)
   vj = Reshape (ve, joined)
   a = MatMul (qq, kt)
   p = Softmax <axis=-1> (a)
   c = MatMul (p, vj)
   t = Transpose <perm=[0,2,1,3]> (c)
   r = Reshape (t, flat)
   y = MatMul (r, wo)
}
"""


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        (QLINEAR, "a[1]", 8), (INTEGER, "a[1]", 8), (HALF, "a[1]", 8), (MULTI_HEAD, "q[2]", 3), (PACKED, "a[2]", 3),
        (FUSED_CONV, "a[1]", 8), (SKIP_NORM, "a[2]", 20),
    ],
)  # fmt: skip
def test_the_dimension_is_found_and_goes(text: str, name: str, size: int) -> None:
    found = analyse(graph(text))
    (one,) = found.dimensions
    assert (one.name, len(one)) == (name, size)
    assert remove_checked(found, one.atoms[: size // 2]) is not None


def test_what_is_normalized_goes_only_approximately() -> None:
    assert [len(one) for one in analyse(graph(NORM)).dimensions] == []
    found = analyse(graph(NORM), approximate=True)
    assert [len(one) for one in found.dimensions] == [12]
    with pytest.raises(GateError, match=r"first at LayerNormalization\(n\)$"):
        remove_checked(found, np.array(found.dimensions[0].atoms[:6]))


def test_query_heads_of_a_packed_and_grouped_attention_are_found() -> None:
    """The free axis of one Reshape depends on that of the other: what was pinned at first is tried once more."""
    found = analyse(graph(PACKED_GROUPS))
    assert [(one.name, len(one)) for one in found.dimensions] == [("qm[2]", 2)]
    deviation = remove_checked(found, found.dimensions[0].atoms[:1])
    assert deviation is not None
    assert deviation.relative <= 1e-6
