"""Types that hold on every run: derived from the graph inputs and the constants alone.

What a file says about values inside (``value_info``, declared outputs, inputs of loop bodies) may be wrong: many tools make the
batch dynamic and leave ``[1, ...]`` behind, and ONNX Runtime runs such models. A rewrite that trusts it would compute
something else for another batch. Two dimensions with one symbol are one size; so says the model of its own inputs, and
inference of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, Shape, TensorType, Value
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


def proven_types(graph: Graph, ops: OpTable) -> Proven:
    """Derive the types of all values of a model's own graph and its bodies. Linear in ops."""
    bare, mapping = graph.clone_with_map()
    _forget(bare)
    # onnx stops at an op that it does not know; the table's rules carry it over, and it goes on from there.
    for _ in range(_MAX_ROUNDS):
        version = bare.version
        infer_types(bare, ops)
        if bare.version == version or all(op.domain == "" for _, op in bare.walk()):
            break
    return Proven(
        {
            value: twin.type
            for value, twin in mapping.items()
            if isinstance(twin, Value) and isinstance(twin.type, TensorType)
        }
    )


def source_of(graph: Graph, value: Value) -> Value:
    """Return the value that ``value`` stands for, if it is a capture: the same one inside and outside."""
    around: Graph | None = graph
    while around is not None and value in around.captures:
        value, around = around.captures[value], around.parent
    return value


def _forget(graph: Graph) -> None:
    for part in graph.graphs():
        for value in part.values():
            inside = part.owner is not None and value.const is None
            if value.producer is not None or inside:
                part.set_type(value, None)


@dataclass
class ProvenContext(Context):
    """A pass's context for rules that ask for proven types."""

    proven: Proven = field(default_factory=lambda: Proven({}))

    @classmethod
    def of(cls, graph: Graph, ctx: Context) -> ProvenContext:
        """Return ``ctx``, whose notes it shares, with the types of ``graph`` as it is now."""
        shared = {item.name: getattr(ctx, item.name) for item in fields(Context)}
        return cls(**shared, proven=proven_types(graph, ctx.ops))


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
