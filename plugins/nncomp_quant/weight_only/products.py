"""Which products get integer weights: y = x W^T + b with W constant, and ops that share one W share its codes."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op, Tensor, Value
from nncomp.ops import OpTable, QuantRole, Role

MIN_ELEMENTS = 1 << 12
"""A smaller weight is not worth another kernel."""


@dataclass
class Product:
    """One weight and the ops of one graph that multiply by it.

    Attributes:
        graph: The graph or body that the ops are in.
        weight: The constant.
        axis: Axis of its output channels, 0 or 1.
        ops: In topological order.
    """

    graph: Graph
    weight: Value
    axis: int
    ops: list[Op] = field(default_factory=list)

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the weight as (O, K), a view; let go of it soon, for it may be mapped from a file."""
        array = self.graph.array(self.weight)
        assert array is not None
        return np.asarray(np.moveaxis(array, self.axis, 0))

    @property
    def inputs(self) -> int:
        """Number of inputs, K."""
        return self._tensor.shape[1 - self.axis]

    @property
    def outputs(self) -> int:
        """Number of output channels, O."""
        return self._tensor.shape[self.axis]

    @property
    def _tensor(self) -> Tensor:
        tensor = self.graph.constant(self.weight)
        assert tensor is not None
        return tensor


def find_products(graph: Graph, ops: OpTable, *, skip: Set[Op] = frozenset()) -> tuple[list[Product], dict[Op, str]]:
    """Return the products of a model, bodies included, and why others stay float.

    Args:
        graph: Typed.
        ops: Roles.
        skip: Ops to leave float.
    """
    found: dict[tuple[Graph, int, int], Product] = {}
    left: dict[Op, str] = {}
    for part, op in graph.walk():
        role = ops.quant(op, graph.opsets)
        if role.role is not Role.COMPUTE or role.weight is None:
            continue
        weight, transposed = _stored(op.input(role.weight))
        tensor = part.constant(weight)
        reason = "skipped by option" if op in skip else _objection(op, role, tensor)
        if reason:
            left[op] = reason
            continue
        assert weight is not None and tensor is not None and role.weight_axis is not None
        axis = (role.weight_axis(op) + transposed) % 2
        product = found.setdefault((part, id(tensor), axis), Product(part, weight, axis))
        product.ops.append(op)
    return list(found.values()), left


def _stored(value: Value | None) -> tuple[Value | None, bool]:
    """Return what a weight is stored as, and whether it is read transposed: tied embeddings are."""
    op = value.producer if value is not None else None
    if op is not None and op.is_a("Transpose") and op.attr("perm", (1, 0)) == (1, 0):
        return op.inputs[0], True
    return value, False


def _objection(op: Op, role: QuantRole, weight: Tensor | None) -> str:
    if weight is None:
        return "its weight is computed"
    if len(weight.shape) != 2:
        return f"its weight has {len(weight.shape)} axes, products by blocks take 2"
    factors = (op.attr("alpha", 1.0), op.attr("beta", 1.0), op.attr("transA", 0))
    if role.weight not in role.data or role.weight_axis is None or op.domain or factors != (1.0, 1.0, 0):
        return "it is no plain product of an activation and a weight"
    if op.attr("equation") is not None:
        return "it is no plain product of an activation and a weight"
    if weight.dtype != DataType.FLOAT:
        return f"its weight is {weight.dtype.name.lower()}, not float32"
    if weight.size < MIN_ELEMENTS:
        return f"its weight has {weight.size} elements, which is too few to gain anything"
    return ""
