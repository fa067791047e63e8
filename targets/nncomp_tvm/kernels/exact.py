"""Operators whose code by TVM gives other numbers than ONNX Runtime: sums of 16-bit floats, extremes of infinities."""

from __future__ import annotations

from typing import Any, Final

from nncomp_tvm.kernels.graph import Walk, dtype_of, name_of
from nncomp_tvm.library import relax, te, tirx

_HALF: Final = frozenset({"float16", "bfloat16"})

_SUMMING: Final = frozenset(
    {
        "matmul", "sum", "mean", "variance", "std", "prod", "cumsum", "cumprod", "nn.softmax", "nn.log_softmax",
        "nn.layer_norm", "nn.group_norm", "nn.instance_norm", "nn.rms_norm", "nn.avg_pool1d", "nn.avg_pool2d",
        "nn.avg_pool3d", "nn.conv1d", "nn.conv2d", "nn.conv3d", "nn.conv1d_transpose", "nn.conv2d_transpose",
        "nn.conv3d_transpose",
    }
)  # fmt: skip
"""Relax's operators that add or multiply many numbers."""


def widened(module: Any) -> Any:
    """Return the module with sums of 16-bit floats computed in float32, and rounded once."""
    return Walk(module, _wide).run()


def with_exact_extremes(module: Any) -> Any:
    """Return the module with reductions to a maximum or minimum, or to its place, as ONNX Runtime computes them.

    It begins with the first element and takes what is greater: NaN stays where it comes first, and is passed over
    elsewhere. TVM begins with the lowest finite number.
    """
    return Walk(module, _extreme).run()


def _wide(walk: Walk, item: Any) -> Any:
    variable, call = item
    name = name_of(call)
    if name not in _SUMMING or not isinstance(variable.ty, relax.TensorType) or dtype_of(variable) not in _HALF:
        return call
    args = [_as_float(walk, argument) for argument in call.args]
    if name == "matmul":
        wide = relax.op.matmul(*args, out_dtype="float32")
    elif name in ("cumsum", "cumprod"):
        scan = relax.op.cumsum if name == "cumsum" else relax.op.cumprod
        wide = scan(args[0], call.attrs.axis, "float32", call.attrs.exclusive)
    elif getattr(call.attrs, "out_dtype", None):
        return call
    else:
        wide = relax.Call(call.op, args, call.attrs, call.ty_args)
    return relax.op.astype(walk.emit(wide), dtype_of(variable))


def _as_float(walk: Walk, argument: Any) -> Any:
    half = isinstance(argument.ty, relax.TensorType) and dtype_of(argument) in _HALF
    return walk.emit(relax.op.astype(argument, "float32")) if half else argument


def _extreme(walk: Walk, item: Any) -> Any:
    _, call = item
    name = name_of(call)
    if name not in ("max", "min", "argmax", "argmin"):
        return call
    data, place = call.args[0], name.startswith("arg")
    dtype = dtype_of(data)
    if data.ty.ndim < 1 or dtype == "bool" or not (place or dtype.startswith("float")):
        return call
    axis = call.attrs.axis
    axes = range(data.ty.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    reduced = sorted(int(one) % data.ty.ndim for one in axes)
    if place and len(reduced) != 1:
        return call
    write = _PlaceOrValue(reduced, keep=bool(call.attrs.keepdims), place=place, highest=name.endswith("max"))
    return walk.builder.call_te(write, data, primfunc_name_hint=name)


class _PlaceOrValue:
    """Writes a reduction as a tensor expression."""

    def __init__(self, axes: list[int], *, keep: bool, place: bool, highest: bool) -> None:
        self.axes, self.keep, self.place, self.highest = axes, keep, place, highest

    def __call__(self, data: Any) -> Any:
        self.floats = str(data.dtype).startswith(("float", "bfloat"))
        shape = [1 if d in self.axes else n for d, n in enumerate(data.shape) if self.keep or d not in self.axes]
        if any(isinstance(data.shape[d], tirx.IntImm) and int(data.shape[d]) == 0 for d in self.axes):
            return te.compute(shape, lambda *at: self._start(data.dtype), name="extreme")
        along = {d: te.reduce_axis((0, data.shape[d]), name=f"k{d}") for d in self.axes}

        def read(at: Any, inside: Any) -> Any:
            rest = iter(at)
            if self.keep:
                rest = iter([one for d, one in enumerate(at) if d not in self.axes])
            return data(*(inside[d] if d in inside else next(rest) for d in range(len(data.shape))))

        def element(*at: Any) -> Any:
            value = read(at, along)
            if not self.place:
                return self._values()(value, axis=list(along.values()))
            (line,) = along.values()
            return self._places()((line.var.astype("int64"), value), axis=line)

        found = te.compute(shape, element, name="extreme")
        found = found[0] if self.place else found
        if not self.floats:
            return found
        first = {d: tirx.const(0, "int64") for d in self.axes}

        def kept(*at: Any) -> Any:
            lead = read(at, first)
            return tirx.Select(tirx.isnan(lead), tirx.const(0, "int64") if self.place else lead, found(*at))

        return te.compute(shape, kept, name="kept")

    def _better(self, new: Any, old: Any) -> Any:
        return new > old if self.highest else new < old

    def _start(self, dtype: str) -> Any:
        if self.floats:
            return tirx.const(float("-inf" if self.highest else "inf"), dtype)
        return tirx.min_value(dtype) if self.highest else tirx.max_value(dtype)

    def _values(self) -> Any:
        return te.comm_reducer(lambda old, new: tirx.Select(self._better(new, old), new, old), self._start)

    def _places(self) -> Any:
        def join(old: Any, new: Any) -> Any:
            earlier = tirx.all(new[1] == old[1], new[0] < old[0])
            taken = tirx.any(self._better(new[1], old[1]), earlier)
            return tirx.Select(taken, new[0], old[0]), tirx.Select(taken, new[1], old[1])

        return te.comm_reducer(join, lambda at, value: (tirx.max_value(at), self._start(value)))
