"""Facts about one graph: what it holds, what one run of it costs, how much memory its activations need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nncomp.errors import ModelError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, Tensor, TensorType, Value
from nncomp.ops import OpTable
from nncomp.runtime import Feeds, RuntimeFailure, Session

_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SHAPE_READERS: Final = frozenset({"Resize", "Upsample", "Clip", "Pad"})
"""Ops whose small float constants are settings, not weights."""

_AT_A_TIME: Final = 64


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a graph holds and costs, for one run with given input shapes; bodies count once.

    QuantizeLinear and DequantizeLinear count as fused with their neighbours, as integer kernels run them: tensors
    between integer ops are counted in integers.

    Attributes:
        ops: Number of ops, bodies included.
        kinds: Number of ops by kind, the most frequent first; other domains with their name in front.
        params: Elements of distinct weights.
        weight_bytes: Bytes of distinct constants.
        macs: Multiply-accumulates.
        traffic_bytes: Bytes that ops read and write, each operand once.
        peak_activation_bytes: Largest sum of tensors alive at once, constants apart, ops in topological order.
        unpriced: Number of ops by kind whose cost is not known; they are missing in ``macs``.
        unsized: Number of tensors of unknown size; they are missing in the bytes.
        opsets: Imported version by domain (ONNX's own is ``ai.onnx``).
        ir_version: As the model says.
    """

    ops: int
    kinds: Mapping[str, int]
    params: int
    weight_bytes: int
    macs: int
    traffic_bytes: int
    peak_activation_bytes: int
    unpriced: Mapping[str, int]
    unsized: int
    opsets: Mapping[str, int]
    ir_version: int


def model_facts(
    graph: Graph,
    ops: OpTable,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    *,
    feeds: Feeds | None = None,
) -> ModelFacts:
    """Count; ``graph`` stays as it is.

    Args:
        graph: A model's own graph.
        ops: Semantics.
        shapes: Sizes of the inputs, by name; symbolic sizes that are not given leave costs unknown.
        feeds: Inputs to run once on, for sizes that cannot be inferred; instead of ``shapes``.
    """
    return sized_facts(with_shapes(graph, ops, shapes or {}, feeds=feeds), ops)


def sized_facts(sized: Graph, ops: OpTable) -> ModelFacts:
    """Count, in what :func:`with_shapes` gave."""
    macs = traffic = 0
    unpriced: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    unsized: set[Value] = set()
    for part, op in sized.walk():
        kinds[kind_name(op)] += 1
        cost = ops.cost(op, part)
        if cost is None:
            unpriced[kind_name(op)] += 1
        else:
            macs += cost.macs
        if op.kind in _QUANTIZERS:
            continue
        for value in {*op.inputs, *op.outputs}:
            if value is not None and value.name:
                size = _stored_bytes(value, part)
                traffic += size or 0
                if size is None:
                    unsized.add(value)
    return ModelFacts(
        ops=sum(kinds.values()),
        kinds=dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        params=parameter_count(sized, ops),
        weight_bytes=sum(tensor.nbytes for tensor in _distinct_constants(sized)),
        macs=macs,
        traffic_bytes=traffic,
        peak_activation_bytes=peak_activation_bytes(sized),
        unpriced=dict(sorted(unpriced.items())),
        unsized=len(unsized),
        opsets={domain or "ai.onnx": version for domain, version in sorted(sized.opsets.items())},
        ir_version=sized.info.ir_version,
    )


def with_shapes(
    graph: Graph, ops: OpTable, shapes: Mapping[str, tuple[int, ...]], *, feeds: Feeds | None = None
) -> Graph:
    """Return a copy whose types are inferred for inputs of these shapes, or found by running it on ``feeds``."""
    if feeds is not None:
        shapes = {name: array.shape for name, array in feeds.items()}
    sized = graph.clone()
    for value in sized.inputs:
        if value.name in shapes and isinstance(value.type, TensorType):
            sized.set_type(value, TensorType(value.type.dtype, tuple(shapes[value.name])))
    try:
        infer_types(sized, ops, input_shapes=shapes)
    except ModelError:
        return sized  # what cannot be inferred is counted as unknown
    if feeds is not None:
        _observe_shapes(sized, feeds)
    return sized


