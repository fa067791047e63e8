"""Remove half of what can be removed from each model, and hold the result against its masked reference.

    python tests/bench/prune_architectures.py MODEL.onnx ... [--share 0.5]

Models: those of tests/dev/export_architectures.py, or any. Which atoms go is drawn at random, so that nothing about the
weights helps; of each dimension the same share goes. Exit status 1 when a model fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from nncomp.axes import AxisAnalysis, analyse, remove_checked
from nncomp.errors import NncompError
from nncomp.onnx_io import load

COLUMNS = ("model", "ops", "analysis, CPU s", "dimensions", "atoms", "params", "MACs", "pruned against masked")


def drawn(analysis: AxisAnalysis, share: float) -> np.ndarray:
    """Return ``share`` of the atoms of each dimension, at random; of one with a single atom none."""
    rng = np.random.default_rng(0)
    parts = [rng.choice(one.atoms, int(share * len(one)), replace=False) for one in analysis.dimensions]
    return np.concatenate(parts or [np.zeros(0, np.int64)])


def row(path: Path, share: float) -> tuple[str, ...]:
    """Prune one model; return what happened.

    Raises:
        GateError: pruned and masked network differ.
        UnsupportedError: something would be empty.
    """
    graph = load(path)
    ops = sum(1 for _ in graph.walk())
    started = time.process_time()
    analysis = analyse(graph)
    seconds = time.process_time() - started
    atoms = drawn(analysis, share)
    params, macs = (analysis.params(), analysis.params(atoms)), (analysis.macs(), analysis.macs(atoms))
    deviation = remove_checked(analysis, atoms)
    return (
        path.name.removesuffix(".onnx"),
        str(ops),
        f"{seconds:.2f}",
        str(len(analysis.dimensions)),
        str(analysis.count),
        f"{params[0]:,} -> {params[1]:,}",
        f"x{macs[1] / macs[0]:.2f}" if macs[0] else "?",
        "not run" if deviation is None else f"{deviation.relative:.1e}",
    )


def main() -> int:
    """Prune what the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    failed = 0
    for path in given.models:
        try:
            cells = row(path, given.share)
        except NncompError as error:
            failed += 1
            cells = (path.name, "", "", "", "", "", "", f"{error.code} {error.message}")
        print("| " + " | ".join(cells) + " |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
