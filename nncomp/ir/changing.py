"""ChangeableGraph: rewire, retype, rename and remove what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import cast

from nncomp.ir.attributes import attributes
from nncomp.ir.building import BuildableGraph
from nncomp.ir.nodes import CaptureKey, Op, Use, Value, set_field
from nncomp.ir.types import Type


class ChangeableGraph(BuildableGraph):
    """The part of :class:`~nncomp.ir.graph.Graph` that changes and removes."""

    def set_input(self, op: Op, slot: int, value: Value | None) -> None:
        """Let input ``slot`` of ``op`` read ``value``; ``slot`` may be the one behind the last."""
        inputs = list(op.inputs) + [None] * (slot + 1 - len(op.inputs))
        old = inputs[slot]
        if old is not None:
            self._edges.unlink(old, op, slot)
        if value is not None:
            self._edges.link(value, op, slot)
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

    def remove_inputs(self, inputs: Iterable[Value]) -> None:
        """Remove graph inputs that nobody reads; the interface changes.

        Raises:
            ValueError: one is read, or is a graph output.
        """
        gone = list(inputs)
        for value in gone:
            if self._succ[value] or self.is_output(value):
                raise ValueError(f"input {value.name!r} is still in use")
        self._inputs = tuple(value for value in self._inputs if value not in gone)
        for value in gone:
            self._drop_value(value)
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
        self._edges.remove(op)
        for body in op.bodies.values():
            body._owner = None
        self._touch()

    def remove_unused(self, values: Iterable[Value | None]) -> None:
        """Remove those of ``values`` that nobody needs, with all that only they needed; inputs stay."""
        pending = [value for value in values if value is not None]
        while pending:
            value = pending.pop()
            if value not in self or self._succ[value] or self.is_output(value) or value in self._inputs:
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
        self._edges.link(op, outputs[slot], slot)
        while len(outputs) > 1 and not outputs[-1].name:
            self._drop_value(outputs.pop())
        set_field(op, "outputs", tuple(outputs))
        self._touch()

    def insert_output(self, op: Op, slot: int, name: str, type: Type | None = None) -> Value:
        """Give an op that has any number of outputs one more, at ``slot``; those from there on move up by one."""
        value = self._add_value(Value(self.fresh_name(name), type))
        outputs = [*op.outputs[:slot], value, *op.outputs[slot:]]
        for index, later in reversed(list(enumerate(outputs))[slot:]):
            if later is not value:
                self._edges.unlink(op, later, index - 1)
            set_field(later, "producer", op)
            set_field(later, "index", index)
            self._edges.link(op, later, index)
        set_field(op, "outputs", tuple(outputs))
        self._touch()
        return value

    def release(self, inner: Value) -> None:
        """In a body, drop a capture that nothing inside reads any more."""
        if self._succ[inner] or self.is_output(inner):
            raise ValueError(f"capture {inner.name!r} is still in use")
        outer = self._captures[inner]
        self._drop_value(inner)
        if self._owner is not None:
            parent, owner, body = self._owner
            parent._edges.unlink(outer, owner, CaptureKey(body, inner))
        self._touch()

    def _give_name(self, value: Value, name: str) -> None:
        del self._names[value.name]
        set_field(value, "name", name)
        self._names[name] = value
        self._touch()

    def _recapture(self, op: Op, key: CaptureKey, new: Value) -> None:
        body = op.bodies[key.body]
        self._edges.unlink(body._captures[key.inner], op, key)
        body._captures[key.inner] = new
        self._edges.link(new, op, key)
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
