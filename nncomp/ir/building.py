"""BuildableGraph: add inputs, constants, ops and captures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir.attributes import attributes
from nncomp.ir.nodes import CaptureKey, Op, Value, set_field
from nncomp.ir.reading import ReadableGraph
from nncomp.ir.tensors import Tensor, tensor
from nncomp.ir.types import TensorType, Type

if TYPE_CHECKING:
    from nncomp.ir.graph import Graph

OutputSpec: TypeAlias = str | tuple[str, Type | None]


class BuildableGraph(ReadableGraph):
    """The part of :class:`~nncomp.ir.graph.Graph` that adds."""

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
        parent._edges.link(outer, owner, CaptureKey(body, inner))
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

    def _touch(self) -> None:
        graph: BuildableGraph | None = self
        while graph is not None:
            graph._version += 1
            graph = graph._owner[0] if graph._owner is not None else None

    def _add_value(self, value: Value) -> Value:
        if value.name:
            if value.name in self._names:
                raise ValueError(f"the name {value.name!r} is taken")
            self._names[value.name] = value
        self._edges.add(value)
        self._touch()
        return value

    def _drop_value(self, value: Value) -> None:
        self._edges.remove(value)
        if value.name:
            del self._names[value.name]
        self._captures.pop(value, None)

    def _attach(self, op: Op) -> Op:
        for value in op.inputs:
            if value is not None and value not in self._succ:
                raise ValueError(f"input {value.name!r} of {op.label} is not of this graph")
        self._edges.attach(op)
        for slot, value in enumerate(op.outputs):
            set_field(value, "producer", op)
            set_field(value, "index", slot)
        for name, body in op.bodies.items() if op.bodies else ():
            body._owner = (self._whole, op, name)
            for inner, outer in body._captures.items():
                self._edges.link(outer, op, CaptureKey(name, inner))
        self._touch()
        return op
