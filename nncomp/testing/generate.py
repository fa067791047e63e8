"""Hypothesis strategies for graphs that are valid by construction, with the oddities that exporters leave behind.

For testing passes, ours and plugin authors'::

    @given(graphs())
    def test_my_pass(graph):
        assert_lawful(MyPass(), graph)

Every value has a static shape, so any step may follow any other. Weights may be shared, values read many times or given
out in the middle of a pattern, nodes have no names, optional inputs are skipped, constants hide behind Constant,
Identity and ConstantOfShape, inputs have defaults, branches capture, axes may be empty. Needs the package hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, ModelInfo, TensorType, Value

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("nncomp.testing.generate needs hypothesis: pip install hypothesis") from error

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

OPSETS: Final = (7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 26)
FLOATS: Final = (DataType.FLOAT, DataType.FLOAT, DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)
_MAX_SIZE: Final = 4096  # elements of one value
_UNARY: Final = ("Relu", "Neg", "Identity", "Sigmoid", "Tanh", "Abs", "LeakyRelu", "Dropout")
_CPU_DOUBLE: Final = ("Relu", "Neg", "Identity", "Sigmoid", "Tanh", "Abs")


@st.composite
def graphs(
    draw: Draw,
    *,
    opsets: Sequence[int] = OPSETS,
    dtypes: Sequence[DataType] = FLOATS,
    max_ops: int = 12,
    steps: Sequence[str] = (),
) -> Graph:
    """Return a strategy of graphs for :func:`nncomp.testing.feeds`; ONNX Runtime runs nearly all, see ``lawful.runs``.

    Args:
        draw: Given by hypothesis.
        opsets: Versions of ONNX's own opset to draw from, 7 to 26.
        dtypes: Element types to draw from; repeat what should come more often.
        max_ops: Most steps of a graph; a step adds one to six ops.
        steps: Names of :class:`Builder` methods to draw from; default: all.
    """
    builder = Builder(draw, draw(st.sampled_from(list(opsets))), draw(st.sampled_from(list(dtypes))))
    chosen = [getattr(Builder, name) for name in steps or STEPS]
    for step in draw(st.lists(st.sampled_from(chosen), min_size=1, max_size=max_ops)):
        step(builder)
    return builder.finished()


class Builder:
    """Builds one graph; each step method adds a value that later steps may read, or does nothing where it cannot.

    Args:
        draw: Given by hypothesis.
        opset: Version of ONNX's own opset.
        dtype: Element type of the graph's floats.
    """

    def __init__(self, draw: Draw, opset: int, dtype: DataType) -> None:
        self.draw = draw
        self.opset = opset
        self.dtype = dtype
        self.graph = Graph("generated", info=ModelInfo(ir_version=8, opsets=MappingProxyType({"": opset})))
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.weights: list[Value] = []
        self.tapped: list[Value] = []
        image = draw(st.booleans())
        size = draw(st.sampled_from([0, 1, 3, 5, 6] if draw(st.integers(0, 9)) == 0 else [4, 5, 6]))
        shape = (2, 4, size, size) if image else draw(st.sampled_from([(2, 4), (3, 2, 4), (2, 3, 4)]))
        self.live = [self.graph.add_input("x", TensorType(dtype, shape))]

    # ------------------------------------------------------------ pieces

    def pick(self, *items: Any) -> Any:
        """Draw one of ``items``."""
        return self.draw(st.sampled_from(items))

    def value(self, *, rank: int | None = None) -> Value | None:
        """Draw a value to read, the latest more often than not; None where none has that rank."""
        fitting = [value for value in self.live if rank is None or len(_shape(value)) == rank]
        if not fitting:
            return None
        return fitting[-1] if self.draw(st.integers(0, 2)) else self.pick(*fitting)

    def add(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        shape: Sequence[int],
        dtype: DataType | None = None,
        **attrs: Any,
    ) -> Value:
        """Add an op with one output of a known shape; it becomes live when it is of the graph's type."""
        type_ = TensorType(dtype or self.dtype, tuple(shape))
        out = self.graph.add_op(kind, inputs, [("", type_)], attrs=attrs).output
        if type_.dtype == self.dtype and out.tensor_type is not None and (out.tensor_type.size or 0) <= _MAX_SIZE:
            self.live.append(out)
        return out

    def constant(self, data: npt.ArrayLike, dtype: DataType = DataType.INT64) -> Value:
        """Add a constant in one of the ways in which exporters write it."""
        array = np.asarray(data).astype(dtype.numpy())
        way = self.pick("initializer", "initializer", "Constant", "Identity", "ConstantOfShape")
        type_ = TensorType(dtype, array.shape)
        if way == "ConstantOfShape" and self.opset >= 9 and array.size and (array == array.flat[0]).all():
            shape = self.graph.add_constant("shape", np.array(array.shape, np.int64))
            fill = array.reshape(-1)[:1]
            return self.graph.add_op("ConstantOfShape", [shape], [("", type_)], attrs={"value": fill}).output
        if way == "Constant":
            return self.graph.add_op("Constant", [], [("", type_)], attrs={"value": array}).output
        made = self.graph.add_constant("c", array)
        return self.graph.add_op("Identity", [made], [("", type_)]).output if way == "Identity" else made

    def weight(self, *shape: int, low: float = -0.5, high: float = 0.5) -> Value:
        """Add a weight, or take one of that shape once more; now and then it is an input with a default."""
        same = [value for value in self.weights if _shape(value) == shape and low < 0]
        if same and self.pick(True, False, False):
            return self.pick(*same)  # type: ignore[no-any-return]
        array = self.rng.uniform(low, high, shape).astype(self.dtype.numpy())
        if self.draw(st.integers(0, 11)) == 0:
            from nncomp.ir import tensor

            name = self.graph.fresh_name("w")
            return self.graph.add_input(name, TensorType(self.dtype, shape), default=tensor(array, self.dtype))
        made = self.graph.add_constant("w", array) if self.pick(True, False) else self.constant(array, self.dtype)
        self.weights += [made] if low < 0 else []
        return made

    def by_axes(
        self, kind: str, value: Value, axes: list[int], shape: Sequence[int], since: int, **attrs: Any
    ) -> Value:
        """Add an op whose axes became an input with opset ``since``."""
        if self.opset >= since:
            return self.add(kind, [value, self.constant(axes)], shape, **attrs)
        return self.add(kind, [value], shape, axes=axes, **attrs)

    # ------------------------------------------------------------ steps

    def unary(self) -> None:
        """Add an activation or the like."""
        value = self.live[-1] if self.pick(True, False) else self.pick(*self.live)
        kind = self.pick(*(_CPU_DOUBLE if self.dtype is DataType.DOUBLE else _UNARY))
        self.add(kind, [value], _shape(value))

    def binary(self) -> None:
        """Add two values of one shape, or a value and a constant that broadcasts."""
        value = self.pick(*self.live)
        shape = _shape(value)
        kind = self.pick("Add", "Sub", "Mul")
        same = [other for other in self.live if _shape(other) == shape]
        if self.pick(True, False):
            self.add(kind, [value, self.pick(*same)], shape)
            return
        small = self.pick((), (1,), shape[-1:], shape, (1, *shape[1:2], *(1 for _ in shape[2:])))
        operands = [value, self.weight(*small)]
        self.add(kind, operands if self.pick(True, True, False) else operands[::-1], np.broadcast_shapes(shape, small))

    def neutral(self) -> None:
        """Add, multiply or divide with what changes nothing, or nearly nothing."""
        value = self.pick(*self.live)
        kind, number = self.pick(("Mul", 1.0), ("Div", 1.0), ("Add", 0.0), ("Add", -0.0), ("Sub", 0.0), ("Mul", 0.0))
        small = self.pick((), (1,), _shape(value)[-1:])
        self.add(kind, [value, self.constant(np.full(small, number), self.dtype)], _shape(value))

    def clip(self) -> None:
        """Limit a value, on both sides or one."""
        value = self.pick(*self.live)
        low, high = self.pick((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 2.0))
        if self.opset < 11:
            if self.dtype is not DataType.DOUBLE:
                attrs = {"min": low, "max": high}
                self.add("Clip", [value], _shape(value), **{key: end for key, end in attrs.items() if end is not None})
            return
        ends = [None if end is None else self.constant(end, self.dtype) for end in (low, high)]
        self.add("Clip", [value, *ends], _shape(value))

    def hard_swish(self) -> None:
        """Write x * clip(x + 3, 0, 6) / 6 in pieces."""
        value = self.pick(*self.live)
        if self.opset < 11:
            return
        shape = _shape(value)
        three, zero, six, again = (self.constant(number, self.dtype) for number in (3, 0, 6, 6))
        gate = self.add("Clip", [self.add("Add", [value, three], shape), zero, six], shape)
        self.add("Div", [self.add("Mul", [value, gate], shape), again], shape)

    def matmul(self) -> None:
        """Multiply with a matrix, and perhaps add a bias."""
        value = self.pick(*self.live)
        shape = _shape(value)
        if len(shape) < 2 or not shape[-1]:
            return
        columns = self.pick(shape[-1], 2, 4)
        out = self.add("MatMul", [value, self.weight(shape[-1], columns)], (*shape[:-1], columns))
        if self.pick(True, False):
            self.add("Add", [out, self.weight(columns)], _shape(out))

    def gemm(self) -> None:
        """Add a Gemm with any of its attributes."""
        value = self.value(rank=2)
        if value is None or not all(_shape(value)):
            return
        rows, inner = _shape(value)
        columns, turned = self.pick(2, 4), self.pick(0, 1)
        weight = self.weight(*((columns, inner) if turned else (inner, columns)))
        bias = self.weight(*self.pick((columns,), (1, columns), ())) if self.opset < 11 or self.pick(1, 0) else None
        attrs = {"transB": turned, "alpha": self.pick(1.0, 0.5), "beta": self.pick(1.0, 2.0)}
        self.add("Gemm", [value, weight, *([bias] if bias is not None else [])], (rows, columns), **attrs)

    def conv(self) -> None:
        """Add a convolution: groups, strides, asymmetric pads, with and without a bias."""
        value = self.value(rank=4)
        if value is None or self.dtype is DataType.DOUBLE or min(_shape(value)) < 3:
            return
        batch, channels, *size = _shape(value)
        group = self.pick(1, 1, channels, 2 if channels % 2 == 0 else 1)
        out = self.pick(4, channels) if group == 1 else channels
        kernel, stride, pads = self.pick(1, 2, 3), self.pick(1, 1, 2), self.pads(1)
        bias = [self.weight(out)] if self.pick(True, False) else []
        sizes = [(n + pads[i] + pads[i + 2] - kernel) // stride + 1 for i, n in enumerate(size)]
        weight = self.weight(out, channels // group, kernel, kernel)
        attrs = {"group": group, "pads": pads, "strides": [stride, stride]}
        self.add("Conv", [value, weight, *bias], (batch, out, *sizes), **attrs)

    def batchnorm(self) -> None:
        """Normalize over channels with fixed statistics."""
        value = self.value(rank=4)
        if value is None or self.dtype is DataType.DOUBLE:
            return
        channels = _shape(value)[1]
        scale, variance = self.weight(channels, low=0.5, high=1.5), self.weight(channels, low=0.5, high=1.5)
        inputs = [value, scale, self.weight(channels), self.weight(channels), variance]
        self.add("BatchNormalization", inputs, _shape(value))

    def pad(self) -> None:
        """Pad an image with zeros."""
        value = self.value(rank=4)
        if value is None or self.dtype is DataType.FLOAT16:
            return
        pads = self.pads(2)
        full = [0, 0, *pads[:2], 0, 0, *pads[2:]]
        shape = [n + full[axis] + full[axis + 4] for axis, n in enumerate(_shape(value))]
        if self.opset < 11:
            self.add("Pad", [value], shape, pads=full)
        else:
            self.add("Pad", [value, self.constant(full)], shape)

    def pool(self) -> None:
        """Pool an image, by windows or as a whole."""
        value = self.value(rank=4)
        if value is None or self.dtype is not DataType.FLOAT or min(_shape(value)) < 2:
            return
        kind, pads = self.pick("MaxPool", "AveragePool", "GlobalAveragePool"), self.pads(1)
        if kind == "GlobalAveragePool":
            self.add(kind, [value], (*_shape(value)[:2], 1, 1))
            return
        shape = (*_shape(value)[:2], *(n + pads[i] + pads[i + 2] - 1 for i, n in enumerate(_shape(value)[2:])))
        extra = {"count_include_pad": self.pick(0, 1)} if kind == "AveragePool" else {}
        self.add(kind, [value], shape, kernel_shape=[2, 2], pads=pads, **extra)

    def concat(self) -> None:
        """Put two values side by side."""
        value = self.pick(*self.live)
        shape = _shape(value)
        other = self.pick(*[one for one in self.live if _shape(one) == shape])
        axis = self.pick(*range(len(shape))) if shape else None
        if axis is not None and 2 * np.prod(shape) <= _MAX_SIZE:
            joined = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            self.add(
                "Concat", [value, other], joined, axis=self.pick(axis, axis - len(shape)) if self.opset >= 11 else axis
            )

    def split(self) -> None:
        """Cut a value in two; one half may stay unread."""
        value = self.pick(*self.live)
        shape = _shape(value)
        even = [axis for axis, size in enumerate(shape) if size and size % 2 == 0]
        if not even:
            return
        axis = self.pick(*even)
        half = (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])
        sizes = [shape[axis] // 2] * 2
        inputs, attrs = ([value, self.constant(sizes)], {}) if self.opset >= 13 else ([value], {"split": sizes})
        outputs = [("a", TensorType(self.dtype, half)), ("b", TensorType(self.dtype, half))]
        self.live += self.graph.add_op("Split", inputs, outputs, attrs={"axis": axis, **attrs}).outputs

    def transpose(self) -> None:
        """Permute axes."""
        value = self.pick(*self.live)
        if not _shape(value):
            return
        order = self.draw(st.permutations(range(len(_shape(value)))))
        self.add("Transpose", [value], [_shape(value)[axis] for axis in order], perm=list(order))

    def reshape(self) -> None:
        """Reshape, to a fixed target, with 0 and -1, or to sizes that are computed."""
        value = self.pick(*self.live)
        shape = _shape(value)
        if not all(shape) or not shape:
            return
        target = self.pick([-1], [shape[0], -1], list(shape), [0, -1], [1, *shape])
        if target == [0, -1] and len(shape) < 2:
            return
        if self.pick(True, False, False):
            computed = self.add("Shape", [value], [len(shape)], DataType.INT64)
            first = self.add("Gather", [computed, self.constant([0])], [1], DataType.INT64, axis=0)
            both = self.add("Concat", [first, self.constant([-1])], [2], DataType.INT64, axis=0)
            self.add("Reshape", [value, both], (shape[0], int(np.prod(shape[1:]))))
            return
        sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
        self.add("Reshape", [value, self.constant(target)], np.empty(shape, bool).reshape(sizes).shape)

    def unsqueeze(self) -> None:
        """Add an axis of size one, or take one away."""
        value = self.pick(*self.live)
        shape = _shape(value)
        ones = [axis for axis, size in enumerate(shape) if size == 1]
        if ones and self.pick(True, False):
            axis = self.pick(*ones)
            self.by_axes("Squeeze", value, [axis], (*shape[:axis], *shape[axis + 1 :]), 13)
        elif len(shape) < 5:
            axis = self.pick(*range(len(shape) + 1))
            self.by_axes("Unsqueeze", value, [axis], (*shape[:axis], 1, *shape[axis:]), 13)

    def reduce(self) -> None:
        """Reduce over some axes."""
        value = self.pick(*self.live)
        shape = _shape(value)
        if not shape or not all(shape):
            return
        kind, since = self.pick(("ReduceMean", 18), ("ReduceSum", 13), ("ReduceMax", 18))
        axes = sorted(self.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1)))
        keep = self.pick(0, 1)
        rest = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
        self.by_axes(kind, value, axes, rest, since, keepdims=keep)

    def cut(self) -> None:
        """Slice along one axis."""
        value = self.pick(*self.live)
        shape = _shape(value)
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        if not axes:
            return
        axis = self.pick(*axes)
        start, end = self.pick((0, shape[axis]), (1, shape[axis]), (0, -1), (0, 2**31))
        stop = min(end, shape[axis]) if end >= 0 else shape[axis] + end
        rest = (*shape[:axis], stop - start, *shape[axis + 1 :])
        if self.opset < 10:
            self.add("Slice", [value], rest, starts=[start], ends=[end], axes=[axis])
        else:
            self.add("Slice", [value, self.constant([start]), self.constant([end]), self.constant([axis])], rest)

    def resize(self) -> None:
        """Double an image, in nearest mode."""
        value = self.value(rank=4)
        if value is None or self.opset < 13 or self.dtype is not DataType.FLOAT or min(_shape(value)) < 1:
            return
        batch, channels, height, width = _shape(value)
        if 4 * batch * channels * height * width <= _MAX_SIZE:
            scales = self.constant([1, 1, 2, 2], DataType.FLOAT)
            self.add("Resize", [value, None, scales], (batch, channels, 2 * height, 2 * width), mode="nearest")

    def cast(self) -> None:
        """Cast there and back."""
        value = self.pick(*self.live)
        other = self.pick(DataType.FLOAT, DataType.DOUBLE, DataType.INT32)
        there = self.add("Cast", [value], _shape(value), other, to=other.value)
        self.add("Cast", [there], _shape(value), self.dtype, to=self.dtype.value)

    def branch(self) -> None:
        """Add an If, on a constant or an input, whose branches read a value from outside."""
        value = self.pick(*self.live)
        if self.pick(True, False):
            condition = self.constant(self.draw(st.booleans()), DataType.BOOL)
        else:
            condition = self.graph.add_input(self.graph.fresh_name("go"), TensorType(DataType.BOOL, ()))
        bodies = {}
        for name in ("then_branch", "else_branch"):
            body = Graph(name, info=self.graph.info)
            inner = body.declare_capture(value)
            first = body.add_op(self.pick(*_CPU_DOUBLE), [inner], [("", value.type)]).output
            body.set_outputs([body.add_op(self.pick(*_CPU_DOUBLE), [first], [("", value.type)]).output])
            bodies[name] = body
        self.live.append(self.graph.add_op("If", [condition], [("", value.type)], bodies=bodies).output)

    def tap(self) -> None:
        """Give out a value that others read, too."""
        self.tapped.append(self.pick(*self.live))

    def pads(self, most: int) -> list[int]:
        """Draw pads of two axes, begins before ends."""
        return [self.draw(st.integers(0, most)) for _ in range(4)]

    def finished(self) -> Graph:
        """Return the graph; what no op made is given out through an Identity."""
        outputs = dict.fromkeys([*self.tapped, self.live[-1]])
        made = [
            value if value.producer is not None else self.graph.add_op("Identity", [value], [("", value.type)]).output
            for value in outputs
        ]
        self.graph.set_outputs(made)
        return self.graph


STEPS: Final = (
    "unary", "unary", "binary", "binary", "neutral", "clip", "hard_swish", "matmul", "gemm", "conv", "conv",
    "batchnorm", "pad", "pool", "concat", "split", "transpose", "transpose", "reshape", "reshape", "unsqueeze",
    "reduce", "cut", "resize", "cast", "branch", "tap",
)  # fmt: skip
"""Steps to draw from, by their names in :class:`Builder`; what stands twice comes twice as often."""


def _shape(value: Value) -> tuple[int, ...]:
    type_ = value.tensor_type
    assert type_ is not None
    shape = type_.static_shape
    assert shape is not None
    return shape
