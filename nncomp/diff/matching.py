"""Which value and which op of one graph is which of another; linear in both."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from nncomp.ir import Graph, Op, Value
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp.text import digest
from nncomp.text.graphs import in_order
from nncomp.text.literals import tensor_type


@dataclass
class Matching:
    """Partners in the first graph of what is in the second, by identity."""

    values: dict[Value, Value] = field(default_factory=dict)
    ops: dict[Op, Op] = field(default_factory=dict)


def match(a: Graph, b: Graph, outer: Matching | None = None) -> Matching:
    """Match what two graphs have in common.

    Inputs are matched by name, in bodies also by position. Constants: by name, then by type and data. Ops: by kind and
    the name of an output, then by kind, attributes and inputs (a renamed op), then by the name of an output alone (an
    op that became another).

    Args:
        a: First graph.
        b: Second graph.
        outer: For bodies, the matching of the graphs around them.
    """
    found = Matching()
    _match_inputs(a, b, outer, found)
    _match_constants(a, b, found)
    free = dict.fromkeys(in_order(a))
    pending = in_order(b)
    pending = _match_by_output(free, pending, found, same_kind=True)
    pending = _match_by_structure(free, pending, found)
    _match_by_output(free, pending, found, same_kind=False)
    return found


def kind_of(op: Op) -> str:
    """Return ``domain.Kind:overload``."""
    return f"{op.domain}.{op.kind}".removeprefix(".") + f":{op.overload}".removesuffix(":")


def _match_inputs(a: Graph, b: Graph, outer: Matching | None, found: Matching) -> None:
    names = {value.name: value for value in a.inputs}
    found.values |= {value: names[value.name] for value in b.inputs if value.name in names}
    if outer is None:
        return
    taken = set(found.values.values())
    rest = (value for value in b.inputs if value not in found.values)
    found.values |= dict(zip(rest, (value for value in a.inputs if value not in taken), strict=False))
    stands_for = {outside: inner for inner, outside in a.captures.items()}
    for inner, outside in b.captures.items():
        partner = outer.values.get(outside)
        if partner in stands_for:
            found.values[inner] = stands_for[partner]


def _match_constants(a: Graph, b: Graph, found: Matching) -> None:
    names = {value.name: value for value in a.constants()}
    rest = [value for value in b.constants() if value.name not in names]
    found.values |= {value: names.pop(value.name) for value in b.constants() if value.name in names}
    if not rest or not names:
        return
    same: defaultdict[Hashable, deque[Value]] = defaultdict(deque)
    for value in names.values():
        same[_content(value)].append(value)
    for value in rest:
        if partners := same.get(_content(value)):
            found.values[value] = partners.popleft()


def _match_by_output(
    free: dict[Op, None], pending: Iterable[Op], found: Matching, *, same_kind: bool
) -> tuple[Op, ...]:
    """Match those of ``pending`` that compute a name which an op of ``free`` computes; return the rest."""
    owners = {value.name: op for op in free for value in op.outputs if value.name}
    rest = []
    for op in pending:
        partners = (owners[value.name] for value in op.outputs if value.name in owners)
        partner = next((p for p in partners if p in free and (not same_kind or kind_of(p) == kind_of(op))), None)
        if partner is None:
            rest.append(op)
        else:
            _pair(free, partner, op, found)
    return tuple(rest)


def _match_by_structure(free: dict[Op, None], pending: Iterable[Op], found: Matching) -> tuple[Op, ...]:
    same: defaultdict[Hashable, deque[Op]] = defaultdict(deque)
    for op in free:
        same[_structure(op, {})].append(op)
    rest = []
    for op in pending:
        if partners := same.get(_structure(op, found.values)):
            _pair(free, partners.popleft(), op, found)
        else:
            rest.append(op)
    return tuple(rest)


def _pair(free: dict[Op, None], old: Op, new: Op, found: Matching) -> None:
    del free[old]
    found.ops[new] = old
    found.values |= {y: x for x, y in zip(old.outputs, new.outputs, strict=False)}


def _content(value: Value) -> Hashable:
    return None if value.const is None else (tensor_type(value.const), digest(value.const))


def _structure(op: Op, partners: Mapping[Value, Value]) -> Hashable:
    attrs = {(name, attribute_to_proto(name, attr).SerializeToString()) for name, attr in op.attrs.items()}
    read = tuple(None if value is None else partners.get(value, value) for value in op.inputs)
    return kind_of(op), frozenset(attrs), read, tuple(op.bodies), len(op.outputs)
