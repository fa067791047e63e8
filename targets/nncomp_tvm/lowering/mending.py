"""Lower a graph, and where an op is refused, say it otherwise and try again.

Three things mend: a smaller opset distance (old models are lifted first), an op said in simpler ones
(:mod:`~nncomp_tvm.lowering.expansion`), and an input that only says sizes, such as the target of a Reshape, taken as it
is in the calibration data, like the sizes of the other inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import networkx as nx
import numpy.typing as npt
import onnx

from nncomp.errors import UnsupportedError, Where
from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, TensorType, Value
from nncomp.ops import OpTable
from nncomp.opset import convert_opset
from nncomp_tvm.lowering.calls import NotLoweredError
from nncomp_tvm.lowering.control_flow import MAX_PINNED
from nncomp_tvm.lowering.expansion import expand
from nncomp_tvm.lowering.importer import Walk
from nncomp_tvm.manifest import Port

Array = npt.NDArray[Any]

OLDEST: Final = 13
"""Opset that older models are lifted to: from here on axes are inputs, and TVM's converters are tested."""

_ROUNDS: Final = 12
_SIZE_SLOTS: Final = frozenset(
    {
        "axes", "axis", "shape", "starts", "ends", "steps", "pads", "repeats", "scales", "sizes", "roi", "k", "K",
        "depth", "split", "output_shape", "image_shape", "block_shape", "size", "start", "limit", "delta", "dft_length",
        "frame_step", "frame_length", "M", "cond", "constant_value", "num_mel_bins", "sample_rate",
        "lower_edge_hertz", "upper_edge_hertz", "ratio", "training_mode", "max_output_boxes_per_class",
    }
)  # fmt: skip
"""What ONNX calls inputs that decide on sizes or on the course of the computation."""

_ASK_FOR_SIZES: Final = frozenset({"Shape", "Size"})
"""Ops that read no numbers, but sizes."""

_COURSE_SLOTS: Final = frozenset({"M", "cond", "constant_value", "roi", "ratio", "training_mode"})
"""Those that are taken from the data only where the op does not lower otherwise."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of a run before it: sizes of inputs by name, and numbers of small ones by name."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An op of the original graph that does not lower, and why."""

    op: Op
    reason: str


@dataclass(frozen=True, slots=True)
class Lowered:
    """A Relax module with the function ``main``.

    Attributes:
        module: TVM's.
        inputs, outputs: What its arguments and results are in ONNX, in order.
        pinned: Numbers of inputs that were taken as known: a run with others is refused.
        names: By the number that variables are named after, what the op of ``graph`` computes.
    """

    module: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    pinned: Mapping[str, Array]
    names: tuple[tuple[str, ...], ...] = ()


def lower(graph: Graph, ops: OpTable, sizes: Sizes) -> Lowered:
    """Return ``graph`` as a Relax module.

    Args:
        graph: A model's own graph; it stays as it is.
        ops: Op semantics.
        sizes: What is fixed; all else stays symbolic.

    Raises:
        UnsupportedError: an op does not lower (NNC-T002).
    """
    mending = _Mending(graph, ops, sizes)
    module = mending.module()
    if module is None:
        refused = mending.refusals()
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UnsupportedError(
            f"TVM cannot take {refused[0].op.label!r} ({refused[0].op.kind}): {refused[0].reason}{more}",
            where=Where(node=refused[0].op.label),
            hint="`nncomp check` lists every op that does not lower",
        )
    fed = [value for value in mending.graph.inputs if value.default is None]
    return Lowered(
        module,
        tuple(_port(value) for value in fed),
        tuple(_port(value) for value in mending.graph.outputs),
        mending.pinned,
        mending.names(),
    )


def refusals(graph: Graph, ops: OpTable, sizes: Sizes) -> list[Refusal]:
    """Return every op that does not lower; ``graph`` stays as it is, and nothing is compiled."""
    mending = _Mending(graph, ops, sizes)
    return [] if mending.module() is not None else mending.refusals()


