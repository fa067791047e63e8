"""Graph -> ONNX text syntax: one op a line, result first, large constants as digest and range."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from onnx import FunctionProto, GraphProto, ModelProto, ValueInfoProto

from nncomp.errors import ModelError
from nncomp.ir import Attribute, Graph, ModelInfo, Op, Tensor, Value
from nncomp.ir.types import quote_name, quote_text
from nncomp.onnx_io import graph_from_proto, normal_domain
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.reader import attribute_from_proto
from nncomp.onnx_io.types import type_from_proto
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp.text.graphs import GraphPrinter, Scope
from nncomp.text.syntax import (
    Remarks,
    block,
    can_write_text,
    comments,
    declaration,
    enclosed,
    joined,
    listed,
    wrapped,
    writable,
)

MAX_ELEMENTS: Final = 16
"""Tensors with more elements are declared without their data."""


def print_graph(
    graph: Graph,
    *,
    max_elements: int = MAX_ELEMENTS,
    types: bool = False,
    notes: Mapping[Value | Op, str] | None = None,
) -> str:
    """Return the graph in ONNX's text syntax, which :func:`nncomp.text.parse_graph` reads.

    Never fails, also on a broken graph. A comment names what the syntax has no place for, see :func:`inexpressible`.

    Args:
        graph: Any graph; its model's fields are printed in front.
        max_elements: Tensors with more are declared without data, with digest and range in a comment.
        types: Declare the types of intermediate values, too.
        notes: Comments to print under an op, a constant, or (for an input) under the graph's first line.
    """
    return _text(graph, GraphPrinter(max_elements, types=types, notes=notes or {}))


def constants_of(graph: Graph, *, max_elements: int = MAX_ELEMENTS) -> dict[str, Tensor]:
    """Return the data that :func:`print_graph` leaves out, for :func:`nncomp.text.parse_graph` to put back.

    Keys are the names of the outermost graph's constants; what lies inside an op is at ``op/body/name`` or
    ``op/attribute``, where ``op`` is the name of its first output, and inside a function at ``domain.name/op/...``.
    """
    printer = GraphPrinter(max_elements, types=False, notes={}, summaries=False)
    _text(graph, printer)
    return printer.elided


def inexpressible(graph: Graph) -> tuple[str, ...]:
    """Return what the syntax cannot say of this graph, one line each; if nothing, text and constants are all of it.

    These are doc strings and metadata (the model's own apart), names of operators, domains, attributes and bodies that
    are no identifiers, attributes that are lists of tensors, graphs or types or hold no UTF-8, types without an element
    type, denotations, quantization annotations, training information and device configurations.
    """
    printer = GraphPrinter(MAX_ELEMENTS, types=True, notes={}, summaries=False)
    _text(graph, printer)
    return tuple(f"{place}: {what}" for place, what in printer.lost)


def op_line(op: Op) -> str:
    """Return one op on one line, without its bodies."""
    remarks = Remarks()
    pieces = GraphPrinter(MAX_ELEMENTS, types=False, notes={}).op_pieces(op, {}, "", remarks)
    return writable(remarks.at([" ".join(pieces)], 0)[0])


def attribute_text(name: str, attr: Attribute) -> str:
    """Return what is to the right of the ``=`` of an attribute; its type and digest where the syntax cannot say it."""
    remarks = Remarks()
    pieces = GraphPrinter(MAX_ELEMENTS, types=False, notes={}).attribute("", "_", attr, "", remarks)
    if not pieces:
        data = attribute_to_proto(name, attr).SerializeToString(deterministic=True)
        return f"{attr.type.name} sha256:{hashlib.sha256(data).hexdigest()[:12]}"
    value = " ".join(pieces).partition(" = ")[2]
    return writable(" ".join([value, *(f"# {text.removeprefix('_: ')}" for text in remarks.behind)]))


def _text(graph: Graph, printer: GraphPrinter) -> str:
    info = graph.info
    lines = [
        *_header(info, printer),
        *printer.graph_lines(graph, quote_name(graph.name), 0, Scope()),
        *(line for data in info.functions.values() for line in _function(FunctionProto.FromString(data), printer)),
    ]
    text = "\n".join(lines) + "\n"
    if not can_write_text(text):
        printer.lose("model", **{"name with a character that cannot be written": True})
        text = writable(text)
    counts = Counter(what for _, what in printer.lost)
    lost = ", ".join(f"{what} ({count})" if count > 1 else what for what, count in counts.items())
    return f"# not in this text: {lost}\n{text}" if lost else text


def _header(info: ModelInfo, printer: GraphPrinter) -> list[str]:
    texts = {
        "producer_name": info.producer_name,
        "producer_version": info.producer_version,
        "domain": info.domain,
        "doc_string": info.doc,
    }
    fields = [[f"ir_version: {info.ir_version}"], ["opset_import:", *_opsets(info.opsets)]]
    fields += [[f"{key}: {quote_text(text)}"] for key, text in texts.items() if text]
    if info.model_version:
        fields.append([f"model_version: {info.model_version}"])
    if info.metadata:
        entries = [f"{quote_text(key)}: {quote_text(text)}" for key, text in info.metadata.items()]
        fields.append(["metadata_props:", *listed(entries, "[", "]")])
    printer.lose("model", training_information=info.training_info, device_configuration=info.configuration)
    return wrapped(enclosed(joined(fields), "<", ">"), 0)


def _opsets(opsets: Mapping[str, int]) -> list[str]:
    return listed([f"{quote_text(domain)}: {version}" for domain, version in opsets.items()], "[", "]")


def _function(proto: FunctionProto, printer: GraphPrinter) -> Iterator[str]:
    """Yield the lines of a model-local function; its body is read as a graph so that one printer does for both."""
    place = f"function {proto.name!r}"
    printer.lose(place, metadata=proto.metadata_props)
    remarks = Remarks()
    try:
        graph = _function_graph(proto)
        attrs = [(item.name, attribute_from_proto(item, ExternalFiles(), place)) for item in proto.attribute_proto]
        infos = [_value_info(item, printer, remarks) for item in proto.value_info]
    except ModelError as error:
        printer.lose(place, invalid_function=error)
        yield from comments([f"not in this text: {place}: {error}"], 0)
        return
    path = f"{proto.domain}.{proto.name}"
    defaults = [printer.attribute(place, name, attr, f"{path}/", remarks) for name, attr in attrs]
    parameters = joined([*([quote_name(name)] for name in proto.attribute), *defaults])
    inputs = listed([declaration(None, name) for name in proto.input], "(", ")")
    outputs = listed([declaration(None, name) for name in proto.output], "(", ")")
    names = Scope().names(graph)
    yield from wrapped(enclosed(joined(_function_fields(proto)), "<", ">"), 0)
    yield from remarks.at(
        wrapped(
            [quote_name(proto.name), *(enclosed(parameters, "<", ">") if parameters else []), *inputs, "=>", *outputs],
            0,
        ),
        0,
    )
    if printer.types:
        yield from block([([info], Remarks()) for info in infos], 0)
    yield "{"
    yield from printer.op_lines(graph, names, 1, Scope().within(path).inside(graph, names))
    yield "}"


def _function_fields(proto: FunctionProto) -> Iterator[list[str]]:
    yield [f"domain: {quote_text(proto.domain)}"]
    if proto.overload:
        yield [f"overload: {quote_text(proto.overload)}"]
    if proto.opset_import:
        yield ["opset_import:", *_opsets({item.domain: item.version for item in proto.opset_import})]
    if proto.doc_string:
        yield [f"doc_string: {quote_text(proto.doc_string)}"]


def _function_graph(proto: FunctionProto) -> Graph:
    graph = GraphProto(name=proto.name, node=proto.node)
    graph.input.extend(ValueInfoProto(name=name) for name in proto.input)
    graph.output.extend(ValueInfoProto(name=name) for name in proto.output)
    model = ModelProto(ir_version=10, graph=graph)
    for item in proto.opset_import:
        model.opset_import.add(domain=normal_domain(item.domain), version=item.version)
    if not proto.opset_import:
        model.opset_import.add(version=1)
    return graph_from_proto(model)


def _value_info(item: ValueInfoProto, printer: GraphPrinter, remarks: Remarks) -> str:
    printer.lose(f"value {item.name!r}", doc_string=item.doc_string, metadata=item.metadata_props)
    return printer.declared(type_from_proto(item.type), item.name, remarks)
