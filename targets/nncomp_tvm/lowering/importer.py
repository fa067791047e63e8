"""Walk a graph in its order and emit Relax op by op; what is known before the run is computed and becomes a constant.

With fixed input shapes everything that exporters compute from shapes is known, so most of what TVM cannot lower (a
Reshape or Pad whose target is computed, an If over a rank) never reaches it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError, Where
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable
from nncomp.runtime import RuntimeFailure, run
from nncomp_tvm.library import Expr, constant, relax, tirx
from nncomp_tvm.lowering.calls import Call, NotLoweredError
from nncomp_tvm.lowering.converters import converted
from nncomp_tvm.manifest import Port

Array = npt.NDArray[Any]

_KEPT: Final = frozenset({"DequantizeLinear"})
"""Not computed ahead although all is known: what follows works on the integers."""

_MAX_FOLDED_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Refusal:
    """An op that does not lower, and why."""

    op: Op
    reason: str


@dataclass(frozen=True, slots=True)
class Lowered:
    """A Relax module with the function ``main``, and what its arguments and results are in ONNX, in order."""

    module: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def lower(graph: Graph, ops: OpTable, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Lowered:
    """Return ``graph`` as a Relax module.

    Args:
        graph: A model's own graph; it stays as it is.
        ops: Op semantics.
        shapes: Sizes of inputs, by name; others keep their symbols.

    Raises:
        UnsupportedError: an op does not lower (NNC-T002).
    """
    walk = _Walk(graph, ops, shapes or {})
    lowered = walk.emitted()
    if walk.refused or lowered is None:
        first = walk.refused[0]
        more = f" (and {len(walk.refused) - 1} more)" if len(walk.refused) > 1 else ""
        raise UnsupportedError(
            f"TVM cannot take {first.op.label!r} ({first.op.kind}): {first.reason}{more}",
            where=Where(node=first.op.label),
            hint="`nncomp check` lists every op that does not lower",
        )
    return lowered


def refusals(graph: Graph, ops: OpTable, shapes: Mapping[str, tuple[int, ...]] | None = None) -> list[Refusal]:
    """Return every op that does not lower; ``graph`` stays as it is, and nothing is compiled."""
    walk = _Walk(graph, ops, shapes or {})
    walk.emitted()
    return walk.refused


@dataclass
class _Walk:
    """One pass over a graph.

    Attributes:
        graph: As given; what is walked is a copy whose types are inferred for ``shapes``.
        ops: Op semantics.
        shapes: Sizes of inputs.
        refused: Ops that did not lower so far.
    """

    graph: Graph
    ops: OpTable
    shapes: Mapping[str, tuple[int, ...]]
    refused: list[Refusal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._original = self.graph
        copy, mapping = self.graph.clone_with_map()
        self._origins = {twin: node for node, twin in mapping.items() if isinstance(node, Op)}
        for value in copy.inputs:
            if value.name in self.shapes and isinstance(value.type, TensorType):
                copy.set_type(value, TensorType(value.type.dtype, self.shapes[value.name]))
        infer_types(copy)
        self.graph = copy
        self._builder = relax.BlockBuilder()
        self._known: dict[Value, Array] = {}
        self._exprs: dict[Value, Expr] = {}
        self._lost: set[Value] = set()
        self._symbols: dict[str, Any] = {}

    def emitted(self) -> Lowered | None:
        """Return the module, None where something was refused."""
        graph = self.graph
        fed = [value for value in graph.inputs if value.default is None]
        parameters = []
        for number, value in enumerate(fed):
            if not isinstance(value.type, TensorType) or value.type.dtype is DataType.STRING:
                raise UnsupportedError(f"input {value.name!r} is {value.type}: TVM takes dense numeric tensors only")
            self._exprs[value] = relax.Var(f"input_{number}", self._tensor_type(value.type))
            parameters.append(self._exprs[value])
        for value in graph.inputs:
            if value.default is not None:
                self._known[value] = value.default.numpy()
        for value in graph.constants():
            assert value.const is not None
            if value.const.dtype is not DataType.STRING:
                self._known[value] = value.const.numpy()
        with self._builder.function("main", parameters):
            with self._builder.dataflow():
                for op in graph.ops():
                    self._emit(op)
                if self.refused:
                    result = self._builder.emit_output(constant(np.zeros(1, np.float32)))
                else:
                    results = [self._expr(value) for value in graph.outputs]
                    result = self._builder.emit_output(results[0] if len(results) == 1 else relax.Tuple(results))
            self._builder.emit_func_output(result)
        if self.refused:
            return None
        module = self._builder.get()
        return Lowered(
            module,
            tuple(_port(self._source(value), value) for value in fed),
            tuple(_port(self._source(value), value) for value in graph.outputs),
        )

    def _source(self, value: Value) -> Value:
        return self._original.find(value.name)

    def _emit(self, op: Op) -> None:
        read = [value for value in op.inputs if value is not None]
        if any(value in self._lost for value in read):
            self._lost.update(op.outputs)
            return
        try:
            if not self._computed(op):
                self._converted(op)
        except NotLoweredError as error:
            origin = self._origins[op]
            assert isinstance(origin, Op)
            self.refused.append(Refusal(origin, str(error)))
            self._lost.update(op.outputs)

    def _computed(self, op: Op) -> bool:
        """Compute an op of which all is known; return whether it was done."""
        if op.is_a("Shape") and op.inputs[0] is not None:
            type_ = op.inputs[0].tensor_type
            sizes = type_.static_shape if type_ is not None else None
            if sizes is not None:
                begin, end = int(op.attr("start", 0)), op.attr("end", None)
                self._known[op.output] = np.array(sizes[begin : None if end is None else int(end)], np.int64)
                return True
        read = [value for value in op.inputs if value is not None]
        row = self.ops.row(op, self.graph.opsets)
        if any(value not in self._known for value in read) or op.bodies or row is None or not row.deterministic:
            return False
        if not op.domain and op.kind in _KEPT:
            return False
        sizes_of = [value.tensor_type.nbytes if value.tensor_type is not None else None for value in op.outputs]
        if any(size is not None and size > _MAX_FOLDED_BYTES for size in sizes_of):
            return False
        alone = self.graph.extract([op], op.outputs)
        feeds = {value.name: self._known[self.graph.find(value.name)] for value in alone.inputs}
        try:
            results = run(alone, feeds)
        except RuntimeFailure:
            return False
        if not all(isinstance(results[value.name], np.ndarray) for value in op.outputs):
            return False
        self._known.update({value: results[value.name] for value in op.outputs})
        return True

    def _converted(self, op: Op) -> None:
        call = Call(
            op=op,
            graph=self.graph,
            builder=self._builder,
            inputs=[None if value is None else self._expr(value) for value in op.inputs],
            arrays=[None if value is None else self._known.get(value) for value in op.inputs],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = converted(call)
        for value, result in zip(op.outputs, results, strict=False):
            self._exprs[value] = result
            _check(value, result)

    def _expr(self, value: Value) -> Expr:
        if value not in self._exprs:
            if value not in self._known:
                raise NotLoweredError(f"{value.name!r} has no dense numeric value")
            self._exprs[value] = constant(self._known[value])
        return self._exprs[value]

    def _tensor_type(self, type_: TensorType) -> Any:
        dtype = str(type_.dtype.numpy())
        if type_.shape is None:
            return relax.TensorType(dtype=dtype, ndim=-1)
        return relax.TensorType([self._size(dim) for dim in type_.shape], dtype)

    def _size(self, dim: int | str | None) -> Any:
        if isinstance(dim, int):
            return dim
        name = dim or f"unknown_{len(self._symbols)}"
        if name not in self._symbols:
            self._symbols[name] = tirx.Var(f"n{len(self._symbols)}", "int64")
        return self._symbols[name]


def _port(source: Value, value: Value) -> Port:
    """Return the port of ``value``, whose sizes are known as far as those of the walk are."""
    type_ = value.tensor_type
    if type_ is None:
        return Port(source.name, "", None)
    shape = None if type_.shape is None else tuple("" if dim is None else dim for dim in type_.shape)
    return Port(source.name, str(type_.dtype.numpy()), shape)


def _check(value: Value, result: Expr) -> None:
    """Refuse a result whose type is not what ONNX says: it would be wrong, and nobody would be told."""
    type_, got = value.tensor_type, result.ty
    if type_ is None or not isinstance(got, relax.TensorType):
        return
    if type_.dtype is not DataType.UNDEFINED and got.dtype != str(type_.dtype.numpy()):
        raise NotLoweredError(f"its output {value.name!r} would be {got.dtype}, not {type_.dtype.numpy()}")
    if type_.shape is None or got.shape is None:
        return
    sizes = list(got.shape.values) if isinstance(got.shape, relax.ShapeExpr) else None
    if sizes is None:
        return
    fits = len(sizes) == len(type_.shape) and all(
        not isinstance(wanted, int) or not isinstance(found, tirx.IntImm) or int(found) == wanted
        for wanted, found in zip(type_.shape, sizes, strict=True)
    )
    if not fits:
        raise NotLoweredError(f"its output {value.name!r} would have the sizes {sizes}, not {list(type_.shape)}")