class _Mending:
    """A copy of a graph that is walked, mended and walked again."""

    def __init__(self, graph: Graph, ops: OpTable, sizes: Sizes) -> None:
        self.graph, mapping = graph.clone_with_map()
        self._ops, self._sizes = ops, sizes
        self._origins = {twin: op for op, twin in mapping.items() if isinstance(op, Op) and isinstance(twin, Op)}
        self._labels = {(op.kind, *(value.name for value in op.outputs)): op for _, op in graph.walk()}
        self._refused: dict[Op, str] = {}
        self.pinned: dict[str, Array] = {}
        for value in self.graph.inputs:
            if value.name in sizes.shapes and isinstance(value.type, TensorType):
                self.graph.set_type(value, TensorType(value.type.dtype, sizes.shapes[value.name]))
        self._lift()
        if sizes.shapes and sizes.numbers:
            for op in self.graph.ops():
                self._pin(op, _SIZE_SLOTS - _COURSE_SLOTS)
        infer_types(self.graph)

    def module(self) -> Any:
        """Return the Relax module, None where an op cannot be lowered whatever is done."""
        for _ in range(_ROUNDS):
            walk = Walk(self.graph, self._ops)
            module = walk.module()
            if module is not None:
                return module
            self._refused = walk.refused
            if not self._mended(walk.known):
                return None
        return None

    def refusals(self) -> list[Refusal]:
        """Return what was refused in the end, by the ops of the original graph."""
        found: dict[Op, str] = {}
        for op, reason in self._refused.items():
            origin = self._origins[op]
            found.setdefault(origin, reason if origin.kind == op.kind else f"{op.kind} in it: {reason}")
        return [Refusal(op, reason) for op, reason in found.items()]

    def names(self) -> tuple[tuple[str, ...], ...]:
        """Return what each op computes, in their order: of one that stands for another, what the other computes."""
        origins = (self._origins.get(op, op) for op in self.graph.ops())
        return tuple(tuple(value.name for value in op.outputs if value.name) for op in origins)

    def _lift(self) -> None:
        """Bring old models to an opset that converters know; those that onnx cannot convert stay as they are."""
        if self.graph.opsets.get("", OLDEST) >= OLDEST:
            return
        labels = {(op.kind, *(value.name for value in op.outputs)): origin for op, origin in self._origins.items()}
        first = next(iter(labels.values()), None)
        try:
            convert_opset(self.graph, OLDEST)
        except UnsupportedError:
            return
        self._origins = {}
        for _, op in self.graph.walk():
            origin = labels.get((op.kind, *(value.name for value in op.outputs)), first)
            assert origin is not None
            self._origins[op] = origin

    def _mended(self, known: Mapping[Value, Array]) -> bool:
        """Do what helps the refused ops, of whose inputs some are known; return whether anything was done."""
        done = False
        for op in self._refused:
            for slot, value in enumerate(op.inputs):
                if value is not None and value in known and not value.is_constant:
                    self.graph.set_input(op, slot, self.graph.add_constant(f"{value.name}_known", known[value]))
            before = set(self.graph.ops())
            if self._pin(op):
                done = True
            elif self._expanded(op):
                done = True
                for new in self.graph.ops():
                    if new not in before:
                        for _, inner in _with_bodies(self.graph, new):
                            self._origins[inner] = self._origins[op]
        if done:
            infer_types(self.graph)
        return done

    def _expanded(self, op: Op) -> bool:
        try:
            return expand(self.graph, op)
        except NotLoweredError as error:
            self._refused[op] = str(error)
            return False

    def _pin(self, op: Op, slots: frozenset[str] = _SIZE_SLOTS) -> bool:
        """Take inputs that only say sizes to ``op`` as they are in the calibration data."""
        found: set[str] = set()
        for slot, value in enumerate(op.inputs):
            if value is not None and _slot_name(op, slot, self.graph.opsets) in slots:
                found |= {one.name for one in self._sources(value)}
        new = found - set(self.pinned)
        small = all(name in self._sizes.numbers and self._sizes.numbers[name].size <= MAX_PINNED for name in new)
        if not new or not small:
            return False
        for name in sorted(new):
            self.pinned[name] = self._sizes.numbers[name]
            fed = self.graph.find(name)
            self.graph.replace_uses(fed, self.graph.add_constant(f"{name}_pinned", self.pinned[name]))
        return True

    def _sources(self, value: Value) -> set[Value]:
        """Return the graph inputs whose numbers a value is computed from; sizes are known without them."""
        asking = [op for op in self.graph.ops() if not op.domain and op.kind in _ASK_FOR_SIZES]
        above = {value, *nx.ancestors(nx.restricted_view(self.graph.nx, asking, []), value)}
        return {one for one in self.graph.inputs if one in above and one.default is None}


def _with_bodies(graph: Graph, op: Op) -> list[tuple[Graph, Op]]:
    return [(graph, op), *(pair for body in op.bodies.values() for pair in body.walk())]


def _slot_name(op: Op, slot: int, opsets: Mapping[str, int]) -> str:
    """Return what ONNX calls the input at ``slot``."""
    if op.is_a("ConstantOfShape"):
        return "shape"  # ONNX calls it "input"
    try:
        inputs = onnx.defs.get_schema(op.kind, opsets.get(op.domain, 1), op.domain).inputs
    except onnx.defs.SchemaError:
        return ""
    return inputs[slot].name if slot < len(inputs) else ""


def _port(value: Value) -> Port:
    type_ = value.tensor_type
    if type_ is None:
        return Port(value.name, "", None)
    shape = None if type_.shape is None else tuple("" if dim is None else dim for dim in type_.shape)
    return Port(value.name, str(type_.dtype.numpy()), shape)
