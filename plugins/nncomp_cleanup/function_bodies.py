"""Bodies of model-local functions as graphs, one for each call: the call's attributes are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from nncomp.ir import Graph, Op
from nncomp.onnx_io import graph_from_proto, normal_domain
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp_cleanup.purity import FunctionKey, all_nodes, function_key, node_key

_IR_VERSION: Final = 10


class FunctionTable:
    """The functions of a model, read once.

    Args:
        functions: Serialized messages by key.
        opsets: What the model imports.
    """

    def __init__(self, functions: Mapping[FunctionKey, bytes], opsets: Mapping[str, int]) -> None:
        self._functions = {key: FunctionProto.FromString(data) for key, data in functions.items()}
        self._opsets = opsets
        self._sizes: dict[FunctionKey, int] = {}
        self._bodies: dict[tuple[object, ...], Graph] = {}

    def opsets(self, key: FunctionKey) -> dict[str, int]:
        """Return the version of each domain whose operators the function uses, other functions apart."""
        function = self._functions[key]
        imported = {normal_domain(item.domain): item.version for item in function.opset_import}
        used = {
            normal_domain(node.domain) for node in all_nodes(function.node) if node_key(node) not in self._functions
        }
        return {domain: imported[domain] for domain in sorted(used) if domain in imported}

    def refusal(self, key: FunctionKey, imported: Mapping[str, int]) -> str:
        """Say why a function cannot be inlined into a model that imports ``imported``, "" if it can."""
        for domain, version in self.opsets(key).items():
            own = imported.get(domain, version)
            if own != version:
                name = domain or "ai.onnx"
                return f"it is written for opset {version} of {name}, the model imports {own}"
        return ""

    def size(self, key: FunctionKey) -> int:
        """Return how many ops a call comes to when everything is inlined."""
        for one in self._callees_first:
            if one not in self._sizes:
                nodes = all_nodes(self._functions[one].node)
                self._sizes[one] = sum(self._sizes.get(node_key(node), 1) for node in nodes)
        return self._sizes[key]

    @cached_property
    def _callees_first(self) -> list[FunctionKey]:
        order: list[FunctionKey] = []
        placed: set[FunctionKey] = set()
        calls = {
            key: {node_key(node) for node in all_nodes(function.node)} & self._functions.keys()
            for key, function in self._functions.items()
        }
        while len(order) < len(calls):
            ready = [key for key, called in calls.items() if key not in placed and called <= placed]
            assert ready, "a function calls itself, which the loader refuses"
            order.extend(ready)
            placed.update(ready)
        return order

    def body(self, call: Op) -> Graph:
        """Return what ``call`` does, as a graph whose inputs are the call's inputs that are given, in their order."""
        given = tuple(value is not None for value in call.inputs)
        attrs = {name: attribute_to_proto(name, attr) for name, attr in call.attrs.items()}
        texts = sorted((name, attr.SerializeToString(deterministic=True)) for name, attr in attrs.items())
        key = (function_key(call), given, *texts)
        if key not in self._bodies:
            self._bodies[key] = self._build(function_key(call), given, attrs)
        return self._bodies[key]

    def _build(self, key: FunctionKey, given: tuple[bool, ...], attrs: Mapping[str, AttributeProto]) -> Graph:
        function = FunctionProto()
        function.CopyFrom(self._functions[key])
        defaults = {attr.name: attr for attr in function.attribute_proto}
        present = [name for name, is_given in zip(function.input, given, strict=False) if is_given]
        for node in all_nodes(function.node):
            _fill_in(node, {**defaults, **attrs}, set(function.input) - set(present))
        graph = GraphProto(name=function.name, node=function.node)
        for name in present:
            graph.input.add(name=name)
        for name in function.output:
            graph.output.add(name=name)
        model = ModelProto(ir_version=_IR_VERSION, graph=graph)
        for domain, version in self._opsets.items():
            model.opset_import.add(domain=domain, version=version)
        return graph_from_proto(model)


def _fill_in(node: NodeProto, attrs: Mapping[str, AttributeProto], missing: set[str]) -> None:
    """Replace references to the function's attributes and to inputs that the call does not give."""
    for slot, name in enumerate(node.input):
        if name in missing:
            node.input[slot] = ""
    kept = []
    for attr in node.attribute:
        if not attr.ref_attr_name:
            kept.append(attr)
        elif attr.ref_attr_name in attrs:
            filled = AttributeProto()
            filled.CopyFrom(attrs[attr.ref_attr_name])
            filled.name = attr.name
            kept.append(filled)
    if any(attr.ref_attr_name for attr in node.attribute):
        copies = [AttributeProto.FromString(attr.SerializeToString()) for attr in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
