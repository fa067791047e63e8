"""One model in several compressed forms, priced on several machines, with its accuracy measured: a table and a Pareto.

    python tests/bench/accelerator_variants.py model.onnx calibration.npz evaluation.npz [--variant NAME ...]
        [--machine NAME --passes PASSES ...]

The files hold the model's inputs by name; the evaluation file an array ``y`` of labels, too. With ``--machine``, passes
compile for that machine, and are priced on it alone: that is for those that spend by its prices.
"""

import argparse
import time

import numpy as np

import nncomp
from nncomp.compiler import CompileRequest, compile_model
from nncomp.data import open_data
from nncomp.plugins import Registry
from nncomp_sparse.target import SparseTarget

MACHINES = ("eyeriss", "eyeriss-v2", "bitfusion", "sparse-tensor-core")
SHORT = ("cleanup", "fuse", "cleanup")
INT8 = ("equalize", "quantize")
INT4 = ("equalize", "quantize{weight_bits=4}")
TWO_OF_FOUR, MOST = 'sparsify{pattern="2:4"}', "sparsify{sparsity=0.8}"
VARIANTS = {
    "dense": SHORT,
    "2:4": (*SHORT, TWO_OF_FOUR),
    "80 % zeros": (*SHORT, MOST),
    "INT8": (*SHORT, *INT8),
    "INT4 weights": (*SHORT, *INT4),
    "pruned x0.5": (*SHORT, "prune-structured{macs=0.5}"),
    "Tucker x0.7": (*SHORT, 'decompose{macs=0.7, forms=["tucker"], only_faster=false}'),
    "2:4, INT8": (*SHORT, TWO_OF_FOUR, *INT8),
    "80 % zeros, INT8": (*SHORT, MOST, *INT8),
    "pruned x0.5, INT8": (*SHORT, "prune-structured{macs=0.5}", *INT8),
    "pruned x0.5, INT4 weights": (*SHORT, "prune-structured{macs=0.5}", *INT4),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("evaluation")
    parser.add_argument("--variant", action="append", help="only these")
    parser.add_argument("--machine", choices=MACHINES, help="compile for this one")
    parser.add_argument("--passes", action="append", help="with --machine: passes behind cleanup and fusion, by ;")
    options = parser.parse_args()
    registry = Registry.discover()
    labels = np.load(options.evaluation)["y"]
    print(f"{'variant':28} {'top-1':>7} " + " ".join(f"{name:>28}" for name in MACHINES), flush=True)
    print(f"{'':28} {'%':>7} " + " ".join(f"{'k cycles':>9} {'uJ':>9} {'DRAM kB':>8}" for _ in MACHINES), flush=True)
    found = {}
    variants = {name: VARIANTS[name] for name in options.variant or VARIANTS}
    machines, target = MACHINES, "sparse"
    if options.machine:
        variants = {one: (*SHORT, *one.split(";")) for one in options.passes}
        machines, target = (options.machine,), f'sparse{{hw="{options.machine}"}}'
    for name, passes in variants.items():
        start = time.process_time()
        request = CompileRequest(
            model=options.model,
            target=target,
            passes=passes,
            data=options.calibration,
            evaluation=options.evaluation,
            labels=labels,
            measure=False,
        )
        result = compile_model(request, registry)
        graph, accuracy = result.artifact.graph, 100 * result.report.accuracy.after
        cells = []
        for machine in machines:
            data = open_data(options.calibration, graph)
            ctx = nncomp.Context(ops=registry.ops, data=data)
            price = SparseTarget.from_options({"hw": machine, "samples": 16}).build(graph, ctx).price
            found.setdefault(machine, []).append((name, accuracy, price.energy_uj, price.cycles))
            cells.append(f"{price.cycles / 1e3:9.1f} {price.energy_uj:9.1f} {price.dram_bytes / 1e3:8.0f}")
        print(f"{name:28} {accuracy:7.2f} {' '.join(cells)}  ({time.process_time() - start:.0f} s)", flush=True)
    for machine, points in found.items():
        best = [p for p in points if not any(q[1] >= p[1] and q[2] < p[2] for q in points)]
        chain = " -> ".join(f"{p[0]} ({p[1]:.2f} %, {p[2]:.0f} uJ)" for p in sorted(best, key=lambda p: p[2]))
        print(f"Pareto of accuracy against energy on {machine}: {chain}")


if __name__ == "__main__":
    main()
