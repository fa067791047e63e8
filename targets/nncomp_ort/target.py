"""Target ``ort``: legalize for ONNX Runtime, load, and read back what it executes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Op
from nncomp.ops import QuantRole, Role
from nncomp.passes import Context, left_float
from nncomp.runtime import RuntimeFailure, Session
from nncomp.targets import Artifact, Capabilities, Finding, Int8Form, Target
from nncomp_ort.artifact import OrtArtifact
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import FLOAT_COMPUTE, executed_of, read_executed
from nncomp_ort.legalize import legalize, newer_than_promised


class OrtTarget(Target):
    """ONNX Runtime's CPU provider."""

    name: ClassVar[str] = "ort"
    summary: ClassVar[str] = "ONNX Runtime on CPU, INT8 where it has kernels"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    default_recipe: ClassVar[str] = "ort-int8"
    library: ClassVar[str] = "onnxruntime"

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
        for part, op in graph.walk():
            findings.append(_finding(part, op, ctx.ops.quant(op, graph.opsets)))
        return findings

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Legalize a copy of ``graph``, load it, and read the graph that ONNX Runtime executes."""
        legal = graph.clone()
        legalize(legal)
        promise = newer_than_promised(legal)
        if promise:
            ctx.note("warning", "ort", reason=promise, code="NNC-W064")
        executed = executed_of(legal)
        assert self.capabilities.int8 is not None
        labels = {op.label: op.label for _, op in legal.walk() if op.kind in FLOAT_COMPUTE}
        found = read_executed(
            executed,
            _known_as(legal, left_float(ctx.results)),
            self.capabilities.int8.float_causes,
            _known_as(legal, labels),
        )
        return OrtArtifact(legal, found, threads=ctx.threads)


def _known_as(graph: Graph, told: Mapping[str, str]) -> dict[str, str]:
    """Return what is told of ops, by their names, their outputs', and those of what may be fused into them.

    Args:
        graph: What is built.
        told: By label, such as why an op is float.
    """
    known: dict[str, str] = {}
    chains: dict[str, str] = {}
    for part, op in graph.walk():
        text = told.get(op.label, "")
        if not text or not op.outputs:
            continue
        known.update({name: text for name in (op.name, op.output.name) if name})
        value = op.output
        while part.single_use(value) and part.users(value)[0].kind not in FLOAT_COMPUTE:
            value = part.users(value)[0].output
            chains.setdefault(value.name, text)
    return chains | known


def _finding(graph: Graph, op: Op, role: QuantRole) -> Finding:
    int8 = CAPABILITIES.int8
    assert int8 is not None
    kernel = None if op.domain else int8.kernels.get(op.kind)
    source = op.input(0)
    before = int8.kernels.get(source.producer.kind) if source is not None and source.producer is not None else None
    reason = ""
    if before is not None and op.kind in before.absorbs and not op.domain:
        return Finding("ok", op.label, op.kind, "INT8, part of the op in front of it")
    if kernel is None or (kernel.same_scale and role.role is Role.ELEMENTWISE):  # such as Resize that averages
        cause = int8.float_causes.get(op.kind) if not op.domain else None
        reason = cause or role.reason or "no INT8 kernel"
    elif role.role is Role.COMPUTE and graph.constant(op.input(role.weight or 1)) is None:
        reason = "its weight is not constant"
    if reason:
        return Finding("float", op.label, op.kind, reason)
    assert kernel is not None
    how = "INT8, activations quantized at run time" if kernel.form is Int8Form.DYNAMIC else "INT8"
    return Finding("ok", op.label, op.kind, how)
