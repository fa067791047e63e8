"""Comparison of two graphs: what is matched is compared part by part, what is not was added or removed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

import numpy as np

from nncomp.diff.changes import Change, ConstantChange, GraphDiff, OpChange
from nncomp.diff.matching import Matching, kind_of, match
from nncomp.diff.weights import weight_changes
from nncomp.ir import Attribute, Graph, Op, Tensor, Value
from nncomp.ir.types import quote_name
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp.text import attribute_text, digest, op_line
from nncomp.text.digest import numbers, summary
from nncomp.text.graphs import in_order
from nncomp.text.literals import tensor_type
from nncomp.text.syntax import declaration

Item = TypeVar("Item")

_MODEL_TEXTS: Final = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc")


def diff(a: Graph, b: Graph) -> GraphDiff:
    """Return what differs between ``a`` and ``b``; linear in ops, and in the data of constants that are not shared.

    Types, doc strings and metadata of values are no difference, nor is the order of ops that allows several.
    """
    return _diff(a, b, None)


def _diff(a: Graph, b: Graph, outer: Matching | None) -> GraphDiff:
    found = match(a, b, outer)
    partners = set(found.values.values())
    old_ops = set(found.ops.values())
    constants = ((found.values[value], value) for value in b.constants() if value in found.values)
    changed_constants = (_constant_change(old, new) for old, new in constants)
    changed_ops = (_op_change(found.ops[op], op, found) for op in in_order(b) if op in found.ops)
    return GraphDiff(
        header=tuple(_header(a, b)),
        interface=tuple(_interface(a, b)),
        constants_removed=tuple(_constant_line(value) for value in a.constants() if value not in partners),
        constants_added=tuple(_constant_line(value) for value in b.constants() if value not in found.values),
        constants_changed=tuple(change for change in changed_constants if change is not None),
        ops_removed=tuple(op_line(op) for op in in_order(a) if op not in old_ops),
        ops_added=tuple(op_line(op) for op in in_order(b) if op not in found.ops),
        ops_changed=tuple(change for change in changed_ops if change is not None),
        weights_changed=tuple(weight_changes(a, b, found)),
    )


# -------------------------------------------------------------------- header and interface


def _header(a: Graph, b: Graph) -> Iterator[Change]:
    if a.owner is None and b.owner is None:
        for name in _MODEL_TEXTS:
            yield from _change(name, _text(getattr(a.info, name)), _text(getattr(b.info, name)))
        yield from _changes("opset of", a.opsets, b.opsets, str)
        yield from _changes("metadata", a.info.metadata, b.info.metadata, repr)
        yield from _changes("function", _functions(a), _functions(b), _bytes_digest)
        for name in ("training_info", "configuration"):
            yield from _change(name, _joined_digest(getattr(a.info, name)), _joined_digest(getattr(b.info, name)))
    yield from _change("graph name", _text(a.name), _text(b.name))
    yield from _change("graph doc", _text(a.doc), _text(b.doc))
    yield from _changes("graph metadata", a.metadata, b.metadata, repr)
    annotations = _joined_digest(a.quantization_annotations), _joined_digest(b.quantization_annotations)
    yield from _change("quantization annotations", *annotations)


def _interface(a: Graph, b: Graph) -> Iterator[Change]:
    for what, before, after in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        old = {value.name: str(value.type) for value in before}
        new = {value.name: str(value.type) for value in after}
        yield from _changes(what, old, new, str)
        names = [value.name for value in before], [value.name for value in after]
        if names[0] != names[1] and old.keys() == new.keys():
            yield Change(f"order of {what}s", ", ".join(names[0]), ", ".join(names[1]))
    yield from _changes(
        "default of input", _defaults(a), _defaults(b), lambda tensor: f"{tensor_type(tensor)} {summary(tensor)}"
    )


def _defaults(graph: Graph) -> dict[str, Tensor]:
    return {value.name: value.default for value in graph.inputs if value.default is not None}


def _functions(graph: Graph) -> dict[str, bytes]:
    return {":".join(filter(None, (".".join(key[:2]), key[2]))): data for key, data in graph.info.functions.items()}


# -------------------------------------------------------------------- constants


def _constant_line(value: Value) -> str:
    assert value.const is not None
    return f"constant {declaration(tensor_type(value.const), value.name)}  # {summary(value.const)}"


def _constant_change(old: Value, new: Value) -> ConstantChange | None:
    before, after = old.const, new.const
    assert before is not None
    assert after is not None
    changes = [*_change("name", old.name, new.name)]
    distance: tuple[float | None, float | None] = None, None
    if before is not after:
        changes += _change("type", str(tensor_type(before)), str(tensor_type(after)))
        if digest(before) != digest(after):
            changes += _change("data", summary(before), summary(after))
            distance = _distance(before, after)
    return ConstantChange(new.name, tuple(changes), *distance) if changes else None


def _distance(before: Tensor, after: Tensor) -> tuple[float | None, float | None]:
    """Return largest absolute difference and SQNR in dB, see :class:`ConstantChange`."""
    if not (before.dtype.is_floating_point() and after.dtype.is_floating_point()):
        return None, None
    a, b = numbers(before), numbers(after)
    if a is None or b is None or a.shape != b.shape:
        return None, None
    finite = np.isfinite(a) & np.isfinite(b)
    signal = np.asarray(a[finite], np.float64)
    noise = signal - b[finite]
    if noise.size == 0:
        return None, None
    powers = float(signal @ signal), float(noise @ noise)
    return float(np.abs(noise).max()), 10 * math.log10(powers[0] / powers[1]) if all(powers) else None


# -------------------------------------------------------------------- ops


def _op_change(old: Op, new: Op, found: Matching) -> OpChange | None:
    changes = [
        *_change("operator", kind_of(old), kind_of(new)),
        *_change("name", _text(old.name), _text(new.name)),
        *_change("outputs", _names(old.outputs), _names(new.outputs)),
        *_inputs(old, new, found),
        *_attributes(old, new),
        *_change("doc", _text(old.doc), _text(new.doc)),
        *_changes("metadata", old.metadata, new.metadata, repr),
        *_change("device configuration", _joined_digest(old.devices), _joined_digest(new.devices)),
        *_changes("graph", _only(old.bodies, new.bodies), _only(new.bodies, old.bodies), lambda body: repr(body.name)),
    ]
    shared = ((name, _diff(old.bodies[name], body, found)) for name, body in new.bodies.items() if name in old.bodies)
    bodies = {name: inner for name, inner in shared if not inner.is_empty}
    return OpChange(op_line(new), tuple(changes), bodies) if changes or bodies else None


def _inputs(old: Op, new: Op, found: Matching) -> Iterator[Change]:
    read = tuple(None if value is None else found.values.get(value) for value in new.inputs)
    unmatched = any(value is not None and value not in found.values for value in new.inputs)
    if unmatched or read != old.inputs:
        yield Change("inputs", _names(old.inputs), _names(new.inputs))


def _attributes(old: Op, new: Op) -> Iterator[Change]:
    for name in {**old.attrs, **new.attrs}:
        before, after = old.attrs.get(name), new.attrs.get(name)
        if before is after or (before and after and _attribute_bytes(before) == _attribute_bytes(after)):
            continue
        texts = [None if attr is None else attribute_text(name, attr) for attr in (before, after)]
        yield Change(f"attribute {name}", *texts)


def _attribute_bytes(attr: Attribute) -> bytes:
    data: bytes = attribute_to_proto("", attr).SerializeToString(deterministic=True)
    return data


def _only(bodies: Mapping[str, Graph], others: Mapping[str, Graph]) -> dict[str, Graph]:
    return {name: body for name, body in bodies.items() if name not in others}


# -------------------------------------------------------------------- single changes


def _change(what: str, before: str | None, after: str | None) -> Iterator[Change]:
    if before != after:
        yield Change(what, before, after)


def _changes(
    what: str, before: Mapping[str, Item], after: Mapping[str, Item], text: Callable[[Item], str]
) -> Iterator[Change]:
    """Yield a change for each key whose text differs."""
    for key in {**before, **after}:
        old = text(before[key]) if key in before else None
        new = text(after[key]) if key in after else None
        yield from _change(f"{what} {quote_name(key)}", old, new)


def _text(value: object) -> str | None:
    return repr(value) if value else None


def _names(values: Iterable[Value | None]) -> str:
    return f"({', '.join('' if value is None else value.name for value in values)})"


def _bytes_digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:12]}"


def _joined_digest(items: tuple[bytes, ...]) -> str | None:
    return _bytes_digest(b"".join(items)) if items else None
