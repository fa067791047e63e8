"""Builder: a graph under construction for :mod:`nncomp.testing.generate`, with what its steps need to draw and add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, ModelInfo, TensorType, Value, tensor

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("nncomp.testing.generate needs hypothesis: pip install hypothesis") from error

__all__ = ["MAX_SIZE", "Builder", "Draw", "shape_of", "st"]  # st: found once, with the message above

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

MAX_SIZE: Final = 4096  # elements of one value


class Builder:
    """Builds one graph: steps draw from what is there, and add values that later steps may read.

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

    def pick(self, *items: Any) -> Any:
        """Draw one of ``items``."""
        return self.draw(st.sampled_from(items))

    def value(self, *, rank: int | None = None) -> Value | None:
        """Draw a value to read, the latest more often than not; None where none has that rank."""
        fitting = [value for value in self.live if rank is None or len(shape_of(value)) == rank]
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
        if type_.dtype == self.dtype and out.tensor_type is not None and (out.tensor_type.size or 0) <= MAX_SIZE:
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
        same = [value for value in self.weights if shape_of(value) == shape and low < 0]
        if same and self.pick(True, False, False):
            return self.pick(*same)  # type: ignore[no-any-return]
        array = self.rng.uniform(low, high, shape).astype(self.dtype.numpy())
        if self.draw(st.integers(0, 11)) == 0:
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


def shape_of(value: Value) -> tuple[int, ...]:
    """Return the static shape, which every value has."""
    type_ = value.tensor_type
    assert type_ is not None
    shape = type_.static_shape
    assert shape is not None
    return shape
