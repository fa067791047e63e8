"""Rewrite rules: a pattern of nested calls, a function that builds the replacement or says why not, and the driver.

Patterns are anchored at their root op and indexed by its kind, so an attempt costs O(pattern). A rule is a function
named as a sentence::

    @rule(op("Relu", op("Relu", any_value("x"))))
    def collapse_double_relu(m: Match) -> Value:
        \"\"\"Relu(Relu(x)) = Relu(x).\"\"\"
        return m.add("Relu", [m["x"]])

Bodies of control-flow ops are rewritten too; a pattern never reaches across the border of a body.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp.passes import Context

_MAX_SWEEPS: Final = 64


@dataclass(frozen=True, slots=True)
class AnyValue:
    """Matches any value; the same name twice must be the same value."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """Matches a value whose data is fixed; see :meth:`nncomp.ir.Graph.constant`.

    Attributes:
        name: binding.
        value: if given, the constant must have one element, within 1e-4 relative of this (exporters round constants
            such as sqrt(2) to various lengths).
    """

    name: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class OptionalInput:
    """Matches an input that is not given (bound to None), or what ``inner`` matches."""

    inner: AnyValue | Const | OpPattern


@dataclass(frozen=True, slots=True)
class OpPattern:
    """Matches a value computed by an op.

    Attributes:
        kinds: alternatives.
        inputs: one pattern an input; the op may have more inputs only if ``open_ended``.
        bind: name under which :meth:`Match.op` finds the op.
        domain: operator domain.
        attrs: attributes that must have these values (defaults are not filled in).
        commutative: try the two inputs in either order.
        single_use: nobody else reads the value, and it is no graph output.
        open_ended: further inputs are allowed.
    """

    kinds: tuple[str, ...]
    inputs: tuple[Pattern, ...]
    bind: str = ""
    domain: str = ""
    attrs: Mapping[str, object] = field(default_factory=dict)
    commutative: bool = False
    single_use: bool = False
    open_ended: bool = False


Pattern: TypeAlias = AnyValue | Const | OptionalInput | OpPattern


def any_value(name: str) -> AnyValue:
    """Match any value."""
    return AnyValue(name)


def const(name: str, value: float | None = None) -> Const:
    """Match a constant; with ``value``, a one-element constant of about that value."""
    return Const(name, value)


def optional(inner: AnyValue | Const | OpPattern) -> OptionalInput:
    """Match an optional input."""
    return OptionalInput(inner)


def op(
    kinds: str,
    *inputs: Pattern,
    bind: str = "",
    domain: str = "",
    attrs: Mapping[str, object] | None = None,
    commutative: bool = False,
    single_use: bool = False,
    open_ended: bool = False,
) -> OpPattern:
    """Match an op; ``kinds`` may hold alternatives, as in ``"Add|Mul"``. See :class:`OpPattern`."""
    return OpPattern(
        tuple(kinds.split("|")), inputs, bind, domain, dict(attrs or {}), commutative, single_use, open_ended
    )


class Rejection(Exception):  # noqa: N818  not an error: a rule's way to decline
    """Raised by a rule that matched and declines; the text says why, in words that ``--explain`` shows."""


@dataclass
class Match:
    """What a pattern matched, and the tools to build its replacement.

    Attributes:
        graph: the graph (or body) that is rewritten.
        ctx: the pass's context.
        root: the op that the pattern is anchored at.
    """

    graph: Graph
    ctx: Context
    root: Op
    values: dict[str, Value | None] = field(default_factory=dict)
    ops: dict[str, Op] = field(default_factory=dict)
    added: list[Op] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)

    def __getitem__(self, name: str) -> Value:
        value = self.values[name]
        if value is None:
            raise KeyError(f"{name!r} is an optional input that is not given: use get()")
        return value

    def get(self, name: str) -> Value | None:
        """Return a binding that may be an input not given."""
        return self.values.get(name)

    def op(self, name: str) -> Op:
        """Return the op bound to ``name``."""
        return self.ops[name]

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return a bound constant's data, read-only."""
        array = self.graph.array(self.values[name])
        if array is None:
            raise KeyError(f"{name!r} is not constant")
        return array

    def reject(self, reason: str) -> Rejection:
        """Return what a rule raises to decline."""
        return Rejection(reason)

    def add(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        *,
        attrs: Mapping[str, object] | None = None,
        domain: str = "",
        like: Op | None = None,
    ) -> Value:
        """Add an op with one output, named after ``like`` (default: the root); return the output."""
        like = like or self.root
        hint = f"{self.root.output.name}_{kind.lower()}"
        added = self.graph.add_op(kind, inputs, [hint], attrs=attrs, domain=domain, like=like)
        self.added.append(added)
        return added.output

    def constant(self, like: str, data: npt.NDArray[Any]) -> Value:
        """Add a constant named after the binding ``like``, or after ``like`` itself."""
        origin = self.values.get(like)
        array = np.asarray(data, order="C")  # ascontiguousarray would make a scalar a vector
        array.flags.writeable = False
        added = self.graph.add_constant(origin.name if origin is not None else like, array)
        self.constants.append(added)
        return added

    def require_forwardable(self, value: Value) -> Value:
        """Return ``value``, or decline if the root's output cannot simply be replaced by it.

        A graph output must be computed by an op of its own: an input, a constant or another output cannot carry it.
        """
        if self.graph.is_output(self.root.output) and (value.producer is None or self.graph.is_output(value)):
            raise Rejection("the graph interface needs this name")
        return value


