"""check_removal: a pruned network held against its masked reference on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable

from nncomp.axes.masking import masked
from nncomp.axes.model import AxisAnalysis
from nncomp.axes.surgery import remove
from nncomp.errors import GateError
from nncomp.gate import Deviation, Gate
from nncomp.ir import Graph
from nncomp.ops.coupling import Atoms
from nncomp.passes import Effect


def remove_checked(analysis: AxisAnalysis, atoms: Iterable[int] | Atoms, gate: Gate | None = None) -> Deviation | None:
    """Remove ``atoms`` and hold the result against the masked reference, which is built before.

    Returns:
        How far both are apart; None when the graph cannot be run for comparison.

    Raises:
        GateError: pruned and masked network differ (NNC-G001); the graph is changed then.
        UnsupportedError: as :func:`nncomp.axes.remove`.
    """
    reference = masked(analysis, atoms)
    remove(analysis, atoms)
    return check_removal(reference, analysis.graph, gate)


def check_removal(reference: Graph, pruned: Graph, gate: Gate | None = None) -> Deviation | None:
    """Compare a pruned network with its masked reference.

    Returns:
        How far both are apart; None when the reference cannot be run.

    Raises:
        GateError: they differ by more than rounding (NNC-G001).
    """
    found = (gate or Gate()).check(reference, pruned, Effect.REASSOCIATES)
    if not found.passed:
        distance = "" if found.deviation is None else f" by {found.deviation.relative:.3g} relative"
        where = found.first_divergence
        raise GateError(
            f"the pruned network differs from its masked reference{distance}{f', first at {where}' if where else ''}",
            code="NNC-G001",
            hint="the axes rule of that op, or of one before it, is wrong: nncomp.testing.check_axes tests a rule",
        )
    return found.deviation
