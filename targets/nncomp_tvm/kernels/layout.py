"""Turn the layout of images from NCHW to NHWC, so that vectors lie along channels and a 1 x 1 convolution is a product.

One walk over the function: a value of four axes exists as NCHW, as NHWC, or both, each made when it is first asked for.
An operator of the table below works on NHWC as soon as an operand is there; any other gets NCHW. So layouts change only
where a chain of such operators begins or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from nncomp_tvm.kernels.extents import Extent, dimensions, known
from nncomp_tvm.kernels.graph import Walk, array_of, name_of, shape_of
from nncomp_tvm.kernels.program import OPERATIONS, OWN
from nncomp_tvm.library import Constant, relax

TO_LAST: Final = (0, 2, 3, 1)
TO_FIRST: Final = (0, 3, 1, 2)


def channels_last(module: Any) -> Any:
    """Return the module with convolutions, pooling and what lies between in NHWC."""
    return _Layout(module).walk.run()


class _Layout:
    def __init__(self, module: Any) -> None:
        self.walk = Walk(module, self._rewrite)
        self._last: dict[Any, Any] = {}  # NCHW variable -> NHWC variable
        self._rows: dict[Any, Any] = {}  # NCW variable -> NHWC variable of one row

    def last(self, value: Any) -> Any:
        """Return a value of up to four axes, which broadcast, as NHWC."""
        array, shape = array_of(value), shape_of(value)
        if shape == () or (array is not None and array.size == 1):
            return value
        if array is None and value in self._last:
            return self._last[value]
        turned = self._dequantized(value)
        if turned is not None:
            self._last[value] = turned
            return turned
        missing = 0 if shape is None else 4 - len(shape)
        grown = self.walk.emit(relax.op.expand_dims(value, list(range(missing)))) if missing else value
        turned = self.walk.emit(relax.op.permute_dims(grown, list(TO_LAST)))
        if array is None:
            self._last[value] = turned
        return turned

    def _dequantized(self, value: Any) -> Any:
        """Turn the integers instead of what they stand for, if that is what the value is."""
        call: Any = self.walk.builder.lookup_binding(value) if isinstance(value, relax.Var) else None
        if name_of(call) != "dequantize" or len(shape_of(value) or ()) != 4:
            return None
        axis = TO_LAST.index(call.attrs.axis % 4)
        turned = relax.op.dequantize(self.last(call.args[0]), call.args[1], call.args[2], axis, call.attrs.out_dtype)
        return self.walk.emit(turned)

    def row(self, value: Any) -> Any:
        """Return a value of up to three axes, which broadcast, as NHWC of one row."""
        array = array_of(value)
        if shape_of(value) == () or (array is not None and array.size == 1):
            return value
        if array is None and value in self._rows:
            return self._rows[value]
        missing = 3 - len(shape_of(value) or (0, 0, 0))
        grown = self.walk.emit(relax.op.expand_dims(value, [*range(missing), 2]))
        turned = self.walk.emit(relax.op.permute_dims(grown, list(TO_LAST)))
        if array is None:
            self._rows[value] = turned
        return turned

    def is_row(self, value: Any) -> bool:
        """Whether the value is there as NHWC of one row."""
        return array_of(value) is None and value in self._rows

    def is_last(self, value: Any) -> bool:
        """Whether the value is there as NHWC."""
        return array_of(value) is None and value in self._last

    def _rewrite(self, walk: Walk, item: Any) -> Any:
        variable, call = item
        handler = _HANDLERS.get(name_of(call))
        shape = shape_of(variable)
        if shape is None or (len(shape) == 4 and not known(shape[1:])):  # the number of images may be open
            return call
        result = handler(self, call, shape) if handler else None
        if result is None:
            return call
        result = walk.emit(result)
        if len(shape_of(result) or ()) != 4:
            return result
        first = walk.emit(relax.op.permute_dims(result, list(TO_FIRST)))
        if len(shape) == 3:
            first = walk.emit(relax.op.squeeze(first, [2]))
            self._rows[first] = result
        else:
            self._last[first] = result
        return first


def _convolution(layout: _Layout, call: Any, shape: Any) -> Any:
    attrs = call.attrs
    if attrs.data_layout != "NCHW" or attrs.kernel_layout != "OIHW":
        return None
    return relax.op.nn.conv2d(
        layout.last(call.args[0]),
        layout.last(call.args[1]),
        strides=attrs.strides,
        padding=attrs.padding,
        dilation=attrs.dilation,
        groups=attrs.groups,
        data_layout="NHWC",
        kernel_layout="OHWI",
        out_dtype=str(call.attrs.out_dtype) if call.attrs.out_dtype else None,
    )


def _row_convolution(layout: _Layout, call: Any, shape: Any) -> Any:
    """Convolve an image of one row."""
    attrs, source, weight = call.attrs, shape_of(call.args[0]), array_of(call.args[1])
    if attrs.data_layout != "NCW" or attrs.kernel_layout != "OIW" or weight is None:
        return None
    if source is None or not known(source[1:]) or not known(shape[1:]):
        return None
    before, after = (int(pad) for pad in attrs.padding)
    return relax.op.nn.conv2d(
        layout.row(call.args[0]),
        relax.const(weight.transpose(0, 2, 1)[:, None]),
        strides=(1, int(attrs.strides[0])),
        padding=(0, before, 0, after),
        dilation=(1, int(attrs.dilation[0])),
        groups=attrs.groups,
        data_layout="NHWC",
        kernel_layout="OHWI",
        out_dtype=str(attrs.out_dtype) if attrs.out_dtype else None,
    )


def _transposed_convolution(layout: _Layout, call: Any, shape: Any) -> Any:
    """Without overlaps, it is a 1 x 1 convolution to all pixels of a window, which are laid out side by side."""
    attrs, source, weight = call.attrs, shape_of(call.args[0]), array_of(call.args[1])
    if attrs.data_layout != "NCHW" or attrs.kernel_layout != "IOHW" or weight is None or source is None:
        return None
    channels, columns, *window = weight.shape
    apart = [int(stride) for stride in attrs.strides] == window and {int(gap) for gap in attrs.dilation} == {1}
    padded = any(int(pad) for pad in (*attrs.padding, *attrs.output_padding))
    if not apart or padded or int(attrs.groups) != 1 or not known(source):
        return None
    batch, _, rows, pixels = source
    high, wide = window
    flat = weight.transpose(2, 3, 1, 0).reshape(high * wide * columns, 1, 1, channels)
    found = relax.op.nn.conv2d(
        layout.last(call.args[0]), relax.const(flat), data_layout="NHWC", kernel_layout="OHWI",
        out_dtype=str(attrs.out_dtype) if attrs.out_dtype else None,
    )  # fmt: skip
    split = layout.walk.emit(relax.op.reshape(layout.walk.emit(found), (batch, rows, pixels, high, wide, columns)))
    ordered = layout.walk.emit(relax.op.permute_dims(split, [0, 1, 3, 2, 4, 5]))
    return relax.op.reshape(ordered, (batch, rows * high, pixels * wide, columns))


def _pool(layout: _Layout, call: Any, _shape: Any) -> Any:
    attrs = call.attrs
    if attrs.layout != "NCHW":
        return None
    operator = {"nn.max_pool2d": relax.op.nn.max_pool2d, "nn.avg_pool2d": relax.op.nn.avg_pool2d}[name_of(call)]
    return operator(
        layout.last(call.args[0]),
        pool_size=attrs.pool_size,
        strides=attrs.strides,
        padding=attrs.padding,
        dilation=attrs.dilation,
        ceil_mode=attrs.ceil_mode,
        count_include_pad=attrs.count_include_pad,
        layout="NHWC",
    )


def _elementwise(layout: _Layout, call: Any, shape: Any) -> Any:
    """Any operand there as NHWC: all of them."""
    if len(shape) == 3 and known(shape[1:]) and any(layout.is_row(argument) for argument in call.args):
        rows = [layout.row(a) if isinstance(a, relax.Var | Constant) else a for a in call.args]
        return relax.Call(call.op, rows, call.attrs, call.ty_args)
    if len(shape) != 4 or not any(layout.is_last(argument) for argument in call.args):
        return None
    arguments = [layout.last(a) if isinstance(a, relax.Var | Constant) else a for a in call.args]
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _quantization(layout: _Layout, call: Any, shape: Any) -> Any:
    if len(shape) != 4 or not layout.is_last(call.args[0]):
        return None
    operator = {"quantize": relax.op.quantize, "dequantize": relax.op.dequantize}[name_of(call)]
    axis = TO_LAST.index(call.attrs.axis % 4)
    return operator(layout.last(call.args[0]), call.args[1], call.args[2], axis, call.attrs.out_dtype)


def _mean(layout: _Layout, call: Any, shape: Any) -> Any:
    if not layout.is_last(call.args[0]) or call.attrs.axis is None:
        return None
    axes = sorted(TO_LAST.index(int(axis) % 4) for axis in call.attrs.axis)
    if axes != [1, 2]:
        return None
    return relax.op.mean(layout.last(call.args[0]), axes, call.attrs.keepdims)


def _concat(layout: _Layout, call: Any, shape: Any) -> Any:
    fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
    if len(shape) != 4 or not any(layout.is_last(field) for field in fields):
        return None
    axis = TO_LAST.index(int(call.attrs.axis) % 4)
    return relax.op.concat([layout.last(field) for field in fields], axis)


def _reshape(layout: _Layout, call: Any, shape: Any) -> Any:
    """With one pixel, or one channel, the order of elements is the same."""
    source = call.args[0]
    if not layout.is_last(source):
        return None
    _, channels, height, width = shape_of(source) or (0, 0, 0, 0)
    if height * width != 1 and channels != 1:
        return None
    return relax.op.reshape(layout.last(source), dimensions(shape)) if len(shape) != 4 else None


Handler = Callable[[_Layout, Any, Sequence[Extent]], Any]

_HANDLERS: Final[Mapping[str, Handler]] = MappingProxyType(
    {
        **dict.fromkeys({*OPERATIONS, "astype"} - OWN, _elementwise),
        "nn.conv2d": _convolution,
        "nn.conv1d": _row_convolution,
        "nn.conv2d_transpose": _transposed_convolution,
        "nn.max_pool2d": _pool,
        "nn.avg_pool2d": _pool,
        "quantize": _quantization,
        "dequantize": _quantization,
        "mean": _mean,
        "concat": _concat,
        "reshape": _reshape,
        "squeeze": _reshape,
        "flatten": _reshape,
    }
)
"""By operator: the same call on NHWC, or None where that does not pay."""
