"""Target ``ort``: legalize for ONNX Runtime, load, and read back what it executes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.onnx_io import to_bytes
from nncomp.opset import convert_opset
from nncomp.passes import Context
from nncomp.runtime import RuntimeFailure, Session
from nncomp.targets import Artifact, Capabilities, Finding, Int8Form, Target
from nncomp_ort.artifact import OrtArtifact
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph, read_executed



class OrtTarget(Target):
    """ONNX Runtime's CPU provider."""

    name: ClassVar[str] = "ort"
    summary: ClassVar[str] = "ONNX Runtime on CPU, INT8 where it has kernels"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    default_recipe: ClassVar[str] = "ort-int8"

    def missing(self) -> str:
        """Return the pip command, "" when onnxruntime is installed."""
        return "" if find_spec("onnxruntime") else "pip install onnxruntime"

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Say what stays float and why; a model that ONNX Runtime refuses gives one refusal with what it says."""
        findings: list[Finding] = []
        legal = graph.clone()
        try:
            legalize(legal)
            Session(legal, optimize=False)
        except (RuntimeFailure, UnsupportedError) as error:
            findings.append(Finding("refused", "", "", error.message))
        int8 = self.capabilities.int8
        assert int8 is not None
        for _, op in graph.walk():
            role = ctx.ops.quant(op, graph.opsets)
            kernel = None if op.domain else int8.kernels.get(op.kind)
            if kernel is not None:
                how = "INT8, activations quantized at run time" if kernel.form is Int8Form.DYNAMIC else "INT8"
                findings.append(Finding("ok", op.label, op.kind, how))
            else:
                cause = int8.float_causes.get(op.kind) if not op.domain else None
                findings.append(Finding("float", op.label, op.kind, cause or role.reason or "no INT8 kernel"))
        return findings

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Legalize a copy of ``graph``, load it, and read the graph that ONNX Runtime executes."""
        legal = graph.clone()
        legalize(legal)
        executed = executed_graph(to_bytes(legal), threads=1)
        left: dict[str, str] = ctx.results.get("quantize", {}).get("left_float", {})
        causes = {key.removeprefix(f"{key.partition('(')[0]}(").removesuffix(")"): why for key, why in left.items()}
        assert self.capabilities.int8 is not None
        found = read_executed(executed, {**causes, **left}, self.capabilities.int8.float_causes)
        return OrtArtifact(legal, found, threads=ctx.threads)


def legalize(graph: Graph) -> None:
    """Bring a graph to an opset and IR version that ONNX Runtime reads.

    Raises:
        UnsupportedError: it cannot be converted (NNC-M038).
    """
    low, high = CAPABILITIES.opsets
    version = graph.opsets.get("")
    if version is not None and not low <= version <= high:
        convert_opset(graph, min(max(version, low), high))
    if graph.info.ir_version > CAPABILITIES.max_ir_version:
        graph.set_info(ir_version=CAPABILITIES.max_ir_version)
