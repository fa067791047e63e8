"""How each kind of dataflow works through a layer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.cartesian import run_cartesian
from nncomp_sparse.engines.chains import run_chain
from nncomp_sparse.engines.execution import Engine, Execution
from nncomp_sparse.engines.matvec import run_matvec
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.engines.outer import run_outer
from nncomp_sparse.engines.row_stationary import run_rows
from nncomp_sparse.engines.systolic import run_fusion, run_systolic
from nncomp_sparse.search import Objective

ENGINES: Final[Mapping[str, Engine]] = MappingProxyType(
    {
        "systolic": run_systolic,
        "fusion-array": run_fusion,
        "row-stationary": run_rows,
        "column-serial": run_matvec,
        "cartesian": run_cartesian,
        "outer-product": run_outer,
        "tensor-train": run_chain,
    }
)
"""By kind of dataflow; machines of any other kind tile loops."""


def execute(costing: Costing, objective: Objective) -> Execution:
    """Return what a layer does on its machine.

    Raises:
        UnsupportedError: no tile of the layer fits a memory (NNC-T002).
    """
    return ENGINES.get(costing.machine.dataflow.kind, run_nest)(costing, objective)


__all__ = ["ENGINES", "Engine", "Execution", "execute"]
