"""Bring a graph to an opset and IR version that ONNX Runtime reads, in a form that it runs as written and fastest."""

from __future__ import annotations

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.opset import convert_opset
from nncomp.runtime import RuntimeFailure, Session
from nncomp_ort.attention import fuse_attention
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.direct_conv import pad_input_channels
from nncomp_ort.keep_float import keep_float
from nncomp_ort.slow_fusions import keep_apart


def legalize(graph: Graph) -> None:
    """Raise opsets that ONNX Runtime has no kernels for, and lower those, and IR versions, that it may not know.

    A model that cannot be lowered stays as it is where the installed runtime loads it: newer ones read newer opsets.

    Raises:
        UnsupportedError: it cannot be converted (NNC-M038).
    """
    low, high = CAPABILITIES.opsets
    version = graph.opsets.get("")
    if graph.info.ir_version > CAPABILITIES.max_ir_version:
        graph.set_info(ir_version=CAPABILITIES.max_ir_version)
    if version is not None and version < low:
        convert_opset(graph, low)
    elif version is not None and version > high:
        try:
            convert_opset(graph, high)
        except UnsupportedError as refusal:
            if not _loads(graph):
                raise refusal
    fuse_attention(graph)
    keep_float(graph)
    keep_apart(graph)
    pad_input_channels(graph)


def newer_than_promised(graph: Graph) -> str:
    """Return what to know of a model that stayed above the newest opset that each runtime reads, "" if it did not."""
    version, high = graph.opsets.get("", 0), CAPABILITIES.opsets[1]
    if version <= high:
        return ""
    return f"the model stays at opset {version}, as onnx cannot lower it to {high}: an older onnxruntime may refuse it"


def _loads(graph: Graph) -> bool:
    try:
        Session(graph)
    except RuntimeFailure:
        return False
    return True
