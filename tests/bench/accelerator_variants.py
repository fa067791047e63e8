"""One model in several compressed forms, priced on several machines, with its accuracy measured: a table and a Pareto.

    python tests/bench/accelerator_variants.py model.onnx calibration.npz evaluation.npz [--variant NAME ...]

The files hold the model's inputs by name; the evaluation file an array ``y`` of labels, too.
"""

import argparse
import time
from typing import ClassVar

import numpy as np

import nncomp
from nncomp.compiler import CompileRequest, compile_model
from nncomp.data import open_data
from nncomp.ir import DataType, tensor
from nncomp.opset import convert_opset
from nncomp.plugins import Registry
from nncomp_sparse.target import SparseTarget

MACHINES = ("eyeriss", "eyeriss-v2", "bitfusion", "sparse-tensor-core")
SHORT = ("cleanup", "fuse", "cleanup")
INT8 = ("equalize", "quantize")
TWO_OF_FOUR, MOST = 'sparsify{pattern="2:4"}', "sparsify{sparsity=0.8}"
VARIANTS = {
    "dense": SHORT,
    "2:4": (*SHORT, TWO_OF_FOUR),
    "80 % zeros": (*SHORT, MOST),
    "INT8": (*SHORT, *INT8),
    "INT4 weights": (*SHORT, *INT8, "weights-int4"),
    "pruned x0.5": (*SHORT, "prune-structured{macs=0.5}"),
    "Tucker x0.7": (*SHORT, 'decompose{macs=0.7, forms=["tucker"], only_faster=false}'),
    "2:4, INT8": (*SHORT, TWO_OF_FOUR, *INT8),
    "80 % zeros, INT8": (*SHORT, MOST, *INT8),
    "pruned x0.5, INT8": (*SHORT, "prune-structured{macs=0.5}", *INT8),
    "pruned x0.5, INT4 weights": (*SHORT, "prune-structured{macs=0.5}", *INT8, "weights-int4"),
}


class WeightsInt4(nncomp.Pass):
    """Give quantized weights four bits: the best of 40 scales for each output channel, by squared error."""

    name: ClassVar[str] = "weights-int4"
    effect: ClassVar[nncomp.Effect] = nncomp.Effect.LOSSY

    def run(self, graph, ctx):
        convert_opset(graph, max(graph.opsets[""], 21))  # from which on there are four bits
        for op in graph.ops():
            weight = graph.array(op.input(0)) if op.kind == "DequantizeLinear" else None
            if weight is None or weight.dtype != np.int8 or weight.ndim < 2:
                continue
            scale = graph.array(op.input(1))
            axis = op.attr("axis", 1) if scale.ndim else None
            rows = np.moveaxis(weight, axis or 0, 0).reshape(weight.shape[axis or 0], -1).astype(np.float32)
            peak = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1)
            tried = []
            for share in np.linspace(0.4, 1.0, 40):
                step = peak * share / 7
                codes = np.clip(np.rint(rows / step), -7, 7)
                tried.append((((codes * step - rows) ** 2).sum(axis=1, keepdims=True), codes, step))
            best = np.argmin(np.concatenate([error for error, _, _ in tried], axis=1), axis=1)
            codes = np.stack([tried[number][1][row] for row, number in enumerate(best)])
            step = np.array([tried[number][2][row, 0] for row, number in enumerate(best)], np.float32)
            shape = np.moveaxis(weight, axis or 0, 0).shape
            back = np.moveaxis(codes.reshape(shape), 0, axis or 0).astype(DataType.INT4.numpy())
            graph.set_input(
                op, 0, graph.add_constant(f"{op.label}_int4", tensor(np.ascontiguousarray(back), DataType.INT4))
            )
            graph.set_input(op, 1, graph.add_constant(f"{op.label}_scale4", (step * scale).astype(np.float32)))
            graph.set_input(op, 2, None)
            graph.set_attrs(op, axis=axis or 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("evaluation")
    parser.add_argument("--variant", action="append", help="only these")
    options = parser.parse_args()
    registry = Registry.discover()
    registry.passes["weights-int4"] = WeightsInt4
    labels = np.load(options.evaluation)["y"]
    print(f"{'variant':28} {'top-1':>7} " + " ".join(f"{name:>28}" for name in MACHINES), flush=True)
    print(f"{'':28} {'%':>7} " + " ".join(f"{'k cycles':>9} {'uJ':>9} {'DRAM kB':>8}" for _ in MACHINES), flush=True)
    found = {}
    for name in options.variant or VARIANTS:
        start = time.process_time()
        request = CompileRequest(
            model=options.model,
            target="sparse",
            passes=VARIANTS[name],
            data=options.calibration,
            evaluation=options.evaluation,
            labels=labels,
            measure=False,
        )
        result = compile_model(request, registry)
        graph, accuracy = result.artifact.graph, 100 * result.report.accuracy.after
        cells = []
        for machine in MACHINES:
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
