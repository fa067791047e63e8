"""Graph: the one mutator of a bipartite networkx MultiDiGraph (:mod:`~nncomp.ir.edges`) of Values and Ops.

Edges run ``value -> op`` keyed by input slot, ``op -> value`` keyed by output slot, and ``outer value -> op`` keyed by
:class:`~nncomp.ir.nodes.CaptureKey` for what the op's bodies read from outside. ``op.inputs`` and ``value.producer``
answer the same questions faster; :mod:`nncomp.verify` checks that both agree.

The methods lie in four modules, each a class on top of the one before: :mod:`~nncomp.ir.reading`,
:mod:`~nncomp.ir.building`, :mod:`~nncomp.ir.changing`, and here copying.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import cast

from nncomp.ir.building import OutputSpec
from nncomp.ir.changing import ChangeableGraph
from nncomp.ir.edges import Node
from nncomp.ir.model import ModelInfo
from nncomp.ir.nodes import Op, Value

__all__ = ["Graph", "Node", "OutputSpec"]


class Graph(ChangeableGraph):
    """One graph: the model's own, or the body of a control-flow op.

    Complexity: every mutation is O(edges touched); :meth:`ops` is linear and cached until the next mutation.
    """

    def insert_copy(self, body: Graph, given: Mapping[Value, Value]) -> dict[Value, Value]:
        """Copy the ops and constants of ``body``, with all bodies in it, into this graph; names are made free.

        Args:
            body: A body of an op, or a graph of its own; it stays as it is.
            given: For each input and capture of ``body`` that is read, the value of this graph to read.

        Returns:
            Which value of this graph each value of ``body`` became, ``given`` included.
        """
        mapping: dict[Node, Node] = dict(cast("Mapping[Node, Node]", given))
        for value in body.values():
            if value not in given:
                mapping[value] = self._add_value(_twin(value, self.fresh_name(value.name) if value.name else ""))
        for op in body.ops():
            self._attach(self._clone_op(op, mapping, self.info))
        return {value: cast(Value, mapping[value]) for value in body.values()}

    def clone(self) -> Graph:
        """Return a deep copy that shares the constants' data (they are never written to)."""
        return self.clone_with_map()[0]

    def clone_with_map(self) -> tuple[Graph, dict[Node, Node]]:
        """Return :meth:`clone` and where each node, of this graph and of its bodies, went."""
        mapping: dict[Node, Node] = {}
        copy = self._clone_into(mapping, self._info if self._owner is None else self.info)
        return copy, mapping

    def extract(self, ops: Iterable[Op], outputs: Iterable[Value]) -> Graph:
        """Return a graph of its own that computes ``outputs`` with copies of ``ops`` alone; names stay.

        Constants come along and share their data; whatever else the ops read becomes an input. Cost is that of the
        ops taken.

        Args:
            ops: Ops of this graph, in any order.
            outputs: Values that they compute.
        """
        copy, taken = Graph(self.name, info=self.info), tuple(ops)
        computed = {value for op in taken for value in op.outputs}
        mapping: dict[Node, Node] = {}

        def bring(value: Value) -> None:
            if value not in mapping:
                twin = copy._add_value(_twin(value, value.name))
                mapping[value] = twin
                if value not in computed and value.const is None:
                    copy._inputs = (*copy._inputs, twin)

        for op in taken:
            for value in (*(cast(Value, node) for node in self._pred[op]), *op.outputs):
                bring(value)
        for op in taken:
            copy._attach(self._clone_op(op, mapping, self.info))
        copy.set_outputs(cast(Value, mapping[value]) for value in outputs)
        return copy

    def adopt(self, other: Graph) -> None:
        """Become ``other``, which must not be used any more: how a pipeline commits its working copy."""
        if self._owner is not None or other._owner is not None:
            raise ValueError("only a model's own graph can adopt another")
        version = max(self._version, other._version) + 1
        self.__dict__.update(other.__dict__)
        self._version = version
        self._order = self._listed = None
        for node in self._edges.nodes:
            if isinstance(node, Op):
                for name, body in node.bodies.items():
                    body._owner = (self, node, name)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {sum(isinstance(n, Op) for n in self._edges.nodes)} ops>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the interface, ops by kind, and the constants."""
        from nncomp.htmltable import html_table

        kinds = Counter(f"{op.domain}.{op.kind}" if op.domain else op.kind for _, op in self.walk())
        rows: list[tuple[object, ...]] = [("input", value.name, value.type) for value in self.inputs]
        rows += [("output", value.name, value.type) for value in self.outputs]
        rows += [("op", kind, count) for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
        constants = [value.const for part in self.graphs() for value in part.constants() if value.const is not None]
        rows.append(("constants", len(constants), f"{sum(tensor.nbytes for tensor in constants)} bytes"))
        return html_table(f"graph {self.name}: {sum(kinds.values())} ops", rows)

    def _clone_into(self, mapping: dict[Node, Node], info: ModelInfo) -> Graph:
        copy = Graph(self.name, info=info)
        copy.doc, copy.metadata = self.doc, self.metadata
        copy.quantization_annotations = self.quantization_annotations
        for node in self._edges.nodes:
            if isinstance(node, Value):
                twin = _twin(node, node.name)
                mapping[node] = twin
                copy._edges.add(twin)
                if node.name:
                    copy._names[node.name] = twin
        for node in self._edges.nodes:
            if isinstance(node, Op):
                copy._attach(self._clone_op(node, mapping, info))
        copy._inputs = tuple(cast(Value, mapping[value]) for value in self._inputs)
        copy._outputs = tuple(cast(Value, mapping[value]) for value in self._outputs)
        copy._captures = {
            cast(Value, mapping[inner]): cast(Value, mapping[outer])
            for inner, outer in self._captures.items()
            if outer in mapping
        }
        copy._next_suffix = dict(self._next_suffix)
        copy._version = self._version
        return copy

    def _clone_op(self, op: Op, mapping: dict[Node, Node], info: ModelInfo) -> Op:
        twin = Op(
            op.kind,
            cast("tuple[Value | None, ...]", tuple([None if value is None else mapping[value] for value in op.inputs])),
            cast("tuple[Value, ...]", tuple([mapping[value] for value in op.outputs])),
            attrs=op.attrs,
            bodies=MappingProxyType({name: body._clone_into(mapping, info) for name, body in op.bodies.items()})
            if op.bodies
            else op.bodies,
            domain=op.domain,
            overload=op.overload,
            name=op.name,
            doc=op.doc,
            metadata=op.metadata,
            devices=op.devices,
        )
        mapping[op] = twin
        return twin


def _twin(value: Value, name: str) -> Value:
    return Value(name, value.type, const=value.const, default=value.default, doc=value.doc, metadata=value.metadata)
