"""ReadableGraph: the state of a graph, and every question that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from nncomp.ir.constant_nodes import constant_node_data
from nncomp.ir.edges import Edges, Node
from nncomp.ir.model import ModelInfo
from nncomp.ir.nodes import CaptureKey, Op, Use, Value
from nncomp.ir.tensors import Tensor

if TYPE_CHECKING:
    import networkx as nx

    from nncomp.ir.graph import Graph


class ReadableGraph:
    """The part of :class:`~nncomp.ir.graph.Graph` that only looks."""

    def __init__(self, name: str = "graph", *, info: ModelInfo | None = None) -> None:
        self.name = name
        self.doc = ""
        self.metadata: Mapping[str, str] = MappingProxyType({})
        self.quantization_annotations: tuple[bytes, ...] = ()
        self._info = info or ModelInfo()
        self._edges = Edges()
        self._succ, self._pred = self._edges.succ, self._edges.pred
        self._inputs: tuple[Value, ...] = ()
        self._outputs: tuple[Value, ...] = ()
        self._captures: dict[Value, Value] = {}
        self._owner: tuple[Graph, Op, str] | None = None
        self._names: dict[str, Value] = {}
        self._next_suffix: dict[str, int] = {}
        self._version = 0
        # Found at a version of the graph, and forgotten at any other: whatever changes something makes a new one.
        self._order: tuple[int, tuple[Op, ...]] | None = None
        self._listed: tuple[int, tuple[Value, ...]] | None = None

    @property
    def version(self) -> int:
        """Grows with each change, of this graph or of a body in it; equal means unchanged."""
        return self._version

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Graph inputs, in order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Graph outputs, in order; one value may stand here twice, or be an input or a constant."""
        return self._outputs

    @property
    def captures(self) -> Mapping[Value, Value]:
        """For a body: which outer value each inner stand-in means."""
        return MappingProxyType(self._captures)

    @property
    def owner(self) -> Op | None:
        """The op whose body this is, None for a model's own graph."""
        return None if self._owner is None else self._owner[1]

    @property
    def parent(self) -> Graph | None:
        """The graph that holds the owner."""
        return None if self._owner is None else self._owner[0]

    @property
    def root(self) -> Graph:
        """The outermost graph."""
        graph: ReadableGraph = self
        while graph._owner is not None:
            graph = graph._owner[0]
        return graph._whole

    @property
    def info(self) -> ModelInfo:
        """Model-level fields, shared by all bodies."""
        return self.root._info

    @property
    def opsets(self) -> Mapping[str, int]:
        """Imported opset version by domain ("" is ONNX's own)."""
        return self.root._info.opsets

    @property
    def nx(self) -> nx.MultiDiGraph[Node]:
        """The networkx graph, a read-only view: any networkx algorithm runs on it."""
        return self._edges.view()

    def __contains__(self, node: Node) -> bool:
        return node in self._edges.nodes

    def ops(self) -> tuple[Op, ...]:
        """Return all ops in a stable topological order: insertion order, moved only as far as dependencies ask.

        Raises:
            ValueError: the graph has a cycle.
        """
        if self._order is None or self._order[0] != self._version:
            self._order = (self._version, self._sorted_ops())
        return self._order[1]

    def walk(self) -> Iterator[tuple[Graph, Op]]:
        """Yield every op with its graph, bodies included, each owner before its bodies' ops."""
        stack = [(self._whole, iter(self.ops()))]
        while stack:
            graph, ops = stack[-1]
            for op in ops:
                yield graph, op
                if op.bodies:
                    stack.extend((body, iter(body.ops())) for body in reversed([*op.bodies.values()]))
                    break
            else:
                stack.pop()

    def graphs(self) -> Iterator[Graph]:
        """Yield this graph and every body in it, outer before inner."""
        stack = [self._whole]
        while stack:
            graph = stack.pop()
            yield graph
            stack.extend(reversed([body for op in graph.ops() if op.bodies for body in op.bodies.values()]))

    def values(self) -> tuple[Value, ...]:
        """Return all values, in insertion order."""
        if self._listed is None or self._listed[0] != self._version:
            self._listed = (self._version, tuple(node for node in self._edges.nodes if isinstance(node, Value)))
        return self._listed[1]

    def constants(self) -> tuple[Value, ...]:
        """Return all constants (initializers that nobody can override), in insertion order."""
        return tuple(value for value in self.values() if value.const is not None)

    def find(self, name: str) -> Value:
        """Return the value called ``name``.

        Raises:
            KeyError: there is none.
        """
        return self._names[name]

    def has_name(self, name: str) -> bool:
        """True when a value of this graph is called ``name``."""
        return name in self._names

    def uses(self, value: Value) -> tuple[Use, ...]:
        """Return who reads ``value``, in insertion order; being a graph output is not a use."""
        return tuple(Use(cast(Op, op), key) for op, keys in self._succ[value].items() for key in keys)

    def users(self, value: Value) -> tuple[Op, ...]:
        """Return the ops that read ``value``, each once."""
        return tuple(cast(Op, op) for op in self._succ[value])

    def edges_into(self, op: Op) -> set[tuple[Node, int | CaptureKey]]:
        """Return the edges that end at ``op``; ``op.inputs`` and its bodies' captures say the same in a valid graph."""
        return {(value, key) for value, keys in self._pred[op].items() for key in keys}

    def is_output(self, value: Value) -> bool:
        """True when ``value`` is a graph output."""
        return any(value is output for output in self._outputs)

    def single_use(self, value: Value) -> bool:
        """True when exactly one input slot reads ``value`` and it is no graph output."""
        keys = [key for op_keys in self._succ[value].values() for key in op_keys]
        return len(keys) == 1 and not self.is_output(value)

    def constant(self, value: Value | None) -> Tensor | None:
        """Return the data of ``value`` if it is fixed: a constant, a ``Constant`` node's output, or a capture of one.

        An input with a default is not fixed: the caller may override it.
        """
        holder = self.constant_holder(value)
        return constant_node_data(holder) if isinstance(holder, Op) else holder

    def constant_holder(self, value: Value | None) -> Tensor | Op | None:
        """Return what holds the data of ``value`` where :meth:`constant` gives any: its tensor, or the node it is from.

        Constants with one holder are one; most ``Constant`` nodes make a new tensor whenever they are asked.
        """
        graph: ReadableGraph | None = self
        while value is not None and graph is not None:
            if value.const is not None:
                return value.const
            if value.producer is not None:
                return value.producer
            value, graph = graph._captures.get(value), graph.parent
        return None

    def array(self, value: Value | None) -> npt.NDArray[np.generic] | None:
        """Return :meth:`constant` as a read-only numpy array."""
        data = self.constant(value)
        return None if data is None else data.numpy()

    @property
    def _whole(self) -> Graph:
        """This graph, by its full class: no other is ever made."""
        return cast("Graph", self)

    def _taken(self, name: str) -> bool:
        graph: ReadableGraph | None = self
        while graph is not None:
            if name in graph._names:
                return True
            graph = graph.parent
        return False

    def _sorted_ops(self) -> tuple[Op, ...]:
        preds = self._pred
        done: dict[Op, bool] = {}  # False while its dependencies are being placed
        order: list[Op] = []
        for start in self._edges.nodes:
            if not isinstance(start, Op) or start in done:
                continue
            stack = [(start, _producers(preds[start]))]
            done[start] = False
            while stack:
                op, pending = stack[-1]
                before = next(pending, None)
                if before is None:
                    stack.pop()
                    done[op] = True
                    order.append(op)
                elif before not in done:
                    done[before] = False
                    stack.append((before, _producers(preds[before])))
                elif not done[before]:
                    raise ValueError(f"cycle through {before.label}")
        return tuple(order)


def _producers(values: Mapping[Node, object]) -> Iterator[Op]:
    return (value.producer for value in values if isinstance(value, Value) and value.producer is not None)
