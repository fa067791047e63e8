"""One model in several compressed forms, priced on several machines, with its accuracy measured: a table and a Pareto.

    python tests/bench/accelerator_variants.py model.onnx calibration.npz evaluation.npz [--variant NAME ...]

The files hold the model's inputs by name; the evaluation file an array ``y`` of labels, too. Each form is made from
another one (``--variant`` makes those that it needs as well). Forms that spend by a machine's prices are made for that
machine, and priced on it alone.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import nncomp
from nncomp.compiler import CompileRequest, compile_model
from nncomp.data import open_data
from nncomp.onnx_io import load, save
from nncomp.plugins import Registry
from nncomp.runtime import Session
from nncomp_sparse.target import SparseTarget

MACHINES = ("eyeriss", "eyeriss-v2", "bitfusion", "sparse-tensor-core")
INT8, INT4 = ("equalize", "quantize"), ("equalize", "quantize{weight_bits=4}")
VARIANTS = {
    # name: what it is made from, passes, machine
    "dense": (None, ("cleanup", "fuse", "cleanup"), None),
    "INT8": ("dense", INT8, None),
    "INT4 weights": ("dense", INT4, None),
    "2:4": ("dense", ('sparsify{pattern="2:4"}',), None),
    "80 % zeros": ("dense", ("sparsify{sparsity=0.8}",), None),
    "pruned x0.5": ("dense", ("prune-structured{macs=0.5}",), None),
    "2:4, INT8": ("2:4", INT8, None),
    "80 % zeros, INT8": ("80 % zeros", INT8, None),
    "pruned x0.5, INT8": ("pruned x0.5", INT8, None),
    "pruned x0.5, INT4 weights": ("pruned x0.5", INT4, None),
    "2:4, INT4 weights": ("2:4", INT4, None),
    "Tucker x0.7": ("dense", ('decompose{macs=0.7, forms=["tucker"], only_faster=false}',), None),
    "INT4 where it pays": ("dense", ("equalize", "quantize{energy=0.88}"), "bitfusion"),
    "low rank for energy x0.9": ("dense", ('decompose{energy=0.9, forms=["tucker", "svd", "spatial"]}',), "eyeriss"),
    "pruned for energy x0.6": ("dense", ("prune-structured{energy=0.6}",), "eyeriss"),
}


def with_sources(names):
    """Return names, each behind what it is made from."""
    found = {}
    for name in names:
        source = VARIANTS[name][0]
        found |= dict.fromkeys([*with_sources([source] if source else []), name])
    return found


def accuracy(graph, evaluation):
    """Return the share of samples whose largest output is the label's, in percent."""
    session, labels = Session(graph, optimize=True), evaluation["y"]
    feeds = {value.name: evaluation[value.name] for value in graph.inputs}
    right = 0
    for start in range(0, len(labels), 50):
        scores = next(iter(session.run({name: array[start : start + 50] for name, array in feeds.items()}).values()))
        right += int((scores.argmax(axis=1) == labels[start : start + 50]).sum())
    return 100 * right / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("evaluation")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="only these")
    parser.add_argument("--keep", help="where forms are kept, and taken from if they are there")
    options = parser.parse_args()
    registry, evaluation = Registry.discover(), dict(np.load(options.evaluation))
    folder = Path(options.keep or tempfile.mkdtemp())
    print(f"{'variant':28} {'top-1':>7} " + " ".join(f"{name:>28}" for name in MACHINES), flush=True)
    print(f"{'':28} {'%':>7} " + " ".join(f"{'k cycles':>9} {'uJ':>9} {'DRAM kB':>8}" for _ in MACHINES), flush=True)
    found = {}
    for name in with_sources(options.variant or VARIANTS):
        start = time.process_time()
        source, passes, made_for = VARIANTS[name]
        path = folder / f"{list(VARIANTS).index(name)}.onnx"
        if not path.exists():
            request = CompileRequest(
                model=str(folder / f"{list(VARIANTS).index(source)}.onnx") if source else options.model,
                target=f'sparse{{hw="{made_for or "eyeriss"}"}}',
                passes=passes,
                data=options.calibration,
                measure=False,
            )
            save(compile_model(request, registry).artifact.graph, path)
        graph, cells = load(path), []
        share = accuracy(graph, evaluation)
        for machine in MACHINES:
            if made_for not in (None, machine):
                cells.append(f"{'':28}")
                continue
            ctx = nncomp.Context(ops=registry.ops, data=open_data(options.calibration, graph))
            price = SparseTarget.from_options({"hw": machine, "samples": 16}).build(graph, ctx).price
            found.setdefault(machine, []).append((name, share, price.energy_uj, price.cycles))
            cells.append(f"{price.cycles / 1e3:9.1f} {price.energy_uj:9.1f} {price.dram_bytes / 1e3:8.0f}")
        print(f"{name:28} {share:7.2f} {' '.join(cells)}  ({time.process_time() - start:.0f} s)", flush=True)
    for machine, points in found.items():
        best = [p for p in points if not any(q[1] >= p[1] and q[2] < p[2] for q in points)]
        chain = " -> ".join(f"{p[0]} ({p[1]:.2f} %, {p[2]:.0f} uJ)" for p in sorted(best, key=lambda p: p[2]))
        print(f"Pareto of accuracy against energy on {machine}: {chain}")


if __name__ == "__main__":
    main()
