"""OpTable: rows of op semantics, looked up by domain, kind and opset version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nncomp.errors import PluginError
from nncomp.ir import Graph, Op
from nncomp.ops.matrix import MatrixView
from nncomp.ops.nests import LoopNest
from nncomp.ops.semantics import Cost, OpSemantics, QuantRole, Role

NO_ROW = QuantRole(Role.BARRIER, data=(), reason="no op semantics: nothing is known about this op")


class OpTable:
    """An immutable set of rows; iterating yields them all.

    Raises:
        PluginError: two rows claim one op at one version (NNC-P003).
    """

    def __init__(self, rows: Iterable[OpSemantics]) -> None:
        self._rows: dict[tuple[str, str], tuple[OpSemantics, ...]] = {}
        for row in rows:
            key = (row.domain, row.kind)
            others = self._rows.get(key, ())
            for other in others:
                if _overlap(row, other):
                    raise PluginError(
                        f"op semantics for {row.domain or 'ai.onnx'}.{row.kind} are given twice", code="NNC-P003"
                    )
            self._rows[key] = (*others, row)

    def __iter__(self) -> Iterator[OpSemantics]:
        return iter([row for rows in self._rows.values() for row in rows])

    def extended(self, rows: Iterable[OpSemantics]) -> OpTable:
        """Return a table with ``rows`` added."""
        return OpTable([*self, *rows])

    def row(self, op: Op, opsets: Mapping[str, int]) -> OpSemantics | None:
        """Return the row for ``op`` at the opset that the model imports, None if there is none."""
        version = opsets.get(op.domain, 1)
        for row in self._rows.get((op.domain, op.kind), ()):
            if row.since <= version and (row.until is None or version <= row.until):
                return row
        return None

    def quant(self, op: Op, opsets: Mapping[str, int]) -> QuantRole:
        """Return the quantization role of ``op``; a barrier with its reason when nothing is known."""
        row = self.row(op, opsets)
        if row is None or row.quant is None:
            return NO_ROW
        return row.quant if isinstance(row.quant, QuantRole) else row.quant(op)

    def matrix(self, op: Op, graph: Graph) -> MatrixView | None:
        """Return ``op`` as a matrix times rows of its data; None where no constant operand makes it one."""
        row = self.row(op, graph.opsets)
        return None if row is None or row.matrix is None else row.matrix(op, graph)

    def nests(self, op: Op, opsets: Mapping[str, int]) -> tuple[LoopNest, ...] | None:
        """Return the loop nests of ``op``; None when it has none, or when they are not known."""
        row = self.row(op, opsets)
        return None if row is None or row.nest is None else row.nest(op)

    def cost(self, op: Op, graph: Graph) -> Cost | None:
        """Return the cost of one run of ``op``; None when a shape that it needs is not static, or it has no row."""
        row = self.row(op, graph.opsets)
        if row is None:
            return None
        written = [value.tensor_type for value in op.outputs if value.name]
        read = [value.tensor_type for value in op.inputs if value is not None]
        sizes = [None if type_ is None else type_.size for type_ in written]
        if row.cost is not None:
            counted = row.cost(op)
        else:
            counted = None if None in sizes else (0, sum(size or 0 for size in sizes))
        if counted is None:
            return None
        return Cost(
            macs=counted[0],
            elementary=counted[1],
            params=_params(op, graph, self.quant(op, graph.opsets)),
            bytes_read=sum((type_.nbytes or 0) for type_ in read if type_ is not None),
            bytes_written=sum((type_.nbytes or 0) for type_ in written if type_ is not None),
        )


def _params(op: Op, graph: Graph, role: QuantRole) -> int:
    """Count floating-point constants, and integer ones where the role says that they are weights (QLinearConv)."""
    constants = [(slot, graph.constant(value)) for slot, value in enumerate(op.inputs)]
    return sum(
        tensor.size
        for slot, tensor in constants
        if tensor is not None and (tensor.dtype.is_floating_point() or slot in (role.weight, role.bias))
    )


def _overlap(a: OpSemantics, b: OpSemantics) -> bool:
    return (a.until is None or b.since <= a.until) and (b.until is None or a.since <= b.until)