def _observe_shapes(graph: Graph, feeds: Feeds) -> None:
    """Set the shapes of dense tensors that are not known from one run, a few outputs at a time to save memory.

    Bodies are left out: how often they run, and on what, depends on the data.
    """
    unknown = [
        value
        for op in graph.ops()
        for value in op.outputs
        if value.name and isinstance(value.type, TensorType) and value.type.static_shape is None
    ]
    for start in range(0, len(unknown), _AT_A_TIME):
        part = unknown[start : start + _AT_A_TIME]
        try:
            found = Session(graph, outputs=[value.name for value in part]).run(feeds)
        except (RuntimeFailure, UnsupportedError):
            return
        for value in part:
            shape = getattr(found[value.name], "shape", None)
            if shape is not None and isinstance(value.type, TensorType):
                graph.set_type(value, TensorType(value.type.dtype, tuple(shape)))


def kind_name(op: Op) -> str:
    """Return the kind, with its domain in front when it is not ONNX's own."""
    return f"{op.domain}.{op.kind}" if op.domain else op.kind


def parameter_count(graph: Graph, ops: OpTable) -> int:
    """Count elements of distinct weights: float constants with axes, and integer ones where an op says so.

    Scales and zero points are no weights, nor are the settings of ops such as Resize.
    """
    weights: dict[int, int] = {}
    for part, op in graph.walk():
        if op.kind in _SHAPE_READERS:
            continue
        role = ops.quant(op, part.opsets)
        integer = {0} if op.kind == "DequantizeLinear" else {role.weight, role.bias}
        for slot, value in enumerate(op.inputs):
            tensor = part.constant(value)
            if tensor is None or (tensor.dtype.is_floating_point() and op.kind in _QUANTIZERS and slot > 0):
                continue
            quantized = op.kind.startswith("QLinear") and slot not in integer
            is_float = tensor.dtype.is_floating_point() and len(tensor.shape) > 0 and not quantized
            if is_float or slot in integer:
                weights[id(part.constant_holder(value))] = tensor.size
    return sum(weights.values())


def peak_activation_bytes(graph: Graph) -> int:
    """Return the largest number of bytes alive at once; linear in ops. Tensors of unknown size count nothing."""
    return _peak(graph, count_inputs=True)


def _peak(graph: Graph, *, count_inputs: bool) -> int:
    sizes = {value: _live_bytes(value, graph) for value in graph.values()}
    kept = set(graph.outputs)
    left = {value: len(graph.users(value)) for value in sizes}
    fed = set(graph.inputs) if count_inputs else set()
    live = sum(sizes[value] for value in fed)
    peak = live
    for op in graph.ops():
        inner = max((_peak(body, count_inputs=False) for body in op.bodies.values()), default=0)
        live += sum(sizes[value] for value in op.outputs)
        peak = max(peak, live + inner)
        captured = {outer for body in op.bodies.values() for outer in body.captures.values()}
        for value in {*op.inputs, *captured} - {None}:
            assert value is not None
            left[value] -= 1
            owned = value.producer is not None or value in fed
            if not left[value] and value not in kept and owned:
                live -= sizes[value]
        live -= sum(sizes[value] for value in op.outputs if not left[value] and value not in kept)
    return peak


def _live_bytes(value: Value, graph: Graph) -> int:
    """Bytes that a value occupies beside those of what it is fused with."""
    if graph.constant(value) is not None or value in graph.captures or not isinstance(value.type, TensorType):
        return 0
    fused = value.producer is not None and value.producer.is_a("DequantizeLinear")
    return 0 if fused or _only_quantized(value, graph) is not None else value.type.nbytes or 0


def _stored_bytes(value: Value, graph: Graph) -> int | None:
    """Bytes of a value where it is kept between kernels, None when its size is not known."""
    producer = value.producer
    if producer is not None and producer.is_a("DequantizeLinear") and producer.inputs[0] is not None:
        value = producer.inputs[0]
    quantized = _only_quantized(value, graph) if value.const is None else None
    type_ = (quantized or value).type
    return type_.nbytes if isinstance(type_, TensorType) else None


def _only_quantized(value: Value, graph: Graph) -> Value | None:
    """Return what QuantizeLinear makes of ``value`` when nobody else reads it."""
    users = graph.users(value) if value in graph else ()
    if len(users) != 1 or not users[0].is_a("QuantizeLinear") or value.producer is None or graph.is_output(value):
        return None
    return users[0].output


def _distinct_constants(graph: Graph) -> list[Tensor]:
    tensors: dict[int, Tensor] = {}
    for part in graph.graphs():
        for value in part.constants():
            if value.const is not None:
                tensors[id(value.const)] = value.const
        for op in part.ops():
            if op.is_a("Constant"):
                tensor = part.constant(op.output)
                if tensor is not None:
                    tensors[id(op)] = tensor  # forms other than ``value`` make a new tensor at each call
    return list(tensors.values())