Rewrite: TypeAlias = Callable[[Match], Value | tuple[Value | None, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what replaces it."""

    name: str
    pattern: OpPattern
    apply: Rewrite
    doc: str = ""


def rule(*patterns: OpPattern) -> Callable[[Rewrite], tuple[Rule, ...]]:
    """Make rules of a function: one a pattern. Its name, with dashes, is the rule's."""

    def decorate(function: Rewrite) -> tuple[Rule, ...]:
        name = function.__name__.replace("_", "-")
        return tuple(Rule(name, pattern, function, (function.__doc__ or "").strip()) for pattern in patterns)

    return decorate


def rewrite(graph: Graph, rules: Sequence[tuple[Rule, ...]], ctx: Context) -> int:
    """Apply rules to ``graph`` and its bodies until none fires; note what fired and what declined.

    Each sweep is linear in ops times the rules for their kind.

    Returns:
        How often a rule fired.
    """
    index: dict[str, list[Rule]] = defaultdict(list)
    for group in rules:
        for one in group:
            for kind in one.pattern.kinds:
                index[kind].append(one)
    total = 0
    for part in list(graph.graphs()):
        for _ in range(_MAX_SWEEPS):
            declined: dict[tuple[str, str], str] = {}
            fired = _sweep(part, index, ctx, declined)
            total += fired
            if not fired:
                break
        else:
            ctx.note("warning", "rewrite", reason=f"rules still fire after {_MAX_SWEEPS} sweeps of {part.name!r}")
        for (name, label), reason in declined.items():
            ctx.note("declined", name, node=label, reason=reason)
    return total


def matches(graph: Graph, pattern: OpPattern, root: Op, ctx: Context) -> Match | None:
    """Return the first way in which ``pattern`` matches at ``root``."""
    if root.kind not in pattern.kinds or root.domain != pattern.domain:
        return None
    start = Match(graph, ctx, root)
    return next(_match_op(start, pattern, root), None)


def _sweep(graph: Graph, index: Mapping[str, list[Rule]], ctx: Context, declined: dict[tuple[str, str], str]) -> int:
    fired = 0
    for root in graph.ops():
        for one in index.get(root.kind, ()):
            if root not in graph:
                break
            match = matches(graph, one.pattern, root, ctx)
            if match is None:
                continue
            label = root.label
            try:
                result = one.apply(match)
            except Rejection as reason:
                for added in reversed(match.added):
                    graph.remove_unused(added.outputs)
                graph.remove_unused(match.constants)
                declined[one.name, label] = str(reason)
                continue
            _substitute(match, result if isinstance(result, tuple) else (result,))
            ctx.note("fired", one.name, node=label)
            fired += 1
            break
    return fired


def _substitute(match: Match, results: tuple[Value | None, ...]) -> None:
    graph, root = match.graph, match.root
    names = []
    for old, new in zip(root.outputs, results, strict=False):
        if new is None:
            continue
        names.append((old.name, new))
        if new.type is None:
            graph.set_type(new, old.type)
        graph.replace_uses(old, new)
    graph.remove_unused(root.outputs)
    # A replacement keeps the name of what it replaces, so that values stay traceable through passes.
    fresh = {value for added in match.added if added in graph for value in added.outputs}
    for name, new in names:
        if new in fresh and not graph.is_output(new) and graph.fresh_name(name) == name:
            graph.rename(new, name)


def _match(match: Match, pattern: Pattern, value: Value | None) -> Iterator[Match]:
    if isinstance(pattern, OptionalInput):
        if value is None:
            yield _unbound(match, pattern.inner)
            return
        pattern = pattern.inner
    if value is None:
        return
    if isinstance(pattern, OpPattern):
        producer = value.producer
        if producer is None or value.index != 0 or producer.kind not in pattern.kinds:
            return
        if producer.domain != pattern.domain or (pattern.single_use and not match.graph.single_use(value)):
            return
        yield from _match_op(match, pattern, producer)
        return
    if isinstance(pattern, Const) and not _is_constant(match.graph, value, pattern):
        return
    bound = match.values.get(pattern.name)
    if bound is None:
        yield replace(match, values=match.values | {pattern.name: value})
    elif bound is value:
        yield match


def _match_op(match: Match, pattern: OpPattern, found: Op) -> Iterator[Match]:
    if len(found.inputs) > len(pattern.inputs) and not pattern.open_ended:
        return
    if any(found.attr(name) != expected for name, expected in pattern.attrs.items()):
        return
    if pattern.bind:
        match = replace(match, ops=match.ops | {pattern.bind: found})
    orders = [pattern.inputs]
    if pattern.commutative and len(pattern.inputs) == 2:
        orders.append(pattern.inputs[::-1])
    for inputs in orders:
        yield from _match_inputs(match, inputs, found, 0)


def _match_inputs(match: Match, inputs: tuple[Pattern, ...], found: Op, slot: int) -> Iterator[Match]:
    if slot == len(inputs):
        yield match
        return
    for extended in _match(match, inputs[slot], found.input(slot)):
        yield from _match_inputs(extended, inputs, found, slot + 1)


def _unbound(match: Match, pattern: Pattern) -> Match:
    if isinstance(pattern, AnyValue | Const):
        return replace(match, values=match.values | {pattern.name: None})
    return match


def _is_constant(graph: Graph, value: Value, pattern: Const) -> bool:
    tensor = graph.constant(value)
    if tensor is None:
        return False
    if pattern.value is None:
        return True
    if tensor.size != 1 or not tensor.dtype.is_floating_point():
        return False
    number = float(np.asarray(tensor.numpy()).reshape(-1)[0])
    return bool(np.isclose(number, pattern.value, rtol=1e-4, atol=0))
