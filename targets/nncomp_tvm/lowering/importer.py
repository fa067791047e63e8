"""Walk a graph in its order and emit Relax op by op; what is known before the run is computed and becomes a constant.

With fixed input shapes everything that exporters compute from shapes is known, so most of what TVM cannot lower (a
Reshape or Pad whose target is computed, an If over a rank) never reaches it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError, Where
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable
from nncomp.runtime import RuntimeFailure, run
from nncomp_tvm.kernels.extents import Open, dimensions
from nncomp_tvm.library import Expr, constant, relax, tirx, tvm
from nncomp_tvm.lowering.calls import Call, NotLoweredError
from nncomp_tvm.lowering.converters import converted
from nncomp_tvm.lowering.sizes import SizeArray, as_objects, computed_sizes, shape_sizes, sizes_of, with_open_sizes
from nncomp_tvm.origins import named_after

Array = npt.NDArray[Any]

_KEPT: Final = frozenset({"DequantizeLinear"})
"""Not computed ahead although all is known: what follows works on the integers."""

_MAX_FOLDED_BYTES: Final = 1 << 26
_SMALL_INTEGERS: Final = frozenset({DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2})


@dataclass
class Walk:
    """One pass over a graph.

    Attributes:
        graph: What is walked; types are inferred. It stays as it is.
        ops: Op semantics.
        refused: Why ops did not lower, so far; what reads their outputs is not tried.
        known: Values whose numbers are known before the run, with them.
    """

    graph: Graph
    ops: OpTable
    refused: dict[Op, str] = field(default_factory=dict)
    known: dict[Value, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._builder = _Naming()
        self._exprs: dict[Value, Expr] = {}
        self._lost: set[Value] = set()
        self._symbols: dict[str, Any] = {}
        self._sizes: dict[Value, SizeArray] = {}

    def module(self) -> Any:
        """Return the Relax module, whose ``main`` takes the inputs that must be fed; None where something was refused.

        Raises:
            UnsupportedError: an input is no dense numeric tensor (NNC-T002).
        """
        graph = self.graph
        fed = [value for value in graph.inputs if value.default is None]
        parameters = []
        for number, value in enumerate(fed):
            if not isinstance(value.type, TensorType) or not _is_whole_bytes(value.type.dtype):
                raise UnsupportedError(
                    f"input {value.name!r} is {value.type}: TVM takes dense tensors of whole bytes",
                    where=Where(tensor=value.name),
                    hint="compile what follows the ops that read it: onnx.utils.extract_model cuts it out",
                )
            self._exprs[value] = relax.Var(f"input_{number}", self._tensor_type(value.type))
            parameters.append(self._exprs[value])
        for value in graph.inputs:
            if value.default is not None:
                self.known[value] = value.default.numpy()
            elif _is_empty(value):
                self.known[value] = _nothing(value)
        for value in graph.constants():
            assert value.const is not None
            if value.const.dtype is not DataType.STRING:
                self.known[value] = value.const.numpy()
        with self._builder.function("main", parameters):
            with self._builder.dataflow():
                for number, op in enumerate(graph.ops()):
                    self._builder.name = named_after(number)
                    self._emit(op)
                self._builder.name = ""
                if self.refused:
                    result = self._builder.emit_output(constant(np.zeros(1, np.float32)))
                else:
                    results = [self._given(value) for value in graph.outputs]
                    result = self._builder.emit_output(results[0] if len(results) == 1 else relax.Tuple(results))
            self._builder.emit_func_output(result)
        return None if self.refused else self._builder.get()

    def _emit(self, op: Op) -> None:
        read = [value for value in op.inputs if value is not None]
        if any(value in self._lost for value in read):
            self._lost.update(op.outputs)
            return
        if op.outputs and all(_is_empty(value) for value in op.outputs):
            self.known.update({value: _nothing(value) for value in op.outputs})
            return
        try:
            if not self._computed(op) and not self._made_of_sizes(op):
                self._converted(op)
        except NotLoweredError as error:
            self.refused[op] = str(error)
            self._lost.update(op.outputs)

    def _computed(self, op: Op) -> bool:
        """Compute an op of which all is known; return whether it was done."""
        if op.is_a("Shape") and op.inputs[0] is not None:
            type_ = op.inputs[0].tensor_type
            sizes = type_.static_shape if type_ is not None else None
            if sizes is not None:
                begin, end = int(op.attr("start", 0)), op.attr("end", None)
                self.known[op.output] = np.array(sizes[begin : None if end is None else int(end)], np.int64)
                return True
        read = [value for value in op.inputs if value is not None]
        row = self.ops.row(op, self.graph.opsets)
        if any(value not in self.known for value in read) or op.bodies or row is None or not row.deterministic:
            return False
        if not op.domain and op.kind in _KEPT:
            return False
        sizes_of = [value.tensor_type.nbytes if value.tensor_type is not None else None for value in op.outputs]
        if any(size is not None and size > _MAX_FOLDED_BYTES for size in sizes_of):
            return False
        alone = self.graph.extract([op], op.outputs)
        feeds = {value.name: self.known[self.graph.find(value.name)] for value in alone.inputs}
        try:
            results = run(alone, feeds)
        except RuntimeFailure:
            return False
        if not all(isinstance(results[value.name], np.ndarray) for value in op.outputs):
            return False
        self.known.update({value: results[value.name] for value in op.outputs})
        return True

    def _made_of_sizes(self, op: Op) -> bool:
        """Compute an op on sizes, open ones included; return whether it was done."""
        first = op.inputs[0] if op.inputs else None
        if op.is_a("Shape") and first in self._exprs:
            sizes = sizes_of(self._exprs[first])
            found = shape_sizes(op, sizes) if sizes is not None else None
        elif any(value in self._sizes for value in op.inputs):
            found = computed_sizes(op, self._size_arrays(op))
        else:
            return False
        if found is None:
            return False
        if any(isinstance(one, Open) for one in found.reshape(-1)):
            self._sizes[op.output] = found
        else:
            dtype = op.output.tensor_type.dtype if op.output.tensor_type is not None else DataType.INT64
            self.known[op.output] = found.astype(dtype.numpy())
        return True

    def _size_arrays(self, op: Op) -> list[SizeArray | None]:
        return [
            None
            if value is None
            else as_objects(self.known[value])
            if value in self.known and self.known[value].dtype.kind in "iub"
            else self._sizes.get(value)
            for value in op.inputs
        ]

    def _converted(self, op: Op) -> None:
        call = Call(
            op=op,
            graph=self.graph,
            builder=self._builder,
            inputs=[None if value is None else self._expr(value) for value in op.inputs],
            arrays=[None if value is None else self.known.get(value) for value in op.inputs],
        )
        sized = with_open_sizes(call, self._size_arrays(op)) if self._symbols else None
        if sized is not None:
            self._exprs[op.output] = self._builder.emit(sized) if isinstance(sized, tvm.ir.Call) else sized
            _check(op.output, self._exprs[op.output])
            return
        row = self.ops.row(op, self.graph.opsets)
        if row is not None and not row.deterministic and not op.is_a("Dropout") and not op.bodies:
            raise NotLoweredError("it draws at random")
        for value in op.outputs:
            if value.tensor_type is not None and not _is_whole_bytes(value.tensor_type.dtype):
                raise NotLoweredError(f"its output {value.name!r} is {value.tensor_type.dtype.name}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = converted(call)
        for value, result in zip(op.outputs, results, strict=False):
            # A call that stays an expression would be computed once for each reader.
            bound = self._builder.emit(result) if isinstance(result, tvm.ir.Call) else result
            self._exprs[value] = bound
            _check(value, bound)

    def _given(self, value: Value) -> Expr:
        """Return a result of the graph: a tensor, also where Relax has a shape."""
        expr = self._expr(value)
        return self._builder.emit(relax.op.shape_to_tensor(expr)) if isinstance(expr.ty, relax.ShapeType) else expr

    def _expr(self, value: Value) -> Expr:
        if value in self._sizes and value not in self._exprs:
            sizes = self._sizes[value]
            made = self._builder.emit(relax.op.shape_to_tensor(relax.ShapeExpr(dimensions(sizes.reshape(-1).tolist()))))
            self._exprs[value] = made if sizes.ndim else self._builder.emit(relax.op.reshape(made, ()))
        if value not in self._exprs or value in self.known:
            if value not in self.known:
                raise NotLoweredError(f"{value.name!r} has no dense numeric value")
            array = self.known[value]
            if value.tensor_type is not None and value.tensor_type.dtype in _SMALL_INTEGERS:  # as INT8, the same codes
                array = array.astype(np.int8 if "U" not in value.tensor_type.dtype.name else np.uint8)
            self._exprs[value] = constant(array) if array.size or array.ndim < 2 else self._empty(array)
        return self._exprs[value]

    def _empty(self, array: Array) -> Expr:
        """Return an array without elements: as a constant of several axes TVM writes one that it cannot read."""
        return self._builder.emit(relax.op.zeros(relax.ShapeExpr(array.shape), str(array.dtype)))

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


class _Naming(relax.BlockBuilder):  # type: ignore[misc]
    """Names what is emitted without a name of its own after the op that is lowered."""

    name = ""

    def emit(self, expr: Expr, name_hint: str = "") -> Expr:
        """Bind an expression to a new variable."""
        return super().emit(expr, name_hint or self.name)


def _is_empty(value: Value) -> bool:
    """Whether a value is known to have no elements, so that nothing need be computed to know it."""
    type_ = value.tensor_type
    return (
        type_ is not None
        and type_.static_shape is not None
        and 0 in type_.static_shape
        and _is_whole_bytes(type_.dtype)
    )


def _nothing(value: Value) -> Array:
    assert value.tensor_type is not None and value.tensor_type.static_shape is not None
    return np.zeros(value.tensor_type.static_shape, value.tensor_type.dtype.numpy())


def _is_whole_bytes(dtype: DataType) -> bool:
    return dtype not in (DataType.STRING, DataType.UNDEFINED) and dtype.bits >= 8 and "COMPLEX" not in dtype.name


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
