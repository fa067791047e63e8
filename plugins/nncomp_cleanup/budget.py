"""What may be evaluated at compile time: ops on fixed inputs, within a budget that is checked before they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nncomp.ir import DataType, Graph, Op, Value
from nncomp.onnx_io.tensors import SparseConstant
from nncomp.ops import OpTable
from nncomp_cleanup.evaluation import Step
from nncomp_cleanup.proven import Proven, moves_only, source_of
from nncomp_cleanup.purity import is_call

UNKNOWN_SIZE: Final = "the size of its result depends on data"
UNKNOWN_TYPE: Final = "the type of its result is not known"
UNKNOWN_DIVISOR: Final = "its divisor is not known yet"
QUANTIZED: Final = "dequantized weights would be floats again"
TOO_MUCH_AT_ONCE: Final = "results would take more than max_total_bytes at once"
WAITING: Final = frozenset({UNKNOWN_SIZE, UNKNOWN_TYPE, UNKNOWN_DIVISOR, QUANTIZED, TOO_MUCH_AT_ONCE})
"""Reasons that may be gone in another round, when more is constant."""

_CARRIED: Final = frozenset(
    {
        DataType.FLOAT,
        DataType.DOUBLE,
        DataType.FLOAT16,
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.UINT8,
        DataType.UINT16,
        DataType.UINT32,
        DataType.UINT64,
    }
)
"""Element types that ONNX Runtime's Python interface returns."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What evaluation may cost; see the options of fold-constants."""

    max_bytes: int
    max_total_bytes: int
    max_ops: int
    dequantize: bool | None


@dataclass
class Plan:
    """Which ops of a graph and its bodies are to be evaluated.

    Attributes:
        steps: in topological order, outer graphs first.
        declined: why an op whose inputs are all fixed is not evaluated.
        rounded: steps whose result is float16 and rounded: evaluated to warn of overflow, never kept.
        work: scalar operations that the steps take.
    """

    steps: list[Step] = field(default_factory=list)
    declined: dict[Op, str] = field(default_factory=dict)
    rounded: list[Step] = field(default_factory=list)
    work: int = 0


def plan(graph: Graph, proven: Proven, ops: OpTable, limits: Limits, *, settled: Mapping[Op, str], spent: int) -> Plan:
    """Choose the ops with fixed inputs that can be evaluated and whose results are known to be small enough.

    Sizes come from the types, before anything is computed; an op whose size depends on data is not evaluated.

    Args:
        graph: A model's own graph.
        proven: Its types.
        ops: Op semantics.
        limits: What evaluation may cost.
        settled: Ops that were tried before.
        spent: Scalar operations that were.
    """
    found = Plan()
    fixed: set[Value] = set()
    bytes_left, ops_left = limits.max_total_bytes, limits.max_ops - spent
    dequantize = _may_dequantize(graph, limits)
    for part, op in graph.walk():  # an owner comes behind all that its bodies capture: the order is topological
        if op in settled or not _is_candidate(part, op, ops) or not _has_fixed_inputs(part, op, fixed):
            continue
        sizes = [_bytes_at_most(op, value, proven) for value in op.outputs if value.name]
        cost = ops.cost(op, part)
        work = 0 if cost is None else cost.macs + cost.elementary
        total = sum(size or 0 for size in sizes)
        reason = _refusal(part, op, proven, limits, dequantize=dequantize) or _excess(sizes, limits)
        if not reason and total > bytes_left:
            reason = TOO_MUCH_AT_ONCE
        if not reason and work > ops_left:
            reason = f"it takes {work} operations, of max_ops={limits.max_ops} {ops_left} are left"
        if reason:
            found.declined[op] = reason
            continue
        bytes_left, ops_left, found.work = bytes_left - total, ops_left - work, found.work + work
        found.steps.append(Step(part, op))
        if _rounds_float16(op, proven):
            found.rounded.append(found.steps[-1])
        else:
            fixed.update(op.outputs)
    return found


def _is_candidate(graph: Graph, op: Op, ops: OpTable) -> bool:
    if op.bodies or op.is_a("Constant") or is_call(graph, op):
        return False
    row = ops.row(op, graph.opsets)
    return row is not None and row.foldable and row.deterministic


def _has_fixed_inputs(graph: Graph, op: Op, fixed: set[Value]) -> bool:
    given = [value for value in op.inputs if value is not None]
    return all(source_of(graph, value) in fixed or graph.constant(value) is not None for value in given)


def _may_dequantize(graph: Graph, limits: Limits) -> bool:
    if limits.dequantize is not None:
        return limits.dequantize
    return not any(op.kind == "QuantizeLinear" for _, op in graph.walk())


def _bytes_at_most(op: Op, value: Value, proven: Proven) -> int | None:
    """Return an upper bound of an output's bytes, None when its size depends on data."""
    type_ = proven.types.get(value)
    if type_ is None or type_.nbytes is not None:
        return None if type_ is None else type_.nbytes
    data = None if op.input(0) is None else proven.types.get(op.inputs[0])  # type: ignore[arg-type]
    if data is None or data.size is None:
        return None
    if op.is_a("NonZero"):
        return data.size * max(data.rank or 0, 1) * 8
    return data.size * 8 if op.kind in ("Compress", "Unique") and op.domain == "" else None


def _excess(sizes: list[int | None], limits: Limits) -> str:
    if None in sizes:
        return UNKNOWN_SIZE
    largest = max((size or 0 for size in sizes), default=0)
    if largest > limits.max_bytes:
        return f"its result takes {largest} bytes, max_bytes allows {limits.max_bytes}"
    return ""


def _refusal(graph: Graph, op: Op, proven: Proven, limits: Limits, *, dequantize: bool) -> str:
    if op.is_a("Identity") and graph.is_output(op.output):
        return "the graph interface needs this name"
    if op.kind == "DequantizeLinear" and not dequantize:
        return QUANTIZED
    for data in (graph.constant(value) for value in op.inputs):
        if isinstance(data, SparseConstant) and data.nbytes > limits.max_bytes:
            return f"a sparse input takes {data.nbytes} bytes when dense, max_bytes allows {limits.max_bytes}"
    for value in op.outputs:
        dtype = proven.dtype(value)
        if value.name and dtype not in _CARRIED:
            return UNKNOWN_TYPE if dtype is None else f"ONNX Runtime's interface does not carry {dtype.name.lower()}"
    if op.is_a("Div") or op.is_a("Mod"):
        return _trap(graph, op, proven)
    return ""


def _trap(graph: Graph, op: Op, proven: Proven) -> str:
    """Say why an integer division could end the process: the runtime divides by 0, or the least integer by -1."""
    dtype = proven.dtype(op.output)
    if dtype is None or dtype.is_floating_point():
        return ""
    divisor = graph.array(op.input(1))
    if divisor is None:
        return UNKNOWN_DIVISOR
    if not divisor.all() or bool((divisor == -1).any()):
        return "an integer division by 0 or -1 may trap"
    return ""


def _rounds_float16(op: Op, proven: Proven) -> bool:
    return not moves_only(op) and any(proven.dtype(value) == DataType.FLOAT16 for value in op.outputs)
