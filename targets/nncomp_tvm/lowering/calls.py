"""Call: one op that is lowered, with what its inputs became."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op
from nncomp_tvm.library import Expr


class NotLoweredError(Exception):
    """An op does not lower; the message says why. Users see it as a refusal that names the op."""


@dataclass(frozen=True)
class Call:
    """An op and its operands.

    Attributes:
        op: What is lowered.
        graph: The graph that it stands in; types are inferred.
        builder: Where it is emitted.
        inputs: Relax expressions by slot; None for what is not given.
        arrays: The numbers by slot, of inputs that are known before the run.
    """

    op: Op
    graph: Graph
    builder: Any
    inputs: list[Expr | None]
    arrays: list[npt.NDArray[Any] | None]

    @property
    def opset(self) -> int:
        """Version of ONNX's own opset."""
        return self.graph.opsets.get("", 1)

    def given(self, slot: int) -> bool:
        """Whether the input at ``slot`` is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def array(self, slot: int) -> npt.NDArray[Any] | None:
        """The numbers of the input at ``slot``, None when they are not known before the run, or it is not given."""
        return self.arrays[slot] if slot < len(self.arrays) else None

    def shape(self, slot: int) -> tuple[int | str | None, ...] | None:
        """Sizes of the input at ``slot``, as far as ONNX infers them."""
        value = self.op.input(slot)
        return None if value is None else value.shape

    def static_shape(self, slot: int) -> tuple[int, ...] | None:
        """Sizes of the input at ``slot`` when all are known."""
        value = self.op.input(slot)
        return None if value is None or value.tensor_type is None else value.tensor_type.static_shape

    def dtype(self, slot: int) -> np.dtype[Any]:
        """Element type of the input at ``slot``.

        Raises:
            NotLoweredError: it is not known.
        """
        value = self.op.input(slot)
        if value is None or value.tensor_type is None or value.tensor_type.dtype is DataType.UNDEFINED:
            raise NotLoweredError(f"the type of its input {slot} is not known")
        return value.tensor_type.dtype.numpy()
