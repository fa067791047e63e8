"""ONNX text syntax -> Graph: onnx's parser reads, the data of large constants comes from beside the text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from nncomp.errors import UsageError, Where
from nncomp.ir import ArrayTensor, DataType, Graph, Tensor, TensorType, Type, string_tensor
from nncomp.onnx_io import graph_from_proto
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.tensors import tensor_from_proto, tensor_to_proto
from nncomp.onnx_io.types import type_from_proto
from nncomp.text.keys import free_key, op_key
from nncomp.text.lexer import declared_names
from nncomp.text.literals import tensor_type
from nncomp.text.syntax import can_write_text

Fill: TypeAlias = Callable[[str, TensorType], Tensor | npt.NDArray[Any]]
"""Makes the data of a constant of a given key and type."""

_PLACE: Final = re.compile(r"\(line: (\d+) column: (\d+)\)")
_SIGNED: Final = (DataType.INT4, DataType.INT2)
_NARROW: Final = (*_SIGNED, DataType.UINT4, DataType.UINT2)
_DATA_FIELDS: Final = ("int32_data", "int64_data", "uint64_data", "float_data", "double_data", "string_data")


def parse_graph(
    text: str,
    *,
    constants: Mapping[str, Tensor | npt.NDArray[Any]] | None = None,
    fill: Fill | None = None,
) -> Graph:
    """Return the graph that ``text`` says.

    A name in a graph's ``<...>`` that no op produces is a constant without data, as is ``name = {}`` where the shape
    has elements; its data comes from elsewhere.

    Args:
        text: ONNX text syntax with model header, as :func:`nncomp.text.print_graph` writes it.
        constants: Data by key, as :func:`nncomp.text.constants_of` gives it.
        fill: Makes what ``constants`` lacks.

    Raises:
        UsageError: the syntax is wrong, or data is missing or of another type than declared (NNC-R021).
        ModelError: the model is invalid (NNC-M0xx).
    """
    model = _read(text)
    sidecar = _Sidecar(constants or {}, fill)
    declared = declared_names(text)
    _Filler(sidecar, declared).fill_graph(model.graph, "", ())
    for function in model.functions:
        _Filler(sidecar, declared, inline=True).fill_function(function)
    return graph_from_proto(model, sidecar)


def _read(text: str) -> ModelProto:
    if not can_write_text(text):
        line = next(number for number, line in enumerate(text.split("\n"), start=1) if not can_write_text(line))
        raise UsageError(f"graph text, line {line}: NUL or half a surrogate pair", where=Where(line=line))
    try:
        return onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise _syntax_error(error) from None
    except (IndexError, ValueError, RuntimeError) as error:  # std::stoll and onnx's own number parser
        raise UsageError(f"graph text holds a number that is malformed or out of range: {error}") from None


def _syntax_error(error: onnx.parser.ParseError) -> UsageError:
    said = error.args[0]
    place, _, reason = (said.decode(errors="replace") if isinstance(said, bytes) else str(said)).partition("\n")
    context, _, reason = reason.partition("\n")
    line, column = map(int, match.groups()) if (match := _PLACE.search(place)) else (0, 0)
    reason = reason.strip().rstrip(".")
    return UsageError(
        f"graph text, line {line}, column {column}: {reason[:1].lower()}{reason[1:]}",
        where=Where(line=line),
        hint=context.removeprefix("Error context: ").strip(),
    )


class _Sidecar(ExternalFiles):
    """Gives a text's constants their data; to the reader they look like external data."""

    def __init__(self, constants: Mapping[str, Tensor | npt.NDArray[Any]], fill: Fill | None) -> None:
        super().__init__()
        self.constants = constants
        self.fill = fill
        self.found: dict[str, Tensor] = {}

    def tensor(self, proto: TensorProto, dtype: DataType, dims: tuple[int, ...]) -> Tensor:
        """Return the data that :meth:`claim` found for ``proto``."""
        location = next((entry.value for entry in proto.external_data if entry.key == "location"), "")
        found = self.found.get(location)
        return super().tensor(proto, dtype, dims) if found is None else found

    def claim(self, key: str, name: str, type_: Type | None) -> TensorProto:
        """Return a constant's message, which refers to its data.

        Raises:
            UsageError: there is no data, or it is of another type.
        """
        key = free_key(key, self.found)
        tensor = self._data(key, name, type_)
        found = tensor_type(tensor)
        if type_ is not None and not _fits(found, type_):
            raise UsageError(f"constant {key!r} is declared {type_}, but its data is {found}", where=Where(tensor=key))
        self.found[key] = tensor
        proto = TensorProto(name=name, data_type=found.dtype.value, dims=found.static_shape)
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value=key)
        return proto

    def _data(self, key: str, name: str, type_: Type | None) -> Tensor:
        if key in self.constants:
            return _as_tensor(self.constants[key], name)
        if self.fill is None:
            raise UsageError(
                f"constant {key!r} is declared without data",
                where=Where(tensor=key),
                hint=f"pass it as constants[{key!r}]; constants_of(graph) gives what print_graph leaves out",
            )
        if not isinstance(type_, TensorType) or type_.static_shape is None:
            raise UsageError(f"constant {key!r} is declared {type_}, expected a static shape", where=Where(tensor=key))
        return _as_tensor(self.fill(key, type_), name)


