"""check_removal: a pruned network held against its masked reference on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.axes.masking import masked
from nncomp.axes.model import AxisAnalysis, Labels, is_constant
from nncomp.axes.surgery import remove
from nncomp.errors import GateError, UnsupportedError
from nncomp.gate import REASSOCIATION_LIMIT, Deviation, Gate, compare
from nncomp.ir import DataType, Graph, TensorType
from nncomp.ops.coupling import Atoms
from nncomp.runtime import Feeds, RuntimeFailure, Session, random_feeds

_NUDGE_FACTOR: Final = 10.0  # sums of many terms round that many times


def remove_checked(
    analysis: AxisAnalysis, atoms: Iterable[int] | Atoms, gate: Gate | None = None, *, seed: int = 0
) -> Deviation | None:
    """Remove ``atoms`` and hold the result against the masked reference, which is built before.

    Args:
        analysis: What was analysed; its graph is changed.
        atoms: Closed atoms.
        gate: Has the inputs to compare on; None makes random ones.
        seed: Of the random inputs.

    Returns:
        How far both are apart; None when the reference cannot be run on these inputs.

    Raises:
        GateError: pruned and masked network differ (NNC-G001); the graph is changed then.
        UnsupportedError: as :func:`nncomp.axes.remove`.
    """
    removed = np.asarray(list(atoms), np.int64)
    reference = masked(analysis, removed)
    names = {
        value.name: labels for value, labels in analysis.labels.items() if analysis.owners[value] is analysis.graph
    }
    remove(analysis, removed)
    try:
        feeds = None if gate is None else gate.feeds(reference)
    except UnsupportedError:  # no inputs can be made up
        return None
    return check_removal(reference, analysis.graph, feeds, seed=seed, labels=names, alive=analysis.alive(removed))


def check_removal(
    reference: Graph,
    pruned: Graph,
    feeds: Sequence[Feeds] | None = None,
    *,
    seed: int = 0,
    labels: Mapping[str, Labels] | None = None,
    alive: npt.NDArray[np.bool_] | None = None,
) -> Deviation | None:
    """Compare a pruned network with its masked reference.

    They may differ by rounding: by 1e-5 relative, or by as much as the reference itself moves when each of its weights
    moves by its last bit, which is what counts where an output cancels or saturates.

    Args:
        reference: See :func:`nncomp.axes.masked`.
        pruned: See :func:`nncomp.axes.remove`.
        feeds: Inputs to compare on; None makes random ones.
        seed: Of the random inputs and of the moved bits.
        labels: Closed atoms by value name, and ...
        alive: ... which of them are left, to name the op at which the two part.

    Returns:
        How far both are apart; None when the reference cannot be run on these inputs.

    Raises:
        GateError: they differ (NNC-G001).
    """
    try:
        inputs = list(feeds) if feeds else [random_feeds(reference, seed=seed, unknown=2)]
        expected = _outputs(reference, inputs)
    except (RuntimeFailure, UnsupportedError):
        return None
    try:
        found = compare(expected, _outputs(pruned, inputs))
    except RuntimeFailure as error:
        raise GateError(f"the pruned network does not run: {error.message}", code="NNC-G001") from error
    if found.relative <= REASSOCIATION_LIMIT:
        return found
    moved = compare(expected, _outputs(_nudged(reference, seed), inputs)).relative
    if found.relative <= _NUDGE_FACTOR * moved:
        return found
    where = "" if labels is None or alive is None else _first_difference(reference, pruned, inputs[0], labels, alive)
    raise GateError(
        f"the pruned network differs from its masked reference by {found.relative:.3g} relative"
        f"{f', first at {where}' if where else ''}",
        code="NNC-G001",
        hint="the axes rule of that op, or of one before it, is wrong: nncomp.testing.check_axes tests a rule",
    )


def _outputs(graph: Graph, feeds: Sequence[Feeds]) -> list[dict[str, Any]]:
    session = Session(graph)
    return [session.run(feed) for feed in feeds]


def _nudged(graph: Graph, seed: int) -> Graph:
    """Return a copy whose float32 weights are each moved up or down by one part in 2^23."""
    copy = graph.clone()
    rng = np.random.default_rng(seed)
    for part in copy.graphs():
        for value in part.values():
            data = part.constant(value) if is_constant(value) else None
            if data is not None and data.dtype is DataType.FLOAT and len(data.shape) > 1:
                signs = rng.integers(0, 2, data.shape, np.int8).astype(np.float32) * 2 - 1
                moved = data.numpy() * (1 + signs * np.float32(2.0**-23))
                part.replace_uses(value, part.add_constant(value.name, moved))
    return copy


def _first_difference(
    reference: Graph, pruned: Graph, feeds: Feeds, labels: Mapping[str, Labels], alive: npt.NDArray[np.bool_]
) -> str:
    """Return the label of the first op whose output, cut to what is left, differs from the reference's."""
    values = [value for op in pruned.ops() for value in op.outputs if value.name and reference.has_name(value.name)]
    names = [value.name for value in values if isinstance(value.type, TensorType)]
    try:
        expected, found = (Session(graph, outputs=names).run(feeds) for graph in (reference, pruned))
    except RuntimeFailure:
        return ""
    for name in names:
        cut = expected[name]
        for axis, atoms in enumerate(labels.get(name, ())):
            cut = cut if atoms is None else np.compress(alive[atoms], cut, axis=axis)
        if compare([{name: cut}], [{name: found[name]}]).relative > REASSOCIATION_LIMIT:
            producer = pruned.find(name).producer
            return name if producer is None else producer.label
    return ""
