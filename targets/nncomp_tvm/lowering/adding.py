"""Adding: ONNX ops written as calls, for who says one op in others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Value


class Adding:
    """Adds ops to a graph.

    Args:
        graph: What they are added to; opset 13 or later, where axes are inputs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, kind: str, *inputs: Value | None, outputs: int = 1, **attrs: Any) -> Any:
        """Add an op; return its output, or a tuple of them if there are several."""
        names = [f"{kind.lower()}_{number}" for number in range(outputs)]
        found = self.graph.add_op(kind, inputs, names, attrs=attrs).outputs
        return found[0] if outputs == 1 else found

    def constant(self, data: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> Value:
        """Add a constant."""
        return self.graph.add_constant("const", np.asarray(data, dtype))

    def part(self, data: Value, axis: int, begin: int, end: int) -> Value:
        """Slice one axis."""
        found: Value = self(
            "Slice", data, self.constant([begin]), self.constant([end]), self.constant([axis]), self.constant([1])
        )
        return found

    def at(self, data: Value, axis: int, place: int) -> Value:
        """Take one element of an axis, which goes."""
        found: Value = self("Gather", data, self.constant(place), axis=axis)
        return found

    def reduced(self, kind: str, data: Value, axes: Sequence[int]) -> Value:
        """Reduce axes, which stay with the size 1."""
        if self.graph.opsets.get("", 1) >= (13 if kind == "ReduceSum" else 18):
            found: Value = self(kind, data, self.constant(list(axes)), keepdims=1)
        else:
            found = self(kind, data, axes=tuple(axes), keepdims=1)
        return found

    def stacked(self, items: list[Value], axis: int) -> Value:
        """Put values side by side along a new axis."""
        found: Value = self("Concat", *(self("Unsqueeze", one, self.constant([axis])) for one in items), axis=axis)
        return found


def static_shape(value: Value | None) -> tuple[int, ...] | None:
    """Return the sizes of a value when all are known."""
    return None if value is None or value.tensor_type is None else value.tensor_type.static_shape


def dtype_of(value: Value) -> np.dtype[Any]:
    """Return the element type of a tensor whose type is known."""
    assert value.tensor_type is not None
    return value.tensor_type.dtype.numpy()


def number(graph: Graph, value: Value | None) -> int | None:
    """Return a constant scalar, None when it is none, or is not given."""
    known = graph.array(value) if value is not None else None
    return None if known is None else int(np.ravel(known)[0])
