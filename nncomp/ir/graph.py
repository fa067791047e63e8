"""Graph: the one mutator of a bipartite networkx MultiDiGraph whose nodes are Values and Ops.

Edges run ``value -> op`` keyed by input slot, ``op -> value`` keyed by output slot, and ``outer value -> op`` keyed by
:class:`~nncomp.ir.nodes.CaptureKey` for what the op's bodies read from outside. ``op.inputs`` and ``value.producer``
answer the same questions faster; :mod:`nncomp.verify` checks that both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, cast

import networkx as nx
import numpy as np
import numpy.typing as npt

from nncomp.ir.attributes import Attribute, attributes
from nncomp.ir.model import ModelInfo
from nncomp.ir.nodes import CaptureKey, Op, Use, Value, set_field
from nncomp.ir.tensors import Tensor, tensor
from nncomp.ir.types import TensorType, Type

Node: TypeAlias = Value | Op
OutputSpec: TypeAlias = str | tuple[str, Type | None]
_Neighbours: TypeAlias = Mapping[Node, Mapping[Node, Mapping[int | CaptureKey, object]]]


class Graph:
    """One graph: the model's own, or the body of a control-flow op.

    Complexity: every mutation is O(edges touched); :meth:`ops` is linear and cached until the next mutation.
    """

    def __init__(self, name: str = "graph", *, info: ModelInfo | None = None) -> None:
        self.name = name
        self.doc = ""
        self.metadata: Mapping[str, str] = MappingProxyType({})
        self.quantization_annotations: tuple[bytes, ...] = ()
        self._info = info or ModelInfo()
        self._nx: nx.MultiDiGraph[Node] = nx.MultiDiGraph()
        # The dicts behind networkx's views: a look-up in a view costs four times as much.
        self._succ: _Neighbours = self._nx._succ  # type: ignore[attr-defined]
        self._pred: _Neighbours = self._nx._pred  # type: ignore[attr-defined]
        self._inputs: tuple[Value, ...] = ()
        self._outputs: tuple[Value, ...] = ()
        self._captures: dict[Value, Value] = {}
        self._owner: tuple[Graph, Op, str] | None = None
        self._names: dict[str, Value] = {}
        self._next_suffix: dict[str, int] = {}
        self._version = 0
        self._order: tuple[int, tuple[Op, ...]] | None = None

    # ---------------------------------------------------------------- reading

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
        graph = self
        while graph._owner is not None:
            graph = graph._owner[0]
        return graph

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
        return cast("nx.MultiDiGraph[Node]", nx.restricted_view(self._nx, (), ()))

    def __contains__(self, node: Node) -> bool:
        return node in self._nx

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
        stack: list[Iterator[tuple[Graph, Op]]] = [iter([(self, op) for op in self.ops()])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            yield found
            inner = [(body, op) for body in found[1].bodies.values() for op in body.ops()]
            if inner:
                stack.append(iter(inner))

    def graphs(self) -> Iterator[Graph]:
        """Yield this graph and every body in it, outer before inner."""
        stack = [self]
        while stack:
            graph = stack.pop()
            yield graph
            stack.extend(reversed([body for op in graph.ops() for body in op.bodies.values()]))

    def values(self) -> tuple[Value, ...]:
        """Return all values, in insertion order."""
        return tuple(node for node in self._nx if isinstance(node, Value))

    def constants(self) -> tuple[Value, ...]:
        """Return all constants (initializers that nobody can override), in insertion order."""
        return tuple(node for node in self._nx if isinstance(node, Value) and node.const is not None)

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
        graph: Graph | None = self
        while value is not None and graph is not None:
            if value.const is not None:
                return value.const
            if value.producer is not None:
                return _constant_node_data(value.producer)
            value, graph = graph._captures.get(value), graph.parent
        return None

    def array(self, value: Value | None) -> npt.NDArray[np.generic] | None:
        """Return :meth:`constant` as a read-only numpy array."""
        data = self.constant(value)
        return None if data is None else data.numpy()

    # ---------------------------------------------------------------- building

    def fresh_name(self, hint: str) -> str:
        """Return ``hint``, or ``hint_1``, ``hint_2``, ... if it is taken here or in a graph around this one."""
        if not self._taken(hint):
            return hint
        number = self._next_suffix.get(hint, 1)
        while self._taken(f"{hint}_{number}"):
            number += 1
        self._next_suffix[hint] = number + 1
        return f"{hint}_{number}"

    def add_input(self, name: str, type: Type | None, *, default: Tensor | None = None, doc: str = "") -> Value:
        """Append a graph input; ``default`` makes it one that the caller may leave out."""
        value = self._add_value(Value(name, type, default=default, doc=doc))
        self._inputs = (*self._inputs, value)
        return value

    def add_constant(self, name: str, data: Tensor | npt.NDArray[np.generic], *, doc: str = "") -> Value:
        """Add a constant under ``name`` or a name made from it. ``data`` must not be written to afterwards."""
        const = tensor(data) if isinstance(data, np.ndarray) else data
        type_ = TensorType(const.dtype, const.shape)
        return self._add_value(Value(self.fresh_name(name), type_, const=const, doc=doc))

    def add_op(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[OutputSpec] = ("",),
        *,
        attrs: Mapping[str, object] | None = None,
        bodies: Mapping[str, Graph] | None = None,
        domain: str = "",
        name: str = "",
        like: Op | None = None,
    ) -> Op:
        """Add an op and its outputs.

        Args:
            kind: Operator.
            inputs: Values of this graph, None for an optional input that is not given; trailing ones are dropped.
            outputs: One entry an output: its name (a free name is made from it, from ``kind`` when it is "" and there
                is one output) or (name, type). ``None`` is not allowed; "" of several outputs is a skipped output.
            attrs: Attributes, plain Python values or :class:`Attribute`.
            bodies: Subgraphs; their captures must be values of this graph.
            domain: Operator domain.
            name: Node name; not made unique.
            like: Op to take ``doc``, ``metadata`` and, if ``name`` is empty, the name from.
        """
        specs = [(spec, None) if isinstance(spec, str) else spec for spec in outputs]
        values = []
        for hint, type_ in specs:
            if hint or len(specs) == 1:
                values.append(self._add_value(Value(self.fresh_name(hint or kind.lower()), type_)))
            else:
                values.append(self._add_value(Value("")))
        trimmed = list(inputs)
        while trimmed and trimmed[-1] is None:
            trimmed.pop()
        op = Op(
            kind,
            tuple(trimmed),
            tuple(values),
            attrs=MappingProxyType(attributes(attrs or {})),
            bodies=MappingProxyType(dict(bodies or {})),
            domain=domain,
            name=name or (like.name if like else ""),
            doc=like.doc if like else "",
            metadata=like.metadata if like else MappingProxyType({}),
        )
        return self._attach(op)

    def insert_all(self, ops: Iterable[Op]) -> None:
        """Add ready-made ops in any order, whose outputs are new values with free names; for loaders."""
        ops = tuple(ops)
        for op in ops:
            for value in op.outputs:
                self._add_value(value)
        for op in ops:
            self._attach(op)

    def capture(self, outer: Value) -> Value:
        """In a body, return the inner value that stands for ``outer`` of the parent, adding it if need be.

        A value from further out must be captured by each graph between, outermost first.
        """
        if self._owner is None:
            raise ValueError("only the body of an op captures values")
        for inner, captured in self._captures.items():
            if captured is outer:
                return inner
        inner = self.declare_capture(outer, outer.name if not self.has_name(outer.name) else None)
        parent, owner, body = self._owner
        parent._nx.add_edge(outer, owner, key=CaptureKey(body, inner))
        parent._touch()
        return inner

    def declare_capture(self, outer: Value, name: str | None = None) -> Value:
        """Add a capture to a body that has no owner yet; for loaders. ``add_op`` draws the edges."""
        inner = self._add_value(Value(name or self.fresh_name(outer.name), outer.type))
        self._captures[inner] = outer
        return inner

    def set_outputs(self, outputs: Iterable[Value]) -> None:
        """Set the graph outputs."""
        self._outputs = tuple(outputs)
        self._touch()

    # ---------------------------------------------------------------- changing

    def set_input(self, op: Op, slot: int, value: Value | None) -> None:
        """Let input ``slot`` of ``op`` read ``value``; ``slot`` may be the one behind the last."""
        inputs = list(op.inputs) + [None] * (slot + 1 - len(op.inputs))
        old = inputs[slot]
        if old is not None:
            self._nx.remove_edge(old, op, key=slot)
        if value is not None:
            self._nx.add_edge(value, op, key=slot)
        inputs[slot] = value
        while inputs and inputs[-1] is None:
            inputs.pop()
        set_field(op, "inputs", tuple(inputs))
        self._touch()

    def set_attrs(self, op: Op, **attrs: object) -> None:
        """Set attributes; None removes one."""
        kept = {name: value for name, value in op.attrs.items() if name not in attrs}
        set_field(op, "attrs", MappingProxyType(kept | attributes(attrs)))
        self._touch()

    def set_name(self, op: Op, name: str) -> None:
        """Set a node name."""
        set_field(op, "name", name)
        self._touch()

    def set_type(self, value: Value, type: Type | None) -> None:
        """Set the type of a value."""
        if value.type != type:
            set_field(value, "type", type)
            self._touch()

    def set_info(self, **fields: object) -> None:
        """Replace model-level fields, such as ``opsets``."""
        root = self.root
        root._info = replace(root._info, **fields)  # type: ignore[arg-type]
        self._touch()

    def import_opset(self, domain: str, version: int) -> None:
        """Import ``domain`` at ``version`` if the model does not import it yet."""
        if domain not in self.opsets:
            self.set_info(opsets=MappingProxyType({**self.opsets, domain: version}))

    def rename(self, value: Value, name: str) -> None:
        """Rename a value.

        Raises:
            ValueError: the name is taken.
        """
        if name == value.name:
            return
        if not name or self._taken(name):
            raise ValueError(f"the name {name!r} is taken")
        self._give_name(value, name)

    def replace_uses(self, old: Value, new: Value, *, keep: Callable[[Use], bool] | None = None) -> None:
        """Let everything that reads ``old`` read ``new``; uses for which ``keep`` is true stay.

        If ``old`` is a graph output (and ``keep`` is not given) the interface keeps its name: ``new`` takes it over
        when it is an ordinary op output, otherwise an Identity carries it.
        """
        for use in self.uses(old):
            if keep is not None and keep(use):
                continue
            if isinstance(use.slot, int):
                self.set_input(use.op, use.slot, new)
            else:
                self._recapture(use.op, use.slot, new)
        if keep is None and self.is_output(old):
            self._replace_output(old, new)

    def swap_inputs(self, inputs: Sequence[Value]) -> None:
        """Reorder the graph inputs; the same values."""
        if set(inputs) != set(self._inputs):
            raise ValueError("only the order of graph inputs can be changed")
        self._inputs = tuple(inputs)
        self._touch()

    def remove(self, op: Op) -> None:
        """Remove an op and its outputs, which nobody may read any more.

        Raises:
            ValueError: an output is read, or is a graph output.
        """
        for value in op.outputs:
            if self._succ[value] or self.is_output(value):
                raise ValueError(f"{value.name!r}, output of {op.label}, is still in use")
        for value in op.outputs:
            self._drop_value(value)
        self._nx.remove_node(op)
        for body in op.bodies.values():
            body._owner = None
        self._touch()

    def remove_unused(self, values: Iterable[Value | None]) -> None:
        """Remove those of ``values`` that nobody needs, with all that only they needed; inputs stay."""
        pending = [value for value in values if value is not None]
        while pending:
            value = pending.pop()
            if value not in self._nx or self._succ[value] or self.is_output(value) or value in self._inputs:
                continue
            op = value.producer
            if value in self._captures:
                self.release(value)
            elif op is None:
                self._drop_value(value)
                self._touch()
            elif all(not self._succ[out] and not self.is_output(out) for out in op.outputs):
                pending.extend(cast("dict[Value, object]", self._pred[op]))
                self.remove(op)

    def drop_output(self, op: Op, slot: int) -> None:
        """Do without an optional output that nobody reads: the last one is cut off, another is skipped.

        Raises:
            ValueError: it is read, or is a graph output.
        """
        value = op.outputs[slot]
        if self._succ[value] or self.is_output(value):
            raise ValueError(f"{value.name!r}, output of {op.label}, is still in use")
        self._drop_value(value)
        outputs = list(op.outputs)
        outputs[slot] = self._add_value(Value(""))
        set_field(outputs[slot], "producer", op)
        set_field(outputs[slot], "index", slot)
        self._nx.add_edge(op, outputs[slot], key=slot)
        while len(outputs) > 1 and not outputs[-1].name:
            self._drop_value(outputs.pop())
        set_field(op, "outputs", tuple(outputs))
        self._touch()

    def release(self, inner: Value) -> None:
        """In a body, drop a capture that nothing inside reads any more."""
        if self._succ[inner] or self.is_output(inner):
            raise ValueError(f"capture {inner.name!r} is still in use")
        outer = self._captures[inner]
        self._drop_value(inner)
        if self._owner is not None:
            parent, owner, body = self._owner
            parent._nx.remove_edge(outer, owner, key=CaptureKey(body, inner))
        self._touch()

    # ---------------------------------------------------------------- copying

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

    def adopt(self, other: Graph) -> None:
        """Become ``other``, which must not be used any more: how a pipeline commits its working copy."""
        if self._owner is not None or other._owner is not None:
            raise ValueError("only a model's own graph can adopt another")
        version = max(self._version, other._version) + 1
        self.__dict__.update(other.__dict__)
        self._version = version
        self._order = None
        for node in self._nx:
            if isinstance(node, Op):
                for name, body in node.bodies.items():
                    body._owner = (self, node, name)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {sum(isinstance(n, Op) for n in self._nx)} ops>"

    # ---------------------------------------------------------------- inside

    def _touch(self) -> None:
        graph: Graph | None = self
        while graph is not None:
            graph._version += 1
            graph = graph._owner[0] if graph._owner is not None else None

    def _taken(self, name: str) -> bool:
        graph: Graph | None = self
        while graph is not None:
            if name in graph._names:
                return True
            graph = graph.parent
        return False

    def _give_name(self, value: Value, name: str) -> None:
        del self._names[value.name]
        set_field(value, "name", name)
        self._names[name] = value
        self._touch()

    def _add_value(self, value: Value) -> Value:
        if value.name:
            if value.name in self._names:
                raise ValueError(f"the name {value.name!r} is taken")
            self._names[value.name] = value
        self._nx.add_node(value)
        self._touch()
        return value

    def _drop_value(self, value: Value) -> None:
        self._nx.remove_node(value)
        if value.name:
            del self._names[value.name]
        self._captures.pop(value, None)

    def _attach(self, op: Op) -> Op:
        net = self._nx
        net.add_node(op)
        for slot, value in enumerate(op.inputs):
            if value is not None:
                if value not in net:
                    raise ValueError(f"input {value.name!r} of {op.label} is not of this graph")
                net.add_edge(value, op, key=slot)
        for slot, value in enumerate(op.outputs):
            set_field(value, "producer", op)
            set_field(value, "index", slot)
            net.add_edge(op, value, key=slot)
        for name, body in op.bodies.items():
            body._owner = (self, op, name)
            for inner, outer in body._captures.items():
                net.add_edge(outer, op, key=CaptureKey(name, inner))
        self._touch()
        return op

    def _recapture(self, op: Op, key: CaptureKey, new: Value) -> None:
        body = op.bodies[key.body]
        self._nx.remove_edge(body._captures[key.inner], op, key=key)
        body._captures[key.inner] = new
        self._nx.add_edge(new, op, key=key)
        body._touch()

    def _replace_output(self, old: Value, new: Value) -> None:
        takes_name = new.producer is not None and not self.is_output(new)
        if takes_name:
            name = old.name
            spare = self.fresh_name(f"{name}_before")
            self.rename(old, spare)
            self._give_name(new, name)  # free here; outside a body it may mean something else already
            if old.type is not None and (old.shape is not None or new.shape is None):
                self.set_type(new, old.type)  # the declared type is part of the interface, symbols included
            self._outputs = tuple(new if value is old else value for value in self._outputs)
        else:
            name = old.name
            self.rename(old, self.fresh_name(f"{name}_before"))
            carrier = self.add_op("Identity", [new], [(name, old.type)]).output
            self._outputs = tuple(carrier if value is old else value for value in self._outputs)
        self._touch()

    def _sorted_ops(self) -> tuple[Op, ...]:
        preds = self._pred
        done: dict[Op, bool] = {}  # False while its dependencies are being placed
        order: list[Op] = []
        for start in self._nx:
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

    def _clone_into(self, mapping: dict[Node, Node], info: ModelInfo) -> Graph:
        copy = Graph(self.name, info=info)
        copy.doc, copy.metadata = self.doc, self.metadata
        copy.quantization_annotations = self.quantization_annotations
        for node in self._nx:
            if isinstance(node, Value):
                twin = _twin(node, node.name)
                mapping[node] = twin
                copy._nx.add_node(twin)
                if node.name:
                    copy._names[node.name] = twin
        for node in self._nx:
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
            tuple(None if value is None else cast(Value, mapping[value]) for value in op.inputs),
            tuple(cast(Value, mapping[value]) for value in op.outputs),
            attrs=op.attrs,
            bodies=MappingProxyType({name: body._clone_into(mapping, info) for name, body in op.bodies.items()}),
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


def _producers(values: Mapping[Node, object]) -> Iterator[Op]:
    return (value.producer for value in values if isinstance(value, Value) and value.producer is not None)


def _constant_node_data(op: Op) -> Tensor | None:
    if not op.is_a("Constant"):
        return None
    for name, attr in op.attrs.items():
        if name == "value":
            return cast(Tensor, attr.value)
        if name in _CONSTANT_FORMS:
            return _CONSTANT_FORMS[name](attr)
    return None


def _plain_constant(dtype: type[np.generic]) -> Callable[[Attribute], Tensor]:
    return lambda attr: tensor(np.array(attr.value, dtype=dtype))


def _string_constant(attr: Attribute) -> Tensor:
    return tensor(np.array(attr.value, object))


_CONSTANT_FORMS: Mapping[str, Callable[[Attribute], Tensor]] = {
    "value_float": _plain_constant(np.float32),
    "value_floats": _plain_constant(np.float32),
    "value_int": _plain_constant(np.int64),
    "value_ints": _plain_constant(np.int64),
    "value_string": _string_constant,
    "value_strings": _string_constant,
}
