"""Walk a Relax function binding by binding and write it anew, folding what is known on the way.

Constants are folded with numpy: TVM's own FoldConstant compiles a function for each, which for a model of a hundred
layers takes longer than everything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.extents import Extent, extent_of, known
from nncomp_tvm.library import Constant, constant, relax, tvm
from nncomp_tvm.origins import origin_of

Rewrite = Callable[["Walk", Any], Any]
"""Given the walk and a call with its new arguments, return the expression to bind instead."""


def name_of(value: Any) -> str:
    """Return the operator of a call without ``relax.``, or nothing."""
    op = getattr(value, "op", None)
    return op.name.removeprefix("relax.") if isinstance(op, tvm.ir.Op) else ""


def array_of(expression: Any) -> NDArray[Any] | None:
    """Return a constant's value, without a copy if it can be, or None."""
    return expression.value.numpy() if isinstance(expression, Constant) else None


def shape_of(expression: Any) -> tuple[Extent, ...] | None:
    """Return a tensor's shape, open sizes included, or None if it has none before the run."""
    shape = getattr(expression.ty, "shape", None)
    return tuple(extent_of(dim) for dim in shape.values) if isinstance(shape, relax.ShapeExpr) else None


def dtype_of(expression: Any) -> str:
    """Return a tensor's element type."""
    return str(getattr(expression.ty.dtype, "dtype", expression.ty.dtype))


def bindings(function: Any) -> list[Any]:
    """Return the bindings of a function in the order in which they run."""
    return [binding for block in function.body.blocks for binding in block.bindings]


def is_plain(function: Any) -> bool:
    """Whether a function is a list of calls, tuples and names: no branches, no inner functions."""
    plain = relax.Call | relax.Var | Constant | relax.Tuple | relax.TupleGetItem | relax.ShapeExpr
    return isinstance(function.body, relax.SeqExpr) and all(
        isinstance(binding, relax.VarBinding | relax.MatchCast) and isinstance(binding.value, plain)
        for binding in bindings(function)
    )


class Walk:
    """Writes ``main`` anew: what is emitted for a binding is named as that is.

    Args:
        module: What is read.
        rewrite: Says what each call becomes.
        further: Parameters of the new ``main`` behind the old ones.
    """

    def __init__(self, module: Any, rewrite: Rewrite, further: Sequence[Any] = ()) -> None:
        self._module, self._rewrite, self._further = module, rewrite, further
        self._name = ""
        self.builder = relax.BlockBuilder(module)
        self.new: dict[Any, Any] = {}

    def emit(self, expression: Any) -> Any:
        """Bind an expression and return the variable, or, where it can be known, the constant."""
        if isinstance(expression, relax.Var | Constant | relax.Tuple):
            return expression
        expression = self.builder.normalize(expression)
        folded = _fold(expression)
        return self.builder.emit(expression, self._name) if folded is None else constant(folded)

    def argument(self, expression: Any) -> Any:
        """Return what an old expression has become."""
        if isinstance(expression, relax.Tuple):
            return relax.Tuple([self.argument(field) for field in expression.fields])
        if isinstance(expression, relax.TupleGetItem):
            return relax.TupleGetItem(self.argument(expression.tuple_value), expression.index)
        return self.new.get(expression, expression)

    def run(self) -> Any:
        """Return the module with its new ``main``; code that nothing reads is gone."""
        variable = self._module.get_global_var("main")
        main = self._module[variable]
        attributes = dict(main.attrs) if main.attrs else {}
        attributes.pop("global_symbol", None)
        with self.builder.function("main_", [*main.params, *self._further], attributes):
            with self.builder.dataflow():
                for binding in bindings(main):
                    value = binding.value
                    self._name = binding.var.name if origin_of(binding.var) is not None else ""
                    if isinstance(value, relax.Call):
                        arguments = [self.argument(argument) for argument in value.args]
                        value = relax.Call(value.op, arguments, value.attrs, value.ty_args)
                    else:
                        value = self.argument(value)
                    if isinstance(binding, relax.MatchCast):  # TVM's passes leave calls inside of these, too
                        self.new[binding.var] = self.builder.match_cast(self.emit(value), binding.ty)
                        continue
                    if isinstance(value, relax.Call):
                        value = self._rewrite(self, (binding.var, value))
                        if value is None:
                            continue
                    self.new[binding.var] = self.emit(value)
                result = self.builder.emit_output(self.argument(main.body.body))
            self.builder.emit_func_output(result)
        module = self.builder.get()
        functions = {v: f for v, f in module.functions.items() if v.name_hint != "main"}
        written = next(f for v, f in functions.items() if v.name_hint == "main_")
        functions = {v: f for v, f in functions.items() if v.name_hint != "main_"}
        functions[tvm.ir.GlobalVar("main")] = written.with_attr("global_symbol", "main")
        return relax.transform.DeadCodeElimination(["main"])(tvm.IRModule(functions))


def _fold(call: Any) -> NDArray[Any] | None:
    """Return the value of a cheap call whose arguments are constants, or of which only the shape is read."""
    name = name_of(call)
    if name == "shape_to_tensor" and isinstance(call.args[0], relax.ShapeExpr):
        dims = [getattr(dim, "value", None) for dim in call.args[0].values]
        return None if None in dims else np.array(dims, np.int64)
    if name not in _FOLDS or not isinstance(call.ty, relax.TensorType):
        return None
    arrays = [array_of(argument) for argument in call.args]
    numbers = [array for array in arrays if array is not None]
    if name == "dequantize" and (len(numbers) < 3 or numbers[0].dtype != np.int32):
        return None  # int8 weights stay small; biases become what is added
    others = [argument for argument in call.args if array_of(argument) is None]
    if not numbers or any(not isinstance(argument, relax.ShapeExpr) for argument in others):
        return None
    shape = shape_of(call)
    if shape is None or not known(shape):
        return None
    folded: NDArray[Any] = np.ascontiguousarray(_FOLDS[name](call, numbers).astype(dtype_of(call), copy=False))
    return folded.reshape(shape)


def _dequantized(call: Any, args: Sequence[NDArray[Any]]) -> NDArray[Any]:
    x, scale, zero = args
    if scale.size > 1:
        along = [1] * x.ndim
        along[call.attrs.axis] = scale.size
        scale, zero = scale.reshape(along), zero.reshape(along if zero.size > 1 else [1] * x.ndim)
    real: NDArray[Any] = (x.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale
    return real


_FOLDS: Final[Mapping[str, Callable[[Any, Sequence[NDArray[Any]]], NDArray[Any]]]] = MappingProxyType(
    {
        "reshape": lambda call, args: args[0],
        "expand_dims": lambda call, args: args[0],
        "squeeze": lambda call, args: args[0],
        "flatten": lambda call, args: args[0],
        "permute_dims": lambda call, args: args[0].transpose(
            [int(axis) for axis in call.attrs.axes] if call.attrs.axes else None
        ),
        "astype": lambda call, args: args[0],
        "take": lambda call, args: np.take(args[0], args[1], axis=call.attrs.axis, mode="wrap"),
        "dequantize": _dequantized,
        "add": lambda call, args: args[0] + args[1],
        "subtract": lambda call, args: args[0] - args[1],
        "multiply": lambda call, args: args[0] * args[1],
    }
)
