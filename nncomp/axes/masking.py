"""masked: the same network at its old size, with a 0/1 mask in front of each contraction of a removed atom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt

from nncomp.axes.model import AxisAnalysis
from nncomp.ir import DataType, Graph, Op, Value
from nncomp.ops.coupling import Atoms, Contraction


def masked(analysis: AxisAnalysis, atoms: Iterable[int] | Atoms) -> Graph:
    """Return a copy of the analysed graph that does what it does with ``atoms`` removed, built from the graph itself.

    It is the reference that :func:`nncomp.axes.remove` is held against: equal in real arithmetic for every input.
    """
    alive = analysis.alive(atoms)
    copy, twins = analysis.graph.clone_with_map()
    graphs = {analysis.graph: copy}
    for _, op in analysis.graph.walk():
        twin = cast(Op, twins[op])
        graphs.update({body: twin.bodies[name] for name, body in op.bodies.items()})
    for one in analysis.contractions:
        kept = alive[analysis.closed[one.atoms]]
        if not kept.all():
            value = one.op.inputs[one.slot]
            assert value is not None
            rank = len(analysis.labels[value])  # a value that a body captures need not have a type of its own
            flags = kept.reshape([-1 if place == one.axis else 1 for place in range(rank)])
            _mask(graphs[one.graph], cast(Op, twins[one.op]), one, flags)
    return copy


def _mask(graph: Graph, op: Op, one: Contraction, flags: npt.NDArray[np.bool_]) -> None:
    value = op.inputs[one.slot]
    assert value is not None
    mask = graph.add_constant(f"{value.name}_mask", flags)
    zero = op.input(one.zero_slot) if one.zero_slot is not None else None
    if zero is None:
        zero = graph.add_constant(f"{value.name}_zero", np.zeros((), _numpy_type(value)))
    chosen = graph.add_op("Where", [mask, value, zero], [(f"{value.name}_masked", value.type)])
    graph.set_input(op, one.slot, chosen.output)


def _numpy_type(value: Value) -> np.dtype[np.generic]:
    type_ = value.tensor_type
    return (DataType.FLOAT if type_ is None else type_.dtype).numpy()
