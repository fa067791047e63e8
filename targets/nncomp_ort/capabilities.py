"""What ONNX Runtime's CPU provider runs in INT8, and what a graph must look like for it: data, measured.

Each statement is proved on the installed runtime by ``tests/targets/ort/test_rules*.py``, which build the pattern,
load it, and read the graph that ONNX Runtime really executes. Softmax is in neither table: the runtime has an
integer kernel for it, which is not asked for, but taken where both neighbours are integer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from nncomp.ir import DataType
from nncomp.targets import Capabilities, Int8Form, Int8Kernel, Int8Support, WeightForm, WeightKernel, WideActivations

_CLIPPING: Final = frozenset({"Relu", "Clip"})

_KERNELS: Final = {
    "Conv": Int8Kernel(
        absorbs=_CLIPPING, worth="1.5x to 3.7x; depthwise 0.8x to 1.3x, but a float one breaks the chain"
    ),
    "Gemm": Int8Kernel(Int8Form.QDQ_FLOAT_OUT, absorbs=_CLIPPING, worth="about 3x", also=frozenset({Int8Form.DYNAMIC})),
    "MatMul": Int8Kernel(
        Int8Form.DYNAMIC,
        worth="2.8x to 3.5x, needs no calibration; a quantized output costs 2-8 dB",
        also=frozenset({Int8Form.QDQ_FLOAT_OUT}),
    ),
    "LSTM": Int8Kernel(Int8Form.DYNAMIC, worth="weights a quarter of the size; needs no calibration"),
    "Add": Int8Kernel(absorbs=_CLIPPING),
    "Mul": Int8Kernel(absorbs=_CLIPPING),
    "Concat": Int8Kernel(),
    "GlobalAveragePool": Int8Kernel(),
    "AveragePool": Int8Kernel(),
    "LeakyRelu": Int8Kernel(),
    "Sigmoid": Int8Kernel(),
    "Where": Int8Kernel(),
    "MaxPool": Int8Kernel(same_scale=True),
    "Reshape": Int8Kernel(same_scale=True),
    "Transpose": Int8Kernel(same_scale=True),
    "Squeeze": Int8Kernel(same_scale=True),
    "Unsqueeze": Int8Kernel(same_scale=True),
    "Flatten": Int8Kernel(same_scale=True),
    "Slice": Int8Kernel(same_scale=True),
    "Split": Int8Kernel(same_scale=True),
    "Gather": Int8Kernel(same_scale=True),
    "Tile": Int8Kernel(same_scale=True),
    "DepthToSpace": Int8Kernel(same_scale=True),
    "Resize": Int8Kernel(same_scale=True, worth="nearest mode only"),
}

_FLOAT_CAUSES: Final = {
    "Attention": "both operands of its products are computed: float is as fast and more accurate",
    "BatchNormalization": "no INT8 kernel; fold it into the convolution before it",
    "ConvTranspose": "no INT8 kernel for transposed convolution",
    "Div": "no INT8 kernel; a division by a constant is a Mul",
    "Elu": "no INT8 kernel",
    "Erf": "no INT8 kernel",
    "Gelu": "no INT8 kernel",
    "HardSigmoid": "no INT8 kernel",
    "HardSwish": "no INT8 kernel",
    "InstanceNormalization": "no INT8 kernel",
    "GRU": "no INT8 kernel, unlike LSTM",
    "RNN": "no INT8 kernel, unlike LSTM",
    "LayerNormalization": "no INT8 kernel; quantizing around it loses time and accuracy",
    "PRelu": "no INT8 kernel",
    "Pad": "no INT8 kernel; fold it into the convolution behind it",
    "Pow": "no INT8 kernel",
    "ReduceMean": "no INT8 kernel; over H and W, GlobalAveragePool has one",
    "Resize": "INT8 in nearest mode only",
    "SpaceToDepth": "no INT8 kernel",
    "Sqrt": "no INT8 kernel",
    "Sub": "no INT8 kernel",
    "Tanh": "no INT8 kernel",
}

_BLOCKS: Final = frozenset({16, 32, 64, 128, 256})
_WEIGHT_ONLY: Final = {
    WeightForm.MATMUL_NBITS: WeightKernel(
        # Outside these, the kernel unpacks the weight on every run: 3 to 20 times slower than float.
        blocks=MappingProxyType({2: frozenset({32, 64, 128}), 4: _BLOCKS, 8: _BLOCKS}),
        accuracy_level=4,
        worth="2x to 3x for one row, 0.6x to 1x for 128; blocks of 128 are fastest, zero points cost nothing",
    ),
    WeightForm.BLOCKED_QDQ: WeightKernel(
        blocks=MappingProxyType({4: _BLOCKS, 8: _BLOCKS}),
        worth="becomes MatMulNBits when the model is loaded",
    ),
}

CAPABILITIES: Final = Capabilities(
    max_ir_version=13,
    opsets=(7, 26),
    int8=Int8Support(
        activation=DataType.UINT8,  # signed activations are slower, or stay float where a tensor has two readers
        weight=DataType.INT8,
        per_channel_weights=True,
        pair_saturation=True,  # without VNNI, vpmaddubsw saturates: MobileNetV2 loses 6 dB to it
        kernels=MappingProxyType(_KERNELS),
        float_causes=MappingProxyType(_FLOAT_CAUSES),
        wide=WideActivations(
            DataType.UINT16, pays=False, worth="computed in float between conversions: 0.5x to 0.7x of float"
        ),
    ),
    weight_only=MappingProxyType(_WEIGHT_ONLY),
    half_weights=frozenset({DataType.FLOAT16, DataType.BFLOAT16}),  # the Cast is computed when the model is loaded
    channel_alignment=16,
    domains=frozenset({"ai.onnx.ml", "com.microsoft"}),
)
