"""What may be removed: ops that are known to compute and nothing else, and names that nothing else speaks of."""

from __future__ import annotations

import onnx
from onnx import FunctionProto, NodeProto, TensorAnnotation

from nncomp.ir import Graph, Op
from nncomp.onnx_io import normal_domain
from nncomp.ops import OpTable

FunctionKey = tuple[str, str, str]


def function_key(op: Op) -> FunctionKey:
    """Return the key under which a model-local function that ``op`` calls would stand."""
    return op.domain, op.kind, op.overload


def is_call(graph: Graph, op: Op) -> bool:
    """True when ``op`` calls a model-local function, whatever the operator of that name means elsewhere."""
    return function_key(op) in graph.info.functions


def may_have_effects(graph: Graph, ops: OpTable) -> set[Op]:
    """Return the ops, of ``graph`` and its bodies, that might do more than compute their outputs.

    Those are operators that neither the table nor onnx knows (a custom op may print, or keep a state), and the ops
    whose bodies or functions hold one.
    """
    found: set[Op] = set()
    impure = _impure_functions(graph, ops)
    for part, op in graph.walk():
        if is_call(graph, op):
            known = function_key(op) not in impure
        else:
            known = ops.row(op, graph.opsets) is not None or onnx.defs.has(op.kind, op.domain)
        if not known:
            found.add(op)
            around = part
            while around.owner is not None and around.parent is not None:
                found.add(around.owner)
                around = around.parent
    return found


def called_functions(graph: Graph) -> set[FunctionKey]:
    """Return the model-local functions that the graph calls, directly or through another."""
    functions = graph.info.functions
    pending = [function_key(op) for _, op in graph.walk() if is_call(graph, op)]
    found: set[FunctionKey] = set()
    while pending:
        key = pending.pop()
        if key not in found:
            found.add(key)
            nodes = all_nodes(FunctionProto.FromString(functions[key]).node)
            pending.extend(node_key(node) for node in nodes if node_key(node) in functions)
    return found


def named_elsewhere(graph: Graph) -> set[str]:
    """Return the names of values of one graph that its quantization annotations speak of."""
    names: set[str] = set()
    for data in graph.quantization_annotations:
        annotation = TensorAnnotation.FromString(data)
        names |= {annotation.tensor_name, *(item.value for item in annotation.quant_parameter_tensor_names)}
    return names


def node_key(node: NodeProto) -> FunctionKey:
    """Return :func:`function_key` of a message."""
    return normal_domain(node.domain), node.op_type, node.overload


def all_nodes(nodes: object) -> list[NodeProto]:
    """Return ``nodes`` and the nodes of all their bodies."""
    found: list[NodeProto] = []
    pending = list(nodes)  # type: ignore[call-overload]
    while pending:
        node = pending.pop()
        found.append(node)
        for attr in node.attribute:
            for body in (attr.g, *attr.graphs):
                pending.extend(body.node)
    return found


def _impure_functions(graph: Graph, ops: OpTable) -> set[FunctionKey]:
    functions = graph.info.functions
    calls: dict[FunctionKey, set[FunctionKey]] = {}
    impure: set[FunctionKey] = set()
    for key, data in functions.items():
        nodes = all_nodes(FunctionProto.FromString(data).node)
        calls[key] = {node_key(node) for node in nodes} & functions.keys()
        others = [node for node in nodes if node_key(node) not in functions]
        if not all(_is_known(node, graph, ops) for node in others):
            impure.add(key)
    while spreading := {key for key, called in calls.items() if key not in impure and called & impure}:
        impure |= spreading
    return impure


def _is_known(node: NodeProto, graph: Graph, ops: OpTable) -> bool:
    domain = normal_domain(node.domain)
    op = Op(node.op_type, (), (), domain=domain)
    return ops.row(op, graph.opsets) is not None or bool(onnx.defs.has(node.op_type, domain))
