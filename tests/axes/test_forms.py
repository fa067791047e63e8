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
