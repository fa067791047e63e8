"""Floats of 8 bits and scales of blocks: the codes that ONNX says, to the last."""

import ml_dtypes
import numpy as np
import pytest

import nncomp
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget

KINDS = {
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_float_of_8_bits_is_read_and_what_lies_between_two_is_rounded_to_even(kind):
    dtype = KINDS[kind]
    values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    finite = np.unique(values[np.isfinite(values)])
    middle = (finite[1:] + finite[:-1]) / 2
    x = np.concatenate([finite, middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, np.float32(-9e9))])
    number = {"float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}[kind]
    model = graph(
        f"g (float[{len(x)}] x) => (float[] y) {{ c = Cast <to = {number}> (x) y = Cast <to = 1> (c) }}", opset=19
    )
    got = TvmCpuTarget().build(model, nncomp.Context()).run({"x": x})["y"]
    np.testing.assert_array_equal(got, x.astype(dtype).astype(np.float32))


def test_weights_with_a_scale_for_each_block(agrees):
    agrees(
        """
        g (float[2,6] x) => (float[] y)
        <int8[6,4] w = {1,2,3,4,5,6,7,8,-1,-2,-3,-4,-5,-6,-7,-8,1,2,3,4,5,6,7,8}, float[2,4] scale, int8[2,4] zero>
        { d = DequantizeLinear <axis = 0, block_size = 3> (w, scale, zero) y = MatMul (x, d) }
        """,
        opset=21,
    )


def test_codes_with_a_scale_for_each_block(agrees):
    agrees(
        """
        g (float[4,6] x) => (uint8[] y) <float[4,2] scale, uint8[4,2] zero = {1,2,3,4,5,6,7,128}>
        { y = QuantizeLinear <axis = 1, block_size = 3> (x, scale, zero) }
        """,
        opset=21,
    )
