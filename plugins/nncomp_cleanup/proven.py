"""Types that hold on every run: derived from the graph inputs and the constants alone.

What a file says about values inside (``value_info``, declared outputs, inputs of loop bodies) may be wrong: many tools
make the batch dynamic and leave ``[1, ...]`` behind, and ONNX Runtime runs such models. A rewrite that trusts it would
compute something else for another batch. Two dimensions with one symbol are one size: so says the model of its own
inputs, and inference of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from nncomp.infer import infer_types, inferred_types
from nncomp.ir import DataType, Graph, Op, Shape, TensorType, Type, Value
from nncomp.ops import OpTable
from nncomp.passes import Context

_MAX_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Proven:
    """Types of the values of a graph and its bodies, as the graph was when they were derived.

    A value that came later has none.
    """

    types: Mapping[Value, TensorType]

    def shape(self, value: Value | None) -> Shape | None:
        """Return the shape of ``value``, None when nothing is proven."""
        type_ = None if value is None else self.types.get(value)
        return None if type_ is None else type_.shape

    def static_shape(self, value: Value | None) -> tuple[int, ...] | None:
        """Return the shape of ``value`` if it is the same on every run."""
        type_ = None if value is None else self.types.get(value)
        return None if type_ is None else type_.static_shape

    def rank(self, value: Value | None) -> int | None:
        """Return the number of axes of ``value``."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def dtype(self, value: Value | None) -> DataType | None:
        """Return the element type of ``value``."""
        type_ = None if value is None else self.types.get(value)
        return None if type_ is None else type_.dtype


def proven_types(graph: Graph, ctx: Context) -> Proven:
    """Derive the types of all values of a model's own graph and its bodies. Linear in ops.

    A :class:`ProvenContext` is asked first; it may know.
    """
    if isinstance(ctx, ProvenContext) and ctx.derived_from == (graph, graph.version):
        return ctx.proven
    known = _with_table_rules(graph, ctx.ops) if any(op.domain for _, op in graph.walk()) else _with_onnx(graph)
    proven = Proven({value: type_ for value, type_ in known.items() if isinstance(type_, TensorType)})
    if isinstance(ctx, ProvenContext):
        ctx.proven, ctx.derived_from = proven, (graph, graph.version)
    return proven


def _with_onnx(graph: Graph) -> dict[Value, Type | None]:
    types: dict[Value, Type | None] = dict(inferred_types(graph, declared=False))
    for part in graph.graphs():
        for value in part.values():
            if value in part.captures:
                types[value] = types.get(part.captures[value])
            elif value.const is not None or (part is graph and value.producer is None):
                types[value] = value.type
    return types


def _with_table_rules(graph: Graph, ops: OpTable) -> dict[Value, Type | None]:
    """Derive on a copy: onnx stops at an op that it does not know, the table's rules carry it over, and it goes on."""
    bare, mapping = graph.clone_with_map()
    for part in bare.graphs():
        for value in part.values():
            if value.producer is not None or (part.owner is not None and value.const is None):
                part.set_type(value, None)
    for _ in range(_MAX_ROUNDS):
        version = bare.version
        infer_types(bare, ops)
        if bare.version == version:
            break
    return {value: twin.type for value, twin in mapping.items() if isinstance(value, Value) and isinstance(twin, Value)}


def source_of(graph: Graph, value: Value) -> Value:
    """Return the value that ``value`` stands for, if it is a capture: the same one inside and outside."""
    around: Graph | None = graph
    while around is not None and value in around.captures:
        value, around = around.captures[value], around.parent
    return value


@dataclass
class ProvenContext(Context):
    """A context for rules that ask for proven types, and for passes that run one behind the other.

    Attributes:
        proven: types of the graph as it was when they were derived.
        derived_from: that graph and its version.
    """

    proven: Proven = field(default_factory=lambda: Proven({}))
    derived_from: tuple[Graph, int] | None = None

    @classmethod
    def of(cls, ctx: Context) -> ProvenContext:
        """Return a context that shares everything with ``ctx``, its notes too."""
        if isinstance(ctx, ProvenContext):
            return ctx
        return cls(**{item.name: getattr(ctx, item.name) for item in fields(Context)})


_MOVES: Final = frozenset(
    {
        "Concat",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def moves_only(op: Op) -> bool:
    """True for ops that put elements elsewhere and round nothing."""
    return op.domain == "" and op.kind in _MOVES


def is_rounded_late(graph: Graph, value: Value) -> bool:
    """True for a float16 value that ONNX Runtime may hold in float32.

    Its CPU kernels for float16 are few. Around the others it converts to float32 and back, and drops conversions that
    meet: whether such a value is rounded to float16 depends on which ops stand next to each other. Taking one away
    that does nothing may then change the bits behind it, so nothing next to a computed float16 value is taken away.
    """
    type_ = value.tensor_type
    if type_ is None or type_.dtype != DataType.FLOAT16:
        return False
    while value.producer is not None:
        first = value.producer.input(0)
        if not moves_only(value.producer) or value.producer.kind == "Concat" or first is None:
            return not value.producer.is_a("Constant")
        value = first
    return value in graph.captures and graph.constant(value) is None
