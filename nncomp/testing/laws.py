"""check_axes: hold an axes rule to its promise, the local lemma, on one op.

    restrict(f(x, weights)) == f'(restrict(x), restrict(weights))

for random sets of atoms that may go, where on a contracted axis x is multiplied by the 0/1 mask. The op is put between
layers of its own that set its operands' elements free: each computed operand is a constant plus an input that only
broadcasts, and each output is summed up, so that nothing else pins or ties anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.axes import AxisAnalysis, analyse, masked, remove
from nncomp.gate import compare
from nncomp.ir import DataType, Graph, TensorType, Value
from nncomp.ops import OpTable
from nncomp.ops.coupling import Atoms


@dataclass(frozen=True, slots=True)
class LawReport:
    """What was tried.

    Attributes:
        analysis: Of the graph that was built around the op.
        removals: How many sets of atoms were removed.
        free: Names of tensors of the op that have an axis with atoms that may go, as ``name[axis]``.
    """

    analysis: AxisAnalysis
    removals: int
    free: tuple[str, ...]


def check_axes(
    graph: Graph, ops: OpTable | None = None, *, trials: int = 8, rtol: float = 1e-5, seed: int = 0
) -> LawReport:
    """Assert that the axes rules of a graph's ops hold the local lemma.

    Args:
        graph: One op, or a few, as :func:`nncomp.testing.graph` makes them: float inputs of static shape become
            operands whose elements may go, constants stay as they are, outputs are summed up.
        ops: The table with the rules; default: nncomp's own.
        trials: Random sets of atoms to remove, each of another size.
        rtol: Relative tolerance (L2) of the sums.
        seed: Of weights, inputs and sets.

    Raises:
        AssertionError: after some removal the results differ, or the graph does not run.
        RuntimeFailure: the graph does not run as it is.
    """
    rng = np.random.default_rng(seed)
    framed = _framed(graph, rng)
    found = analyse(framed, ops)
    free = tuple(f"{one.value.name}[{one.axis}]" for dimension in found.dimensions for one in dimension.members)
    feeds = {"law_input": rng.standard_normal(1).astype(np.float32)}
    done = 0
    for trial in range(trials if found.count else 0):
        copy = framed.clone()
        again = analyse(copy, ops)
        atoms = _removable(again, rng, share=(trial + 1) / (trials + 1))
        if not atoms.size:
            continue
        _assert_equal(again, copy, atoms, feeds, rtol)
        done += 1
    return LawReport(found, done, free)


def _assert_equal(analysis: AxisAnalysis, graph: Graph, atoms: Atoms, feeds: dict[str, Any], rtol: float) -> None:
    from nncomp.runtime import RuntimeFailure, run

    reference = masked(analysis, atoms)
    expected = run(reference, feeds)
    remove(analysis, atoms)
    try:
        got = run(graph, feeds)
    except RuntimeFailure as error:
        raise AssertionError(f"without atoms {atoms.tolist()} the graph does not run: {error.message}") from error
    deviation = compare([expected], [got])
    assert deviation.relative <= rtol, (
        f"without atoms {atoms.tolist()}, output {deviation.worst_output!r} is off by {deviation.relative:.3g} relative"
    )


def _removable(analysis: AxisAnalysis, rng: np.random.Generator, *, share: float) -> Atoms:
    """Return a random set of atoms that leaves no axis empty."""
    atoms = rng.permutation(np.arange(1, analysis.count + 1))[: max(1, round(share * analysis.count))]
    while atoms.size and analysis.emptied(atoms):
        atoms = atoms[:-1]
    return atoms


def _framed(graph: Graph, rng: np.random.Generator) -> Graph:
    """Return the graph with constants for its float inputs, shifted by an input, and sums of its outputs."""
    framed = Graph(graph.name, info=graph.info)
    shift = framed.add_input("law_input", TensorType(DataType.FLOAT, (1,)))
    given: dict[Value, Value] = {}
    for value in graph.inputs:
        type_ = value.tensor_type
        shape = None if type_ is None else type_.static_shape
        if type_ is None or shape is None:
            raise AssertionError(f"input {value.name!r} has no static shape")
        data: npt.NDArray[Any] = rng.standard_normal(shape)
        if not type_.dtype.is_floating_point():
            given[value] = framed.add_constant(value.name, rng.integers(0, 2, shape).astype(type_.dtype.numpy()))
            continue
        constant = framed.add_constant(f"{value.name}_data", data.astype(type_.dtype.numpy()))
        moved = shift
        if type_.dtype is not DataType.FLOAT:
            moved = framed.add_op("Cast", [shift], attrs={"to": type_.dtype.value}).output
        given[value] = framed.add_op("Add" if shape else "Mul", [constant, moved], [(value.name, type_)]).output
    made = framed.insert_copy(graph, given)
    framed.set_outputs([_summed(framed, made[value], rng) for value in graph.outputs])
    return framed


def _summed(framed: Graph, value: Value, rng: np.random.Generator) -> Value:
    """Return the sum of an output's elements, each weighed: Einsum would do, but not for every rank."""
    type_ = value.tensor_type
    if type_ is None or type_.static_shape is None:
        raise AssertionError(f"output {value.name!r} has no static shape")
    whole = framed.add_op("Cast", [value], [("", TensorType(DataType.FLOAT, type_.shape))], attrs={"to": 1}).output
    for axis, size in enumerate(type_.static_shape):
        if size > 1:
            shape = [-1 if place == axis else 1 for place in range(len(type_.static_shape))]
            weights = rng.uniform(0.5, 1.5, size).astype(np.float32).reshape(shape)
            whole = framed.add_op("Mul", [whole, framed.add_constant("law_weights", weights)]).output
    return framed.add_op("ReduceSum", [whole], [f"{value.name}_sum"], attrs={"keepdims": 0}).output
