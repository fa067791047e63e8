"""Match an anchor by the operator of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher
from nncomp_tvm.kernels.anchors.convolutions import convolution
from nncomp_tvm.kernels.anchors.products import matmul
from nncomp_tvm.kernels.anchors.rows import extreme, layer_norm, softmax
from nncomp_tvm.kernels.anchors.windows import mean, pool
from nncomp_tvm.kernels.graph import name_of, shape_of
from nncomp_tvm.library import Constant, relax

Handler = Callable[[Matcher, Any, Any], Anchor | None]


def match(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Return the anchor at a binding, or None."""
    handler = _ANCHORS.get(name_of(call))
    if handler is None:
        return None
    shapes = [shape_of(value) for value in (variable, *call.args) if isinstance(value, relax.Var | Constant)]
    if any(shape is None or 0 in shape for shape in shapes):
        return None
    return handler(matcher, variable, call)


_ANCHORS: Final[Mapping[str, Handler]] = MappingProxyType(
    {
        "nn.conv2d": convolution,
        "nn.max_pool2d": pool,
        "nn.avg_pool2d": pool,
        "mean": mean,
        "matmul": matmul,
        "max": extreme,
        "min": extreme,
        "nn.softmax": softmax,
        "nn.layer_norm": layer_norm,
    }
)
