"""Lines of graphs and ops, and what had to be left out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nncomp.ir import Attribute, Graph, Op, Tensor, Type, Value
from nncomp.ir.types import quote_name
from nncomp.text.digest import summary
from nncomp.text.keys import free_key, op_key
from nncomp.text.literals import (
    attribute_pieces,
    attribute_tensor,
    is_written_as_bits,
    plain_numbers,
    tensor_literals,
    tensor_type,
)
from nncomp.text.syntax import (
    INDENT,
    Remarks,
    block,
    can_write_type,
    comments,
    declaration,
    dotted_like,
    enclosed,
    has_denotation,
    is_body_name,
    is_dotted,
    is_word,
    joined,
    listed,
    word_like,
    wrapped,
)

Notes = Mapping[Value | Op, str]
Names = Mapping[Value, str]


@dataclass(frozen=True)
class Scope:
    """What lies around a graph: the written names of the values outside, and the path to it in keys of constants."""

    path: str = ""
    outer: Names = field(default_factory=lambda: MappingProxyType({}))
    taken: frozenset[str] = frozenset()

    def names(self, graph: Graph) -> dict[Value, str]:
        """Return the name of each value as a file has it: captures by their outer names, no name shadows another.

        :mod:`nncomp.onnx_io` writes the same names.
        """
        own = {value.name for value in graph.values()}
        names = {}
        for value in graph.values():
            if value in graph.captures:
                names[value] = self.outer.get(graph.captures[value], value.name)
            else:
                names[value] = _free_name(value.name, self.taken, own)
        return names

    def inside(self, graph: Graph, names: Names) -> Scope:
        """Return the scope of what the ops of ``graph`` hold."""
        has_bodies = any(op.bodies for op in in_order(graph))
        return Scope(self.path, names, self.taken | set(names.values()) if has_bodies else self.taken)

    def within(self, step: str) -> Scope:
        """Return the same scope with a longer path."""
        return Scope(f"{self.path}{step}/", self.outer, self.taken)


class GraphPrinter:
    """Prints graphs; gathers what it leaves out.

    Attributes:
        lost: (place, what) that the syntax cannot say.
        elided: data of large constants, by key.
    """

    def __init__(self, max_elements: int, *, types: bool, notes: Notes, summaries: bool = True) -> None:
        self.max_elements = max_elements
        self.types = types
        self.notes = notes
        self.summaries = summaries
        self.lost: list[tuple[str, str]] = []
        self.elided: dict[str, Tensor] = {}

    # ---------------------------------------------------------------- graphs

    def graph_lines(self, graph: Graph, title: str, depth: int, scope: Scope) -> list[str]:
        """Return the lines of a graph called ``title``, indented by ``depth``."""
        place = f"graph {graph.name!r}"
        names = scope.names(graph)
        remarks = Remarks()
        self.lose(
            place, doc_string=graph.doc, metadata=graph.metadata, quantization_annotation=graph.quantization_annotations
        )
        for value in graph.values():
            self.lose(f"value {value.name!r}", doc_string=value.doc, metadata=value.metadata)
        inputs = [self._declared(value, names, remarks) for value in graph.inputs]
        outputs = [self._declared(value, names, remarks) for value in graph.outputs]
        for value in (*graph.inputs, *graph.captures):
            self._note(value, remarks)
        return [
            *wrapped([title, *listed(inputs, "(", ")"), "=>", *listed(outputs, "(", ")")], depth),
            *comments(remarks.below, depth),
            *self._declarations(graph, names, depth, scope.path),
            INDENT * depth + "{",
            *self.op_lines(graph, names, depth + 1, scope.inside(graph, names)),
            INDENT * depth + "}",
        ]

    def op_lines(self, graph: Graph, names: Names, depth: int, scope: Scope) -> Iterator[str]:
        """Yield the lines of all ops of ``graph``; ``scope`` is theirs."""
        for op in in_order(graph):
            yield from self._op(op, names, depth, scope)

    def _declarations(self, graph: Graph, names: Names, depth: int, path: str) -> list[str]:
        """Return the ``<...>`` of a graph: defaults of inputs, constants and, if asked for, intermediate types."""
        entries = [
            self._constant(value.default, names.get(value, value.name), path, without_data=" = {}")
            for value in graph.inputs
            if value.default is not None
        ]
        interface = {*graph.inputs, *graph.outputs}
        for value in graph.values():
            if value.const is not None:
                pieces, remarks = self._constant(value.const, names[value], path)
                self._note(value, remarks)
                entries.append((pieces, remarks))
            elif self.types and value.producer is not None and value.type is not None and value not in interface:
                remarks = Remarks()
                entries.append(([self._declared(value, names, remarks)], remarks))
        return block(entries, depth)

    def _declared(self, value: Value, names: Names, remarks: Remarks) -> str:
        return self.declared(value.type, names.get(value, value.name), remarks)

    def declared(self, type_: Type | None, name: str, remarks: Remarks) -> str:
        """Return ``type name``."""
        if type_ is not None and not can_write_type(type_):
            self.lost.append((f"value {name!r}", "type"))
            remarks.below.append(f"not in this text: type {type_} of {name!r}")
        elif has_denotation(type_):
            self.lost.append((f"value {name!r}", "type denotation"))
        return declaration(type_, name)

    def _constant(self, tensor: Tensor, name: str, path: str, without_data: str = "") -> tuple[list[str], Remarks]:
        """Return a constant's declaration; ``without_data`` stands in place of data that is left out."""
        remarks = Remarks()
        declared = declaration(tensor_type(tensor), name)
        literals = self._literals(tensor, path + name, "", remarks)
        if literals is None:
            return [declared + without_data], remarks
        return listed(literals, f"{declared} = {{", "}"), remarks

    def _literals(self, tensor: Tensor, key: str, called: str, remarks: Remarks) -> list[str] | None:
        """Return the numbers of a tensor, or None when they are to be left out; a comment says what they are."""
        literals = tensor_literals(tensor, self.max_elements)
        if literals is None:
            self.elided[free_key(key, self.elided)] = tensor
            if self.summaries:
                remarks.behind.append(called + summary(tensor))
            return None
        self.lose(f"constant {key!r}", doc_string=tensor.doc, metadata=tensor.metadata)
        if literals and is_written_as_bits(tensor):
            remarks.behind.append(called + plain_numbers(tensor))
        return literals

    # ---------------------------------------------------------------- ops

    def _op(self, op: Op, names: Names, depth: int, scope: Scope) -> list[str]:
        remarks = Remarks()
        self.lose(f"op {op.label!r}", doc_string=op.doc, metadata=op.metadata, device_configuration=op.devices)
        inside = scope.within(op_key((names.get(value, value.name) for value in op.outputs), op.name))
        pieces = self.op_pieces(op, names, inside.path, remarks)
        self._note(op, remarks)
        for value in op.outputs:
            self._note(value, remarks)
        bodies = [self._body(op, name, depth + 1, inside, remarks) for name in writable_bodies(op)]
        if not bodies:
            return remarks.at(wrapped(pieces, depth), depth)
        inner = [line for body in bodies[:-1] for line in (*body[:-1], body[-1] + ",")]
        return [*wrapped(pieces, depth), *inner, *bodies[-1], *remarks.at([INDENT * depth + ">"], depth)]

    def _body(self, op: Op, name: str, depth: int, scope: Scope, remarks: Remarks) -> list[str]:
        body = op.bodies[name]
        title = body.name if is_body_name(body.name) else word_like(body.name)
        if title != body.name:
            self._miss(op, f"name {body.name!r} of graph {name!r}", "name of a body", remarks)
        return self.graph_lines(body, f"{name} = {title}", depth, scope.within(name))

    def op_pieces(self, op: Op, names: Names, path: str, remarks: Remarks) -> list[str]:
        """Return an op, up to its bodies if it has any, as pieces between which a line may be broken."""
        attrs = joined(
            self.attribute(f"attribute {name!r} of op {op.label!r}", name, attr, path, remarks)
            for name, attr in op.attrs.items()
        )
        read = ["" if value is None else names.get(value, value.name) for value in op.inputs]
        inputs = listed(map(quote_name, read), "(", ")")
        head = [f"[{quote_name(op.name)}]"] if op.name else []
        head += joined([quote_name(names.get(value, value.name))] for value in op.outputs)
        head += ["=", self._operator(op, remarks)]
        for name in op.bodies:
            if not is_word(name):
                self._miss(op, f"graph {name!r}", "list of graphs", remarks)
        if writable_bodies(op):
            return [*head, *inputs, *enclosed(attrs, "<", "," if attrs else "")]
        return [*head, *(enclosed(attrs, "<", ">") if attrs else []), *inputs]

    def attribute(self, place: str, name: str, attr: Attribute, path: str, remarks: Remarks) -> list[str]:
        """Return ``name = value`` in pieces, none when the syntax cannot say it."""
        self.lose(place, doc_string=attr.doc)
        try:
            tensor = attribute_tensor(name, attr)
            if tensor is not None:
                return self._tensor_attribute(place, name, tensor, path, remarks)
            pieces = attribute_pieces(name, attr)
        except (TypeError, ValueError, AttributeError):  # a broken graph: the value is not of its type
            pieces = None
        if pieces is None:
            self.lost.append((place, "attribute"))
            remarks.below.append(f"not in this text: attribute {name!r} of type {attr.type.name}")
        return pieces or []

    def _tensor_attribute(self, place: str, name: str, tensor: Tensor, path: str, remarks: Remarks) -> list[str]:
        called = tensor.name
        if called and not is_word(called):
            self.lose(place, name_of_a_tensor=called)
            called = ""
        literals = self._literals(tensor, path + name, f"{name}: ", remarks)
        return listed(literals or (), f"{name} = {tensor_type(tensor)} {called}".rstrip() + " {", "}")

    def _operator(self, op: Op, remarks: Remarks) -> str:
        """Return domain, kind and overload, which must be identifiers."""
        kind = op.kind if is_word(op.kind) else word_like(op.kind)
        domain = op.domain if is_dotted(op.domain) else dotted_like(op.domain)
        overload = op.overload if is_word(op.overload or "_") else word_like(op.overload)
        if (kind, domain, overload) != (op.kind, op.domain, op.overload):
            found = ":".join(filter(None, (op.domain, op.kind, op.overload)))
            self._miss(op, f"operator {found!r}", "name of an operator", remarks)
        return f"{domain}.{kind}".removeprefix(".") + f":{overload}".removesuffix(":")

    # ---------------------------------------------------------------- what cannot be said

    def lose(self, place: str, **things: object) -> None:
        """Note those of ``things`` that are there, but have no place in the syntax."""
        self.lost += [(place, what.replace("_", " ")) for what, thing in things.items() if thing]

    def _miss(self, op: Op, text: str, what: str, remarks: Remarks) -> None:
        self.lost.append((f"op {op.label!r}", what))
        remarks.below.append(f"not in this text: {text}")

    def _note(self, key: Value | Op, remarks: Remarks) -> None:
        if key in self.notes:
            about = f"{key.name}: " if isinstance(key, Value) else ""
            remarks.below.append(f"^ {about}{self.notes[key]}")


def in_order(graph: Graph) -> tuple[Op, ...]:
    """Return the ops in order of dependency, in order of insertion if there is a cycle."""
    try:
        return graph.ops()
    except ValueError:
        return tuple(node for node in graph.nx if isinstance(node, Op))


def writable_bodies(op: Op) -> dict[str, Graph]:
    """Return the bodies that the syntax can hold: those that are no part of a list."""
    return {name: body for name, body in op.bodies.items() if is_word(name)}


def _free_name(name: str, taken: frozenset[str], own: set[str]) -> str:
    if not name or name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken or f"{name}_{number}" in own:
        number += 1
    return f"{name}_{number}"