class _Filler:
    """Finds what is declared without data, graph by graph in the order of the text.

    Args:
        sidecar: Where data comes from.
        declared: For each graph and function to come, the names that it declares, in order.
        inline: Write all data into the messages, as raw bytes: functions are kept as messages.
    """

    def __init__(self, sidecar: _Sidecar, declared: Iterator[list[str]], *, inline: bool = False) -> None:
        self.sidecar = sidecar
        self.declared = declared
        self.inline = inline

    def fill_graph(self, graph: GraphProto, path: str, outer: tuple[set[str], ...]) -> None:
        """Put references to data where it is missing, and constants in the order of the text."""
        order = {name: number for number, name in enumerate(next(self.declared, []))}
        known = {name for node in graph.node for name in node.output} | {item.name for item in graph.input}
        entries: list[tuple[str, TensorProto | None, Type | None]]
        entries = [(given.name, given, _type_of(given)) for given in graph.initializer]
        typed = list(graph.value_info)
        constants = [item for item in typed if not any(item.name in names for names in (known, *outer))]
        entries += [(item.name, None, type_from_proto(item.type)) for item in constants]
        entries.sort(key=lambda entry: order.get(entry[0], -1))
        filled = [self._filled(path + name, name, type_, given) for name, given, type_ in entries]
        del graph.initializer[:]
        graph.initializer.extend(filled)
        del graph.value_info[:]
        graph.value_info.extend(item for item in typed if item.name in known)
        inside = (known | {name for name, _, _ in entries}, *outer)
        self._fill_nodes(graph.node, path, inside)

    def fill_function(self, function: FunctionProto) -> None:
        """Put in data where it is missing."""
        next(self.declared, None)
        path = f"{function.domain}.{function.name}/"
        self._fill_attributes(function.attribute_proto, path, ())
        known = {name for node in function.node for name in node.output} | set(function.input)
        self._fill_nodes(function.node, path, (known,))

    def _fill_nodes(self, nodes: Iterable[NodeProto], path: str, outer: tuple[set[str], ...]) -> None:
        for node in nodes:
            if not node.domain:
                node.ClearField("domain")  # the parser sets it to "", a file leaves it out
            self._fill_attributes(node.attribute, f"{path}{op_key(node.output, node.name)}/", outer)

    def _fill_attributes(self, attributes: Iterable[AttributeProto], path: str, outer: tuple[set[str], ...]) -> None:
        for attr in attributes:
            if attr.type == AttributeProto.GRAPH:
                self.fill_graph(attr.g, f"{path}{attr.name}/", outer)
            elif attr.type == AttributeProto.TENSOR and not attr.ref_attr_name:
                attr.t.CopyFrom(self._filled(path + attr.name, attr.t.name, _type_of(attr.t), attr.t))

    def _filled(self, key: str, name: str, type_: Type | None, given: TensorProto | None) -> TensorProto:
        proto = self.sidecar.claim(key, name, type_) if given is None or _lacks_data(given) else _packed(given, key)
        return tensor_to_proto(tensor_from_proto(proto, self.sidecar), name) if self.inline else proto


def _lacks_data(tensor: TensorProto) -> bool:
    """True for ``type name = {}`` of a shape that has elements."""
    if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) == 0:
        return False
    return not any(len(getattr(tensor, name)) for name in _DATA_FIELDS)


def _packed(tensor: TensorProto, key: str) -> TensorProto:
    """Pack integers narrower than a byte where the text has a number for each element, as a reader writes them.

    The syntax asks for bytes, which :func:`nncomp.text.print_graph` writes, with the numbers in a comment. Where there
    is one element at the most, both are the same.

    Raises:
        UsageError: a number does not fit the type (NNC-R021).
    """
    dtype, numbers = DataType(tensor.data_type), np.array(tensor.int32_data, np.int64)
    if dtype not in _NARROW or numbers.size < 2 or numbers.size != math.prod(tensor.dims):
        return tensor
    low, high = (-(1 << (dtype.bits - 1)), 1 << (dtype.bits - 1)) if dtype in _SIGNED else (0, 1 << dtype.bits)
    outside = numbers[(numbers < low) | (numbers >= high)]
    if outside.size:
        raise UsageError(
            f"constant {key!r} holds {outside[0]}, which is no {dtype.name.lower()}: expected {low} to {high - 1}",
            where=Where(tensor=key),
        )
    return tensor_to_proto(ArrayTensor(numbers.astype(dtype.numpy()).reshape(tensor.dims), dtype), tensor.name)


def _type_of(tensor: TensorProto) -> TensorType:
    return TensorType(DataType(tensor.data_type), tuple(tensor.dims))


def _fits(found: TensorType, declared: Type) -> bool:
    if not isinstance(declared, TensorType) or found.dtype != declared.dtype:
        return False
    if declared.shape is None or found.shape is None:
        return True
    return len(found.shape) == len(declared.shape) and all(
        size == dim or not isinstance(dim, int) for size, dim in zip(found.shape, declared.shape, strict=True)
    )


def _as_tensor(data: Tensor | npt.NDArray[Any], name: str) -> Tensor:
    if not isinstance(data, np.ndarray):
        return data
    if data.dtype.kind not in "USO":
        return ArrayTensor(data, name=name)
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in data.reshape(-1).tolist()]
    return string_tensor(items, data.shape, name=name)
