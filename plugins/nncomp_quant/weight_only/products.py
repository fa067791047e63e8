"""Which products get integer weights: y = x W^T + b with W constant, and ops that share one W share its codes."""

from __future__ import annotations

from collections.abc import Iterator, Set
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
        weight: The constant as the ops read it.
        axis: Axis of the output channels, 0 or 1.
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
        reason = "skipped by option" if op in skip else _objection(part, op, role)
        if reason:
            left[op] = reason
            continue
        weight = op.inputs[role.weight]
        tensor = part.constant(weight)
        assert weight is not None and tensor is not None and role.weight_axis is not None
        axis = role.weight_axis(op) % 2
        product = found.setdefault((part, id(tensor), axis), Product(part, weight, axis))
        product.ops.append(op)
    return list(found.values()), left


def bias_of(op: Op, role: QuantRole) -> Value | None:
    """Return the bias of a product."""
    return op.input(role.bias) if role.bias is not None else None


def chunks(rows: npt.NDArray[np.float32], size: int = 1 << 22) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (first row, rows) of about ``size`` elements each, so that what is computed from them stays small."""
    step = max(size // max(rows.shape[1], 1), 1)
    for start in range(0, rows.shape[0], step):
        yield start, np.asarray(rows[start : start + step], np.float32)


def _objection(graph: Graph, op: Op, role: QuantRole) -> str:
    assert role.weight is not None
    weight = graph.constant(op.input(role.weight))
    if weight is None:
        return "its weight is computed"
    if len(weight.shape) != 2:
        return f"its weight has {len(weight.shape)} axes, products by blocks take 2"
    if role.weight not in role.data or role.weight_axis is None or op.domain:
        return "it is no plain product of an activation and a weight"
    if weight.dtype != DataType.FLOAT:
        return f"its weight is {weight.dtype.name.lower()}, not float32"
    if op.attr("alpha", 1.0) != 1.0 or op.attr("beta", 1.0) != 1.0 or op.attr("transA", 0) or op.kind == "Einsum":
        return "it is no plain product of an activation and a weight"
    if weight.size < MIN_ELEMENTS:
        return f"its weight has {weight.size} elements, which is too few to gain anything"
    return ""
