"""What exporters compute from shapes, followed through Relax's own sizes: numbers and symbols, not tensors of a run.

ONNX's shape inference gives up at many ops (``unk__3``); Relax knows the sizes of what was emitted. Values that are
made of sizes are kept as arrays of numbers and symbols; a Reshape or Expand that reads one becomes an operator with
known sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Op
from nncomp_tvm.kernels.emit import Code, load
from nncomp_tvm.kernels.extents import Extent, Open, dimensions, extent_of, product, quotient, symbols_of
from nncomp_tvm.library import Expr, constant, relax, tirx, tvm
from nncomp_tvm.lowering.calls import Call, NotLoweredError

SizeArray: TypeAlias = npt.NDArray[Any]
"""An array of objects, of no axis or one: numbers and ``Open`` sizes."""


def sizes_of(expression: Expr) -> tuple[Extent, ...] | None:
    """Return the sizes of a tensor as Relax knows them, or None."""
    shape = getattr(expression.ty, "shape", None)
    return tuple(extent_of(dim) for dim in shape.values) if isinstance(shape, relax.ShapeExpr) else None


def as_objects(values: Sequence[Extent] | npt.NDArray[Any]) -> SizeArray:
    """Return numbers and sizes as an array of objects."""
    if isinstance(values, np.ndarray):
        return values.astype(object)
    found = np.empty(len(values), object)
    found[:] = values
    return found


def shape_sizes(op: Op, sizes: Sequence[Extent]) -> SizeArray:
    """Return what ``Shape`` gives for a tensor of ``sizes``."""
    end = op.attr("end", None)
    return as_objects(sizes[int(op.attr("start", 0)) : None if end is None else int(end)])


def computed_sizes(op: Op, inputs: Sequence[SizeArray | None]) -> SizeArray | None:
    """Return what an op makes of sizes, or None where that is no array of sizes."""
    rule = _RULES.get(op.kind) if not op.domain else None
    if rule is None or inputs[0] is None:
        return None
    result = rule(op, list(inputs))
    return None if result is None or result.ndim > 1 else result


def _gathered(op: Op, inputs: list[Any]) -> SizeArray | None:
    data, places = inputs
    if data.ndim != 1 or places is None or any(isinstance(place, Open) for place in places.reshape(-1)):
        return None
    return np.asarray(data[places.astype(np.int64)], object)


def _concatenated(op: Op, inputs: list[Any]) -> SizeArray | None:
    if any(one is None or one.ndim != 1 for one in inputs):
        return None
    return np.concatenate(inputs)


def _reshaped(op: Op, inputs: list[Any]) -> SizeArray | None:
    """Reshape, Squeeze and Unsqueeze of one element or a list: what is left is a list, or one number."""
    data = inputs[0]
    if op.kind == "Reshape":
        target = inputs[1]
        rank = None if target is None else target.size
    else:
        axes = inputs[1].size if len(inputs) > 1 and inputs[1] is not None else len(op.attr("axes") or [0])
        rank = data.ndim + (axes if op.kind == "Unsqueeze" else -axes)
    if rank not in (0, 1) or (rank == 0 and data.size != 1):
        return None
    return np.asarray(data.reshape(() if rank == 0 else (-1,)), object)


def _sliced(op: Op, inputs: list[Any]) -> SizeArray | None:
    if op.attrs or inputs[0].ndim != 1 or any(one is None or one.size != 1 for one in inputs[1:]):
        return None
    numbers = [one.reshape(-1)[0] for one in inputs[1:]]
    if any(isinstance(number, Open) for number in numbers):
        return None
    begin, end, _, step = numbers + [0, 1][len(numbers) - 2 :]
    return np.asarray(inputs[0][begin:end:step]) if step > 0 else None


def _arithmetic(operation: Callable[[Extent, Extent], Extent | None]) -> Callable[[Op, list[Any]], SizeArray | None]:
    def rule(op: Op, inputs: list[Any]) -> SizeArray | None:
        if any(one is None for one in inputs):
            return None
        left, right = np.broadcast_arrays(*inputs)
        found = np.empty(left.shape, object)
        for place in np.ndindex(left.shape):
            value = operation(left.item(*place), right.item(*place))
            if value is None:
                return None
            found[place] = value
        return found

    return rule


def _divided(left: Extent, right: Extent) -> Extent | None:
    if isinstance(left, int) and isinstance(right, int):
        return int(left / right) if right else None
    return quotient(left, right)


def _sum(left: Extent, right: Extent) -> Extent | None:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    first, second = dimensions([left, right])
    return extent_of(first + second)


def _same(left: Extent, right: Extent) -> Extent | None:
    """A size is no negative number."""
    if isinstance(left, Open) != isinstance(right, Open):
        number = right if isinstance(left, Open) else left
        return 0 if isinstance(number, int) and number < 0 else None
    return int(left == right) if isinstance(left, int) or left == right else None


def _chosen(op: Op, inputs: list[Any]) -> SizeArray | None:
    if any(one is None for one in inputs) or any(isinstance(one, Open) for one in inputs[0].reshape(-1)):
        return None
    chosen: SizeArray = np.where(inputs[0].astype(bool), inputs[1], inputs[2])
    return chosen


def _multiplied_up(op: Op, inputs: list[Any]) -> SizeArray | None:
    keep = bool(op.attr("keepdims", 1))
    return as_objects([product(inputs[0])]) if keep else np.asarray(product(inputs[0]), object)


def _whole(op: Op, inputs: list[Any]) -> SizeArray | None:
    return inputs[0] if DataType(int(op.attr("to"))) in (DataType.INT64, DataType.INT32) else None


_RULES: Final[Mapping[str, Callable[[Op, list[Any]], SizeArray | None]]] = MappingProxyType(
    {
        "Gather": _gathered,
        "Concat": _concatenated,
        "Reshape": _reshaped,
        "Squeeze": _reshaped,
        "Unsqueeze": _reshaped,
        "Slice": _sliced,
        "Identity": lambda op, inputs: inputs[0],
        "Cast": _whole,
        "Add": _arithmetic(_sum),
        "Mul": _arithmetic(lambda left, right: left * right),
        "Div": _arithmetic(_divided),
        "Equal": _arithmetic(_same),
        "Where": _chosen,
        "ReduceProd": _multiplied_up,
    }
)
"""By kind: an op on arrays of sizes; None where the result is none, or is not known."""


def with_open_sizes(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """Emit an op whose data or target has open sizes; None where another form does.

    Args:
        call: The op.
        arrays: Numbers and sizes by slot, where they are known.

    Raises:
        NotLoweredError: the sizes of the result are not known.
    """
    emission = _EMISSIONS.get(call.op.kind) if not call.op.domain else None
    return emission(call, arrays) if emission is not None else None


def _reshape(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """Reshape: 0 is the size that was there, -1 what is left."""
    data, target = call.inputs[0], arrays[1]
    old = sizes_of(data) if data is not None else None
    if old is None or target is None:
        return None
    if not call.op.attr("allowzero", 0):
        target = as_objects([old[place] if one == 0 else one for place, one in enumerate(target.tolist())])
    sizes = target.tolist()
    if -1 in sizes:
        rest = quotient(product(old), product(one for one in sizes if one != -1))
        if rest is None:
            raise NotLoweredError(f"what is left of {list(old)} for -1 is not known before the run")
        sizes = [rest if one == -1 else one for one in sizes]
    return relax.op.reshape(data, dimensions(sizes))


def _expand(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    data, target = call.inputs[0], arrays[1]
    old = sizes_of(data) if data is not None else None
    if old is None or target is None:
        return None
    rank = max(len(old), target.size)
    mine, wanted = ((1,) * (rank - len(one)) + tuple(one) for one in (old, target.tolist()))
    sizes = [b if a == 1 else a for a, b in zip(mine, wanted, strict=True)]
    if any(b not in (1, c) for b, c in zip(wanted, sizes, strict=True)):
        raise NotLoweredError(f"whether {list(old)} expands to {target.tolist()} is not known before the run")
    return relax.op.broadcast_to(data, dimensions(sizes))


def _filled(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """ConstantOfShape."""
    value = call.op.attr("value", None)
    number = np.zeros((), np.float32) if value is None else value.numpy().reshape(())
    if arrays[0] is None:
        return None
    return relax.op.full(dimensions(arrays[0].tolist()), constant(number), str(number.dtype))


def _slice(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """Slice one axis from a known place to an open one, in steps of 1; that it has so many elements is checked."""
    data = call.inputs[0]
    old = sizes_of(data) if data is not None else None
    if old is None or call.opset < 10 or any(one is None or one.size != 1 for one in arrays[1:]):
        return None
    given = [one.reshape(-1)[0] for one in arrays[1:] if one is not None]
    begin, end, axis, step = given + [0, 1][len(given) - 2 :]
    if not isinstance(end, Open) or begin != 0 or not isinstance(axis, int) or step != 1:
        return None
    sizes = list(old)
    if sizes[axis] == end:
        return data
    sizes[axis] = end
    return _head(call, tuple(sizes), axis % len(sizes))


def _head(call: Call, sizes: tuple[Extent, ...], axis: int) -> Expr:
    """Emit a call that takes so much of the first operand from where ``axis`` begins."""
    old, dtype = sizes_of(call.inputs[0]), str(call.dtype(0))
    assert old is not None
    function = call.builder.add_func(_first(old, sizes, axis, dtype), "first")
    symbols = [symbol.value for symbol in symbols_of([old, sizes])]
    return relax.call_tir(function, relax.Tuple([call.inputs[0], *symbols]), relax.TensorType(dimensions(sizes), dtype))


def _counted(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """Range from 0 to an open size, in steps of 1."""
    begin, end, step = (None if one is None else one.reshape(-1)[0] for one in arrays)
    if not any(isinstance(one, Open) for one in (begin, end, step)):
        return None
    if end is None or begin != 0 or step != 1:
        raise NotLoweredError("with open sizes it must count from 0, in steps of 1")
    return relax.op.arange(0, *dimensions([end]), 1, str(call.dtype(0)))


def _places(call: Call, arrays: Sequence[SizeArray | None]) -> Expr | None:
    """Gather of the first so many rows, such as of positions; that there are so many is checked.

    ``_counted`` lets no open range begin elsewhere than at 0.
    """
    del arrays
    data, places = call.inputs
    old, wanted = (None if one is None else sizes_of(one) for one in (data, places))
    if not old or wanted is None or int(call.op.attr("axis", 0)) % len(old) != 0:
        return None
    counted = call.builder.lookup_binding(places) if isinstance(places, relax.Var) else None
    if not isinstance(counted, tvm.ir.Call) or counted.op != tvm.ir.Op.get("relax.arange"):
        return None
    return _head(call, (*wanted, *old[1:]), 0)


def _first(old: Sequence[Extent], new: Sequence[Extent], axis: int, dtype: str) -> Any:
    """Return a function that copies the first elements along an axis; it fails where there are not so many.

    TVM's own slice, of an open size, would end the process in FuseOps (TVM 0.27).
    """
    code = Code(parallel=False)
    source, result = code.parameter(old, dtype), code.parameter(new, dtype)
    there, wanted, inner = (code.size(one) for one in (old[axis], new[axis], product(old[axis + 1 :])))
    message = f"a size is more than the {old[axis]} elements that the graph has of it"
    code.run(tirx.AssertStmt(wanted <= there, tvm.ir.StringImm("ValueError"), [tvm.ir.StringImm(message)]))
    with code.loop(code.size(product(old[:axis]))) as outer, code.loop(wanted) as place, code.loop(inner) as rest:
        at = outer * there + place
        code.store(result, (outer * wanted + place) * inner + rest, load(source, at * inner + rest))
    return code.function().with_attr({"s_tir": True, "op_pattern": 8})


_EMISSIONS: Final[Mapping[str, Callable[[Call, Sequence[SizeArray | None]], Expr | None]]] = MappingProxyType(
    {
        "Reshape": _reshape,
        "Expand": _expand,
        "ConstantOfShape": _filled,
        "Slice": _slice,
        "Range": _counted,
        "Gather": _places,
    }
)
