"""Call: one op that is lowered, with what its inputs became."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from nncomp.ir import Graph, Op
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
