"""What the targets take, as plain data."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from nncomp.ir import DataType
from nncomp.targets import Capabilities, Int8Form, Int8Kernel, Int8Support

_CLIPPING: Final = frozenset({"Relu", "Clip"})

CAPABILITIES: Final = Capabilities(
    max_ir_version=13,
    opsets=(7, 26),
    int8=Int8Support(
        activation=DataType.UINT8,
        weight=DataType.INT8,
        per_channel_weights=True,
        kernels=MappingProxyType(
            {
                "Conv": Int8Kernel(absorbs=_CLIPPING),
                "Gemm": Int8Kernel(Int8Form.QDQ_FLOAT_OUT, absorbs=_CLIPPING),
                "MatMul": Int8Kernel(Int8Form.QDQ_FLOAT_OUT),
                "Add": Int8Kernel(absorbs=_CLIPPING),
            }
        ),
    ),
    channel_alignment=16,
)
