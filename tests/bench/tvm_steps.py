"""Compare quantized models compiled by the target tvm-cpu with ONNX Runtime's INT8, layer by layer.

    python tests/bench/tvm_steps.py MODEL.onnx [MODEL.onnx ...] [--data DATA.npz] [--samples 2] [--size 128] [--all]

For each tensor of codes (and each tensor that gets codes by a scale computed from it): how many are equal to those that
ONNX Runtime has with all optimizations on, how many are one step off, and the most steps; first when the layer is fed
what ONNX Runtime has there, then in the whole model, where differences add up. Of real numbers the same in units of
their own 8-bit scale. Without ``--all`` only layers that differ are printed. Inputs are random without ``--data``:
arrays by input name, samples along the first axis.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from tvm_speed import prepared, random_feeds

from nncomp.onnx_io import graph_to_proto
from nncomp.ops import builtin_table
from nncomp_tvm.kernels import CpuTarget, build_cpu
from nncomp_tvm.library import relax, tensor, tvm
from nncomp_tvm.lowering import Sizes, lower
from nncomp_tvm.stages import Stages


def kernels(graph, outputs=None):
    """Count the kinds of kernels that ONNX Runtime uses for a graph, or to give ``outputs``."""
    model = graph_to_proto(graph)
    if outputs is not None:
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    return {kind: number for kind, number in sorted(found.items()) if kind.startswith(("Q", "MatMulInt", "Dyn"))}


def compiled(graph, feeds):
    """Return a function from inputs to outputs by name."""
    shapes = {name: array.shape for name, array in feeds.items()}
    lowered = lower(graph, builtin_table(), Sizes(shapes, feeds))
    built = build_cpu(lowered.module, CpuTarget.host(), threads=1)
    machine = relax.VirtualMachine(built.executable, tvm.cpu())
    names = [port.name for port in lowered.outputs]

    def run(feeds):
        result = machine["main"](*[tensor(feeds[port.name]) for port in lowered.inputs], *built.parameters)
        results = [result] if hasattr(result, "numpy") else list(result)
        return dict(zip(names, (one.numpy() for one in results), strict=True))

    return run


def steps(expected, found):
    """Distances in steps: of codes, or of real numbers by the scale that they would get."""
    if expected.dtype.kind in "ui":
        return np.abs(expected.astype(np.int64) - found)
    scale = (max(expected.max(), 0) - min(expected.min(), 0)) / 255 or 1
    return np.abs(np.rint(expected / scale) - np.rint(found / scale)).astype(np.int64)


class Row:
    """What was counted of one tensor over all samples."""

    def __init__(self):
        self.equal = self.one = self.count = self.most = 0

    def add(self, distances):
        self.equal += np.count_nonzero(distances == 0)
        self.one += np.count_nonzero(distances == 1)
        self.count += distances.size
        self.most = max(self.most, int(distances.max(initial=0)))

    def __str__(self):
        return f"{self.equal / self.count:9.4%} {self.one / self.count:9.4%} {self.most:4}"


def relative(expected, found):
    return max(float(np.abs(expected[n] - found[n]).max() / max(np.abs(expected[n]).max(), 1e-30)) for n in expected)


def compare(path, samples, every):
    graph = prepared(path)
    stages = Stages.of(graph)
    if stages is None:
        print(f"{path}: cannot be cut: it quantizes in a body, or by a scale that is computed")
        return
    values = [stage.value for stage in stages.stages]
    inside = [name for name in values if stages.whole.find(name) not in stages.whole.inputs]
    alone, watched = kernels(graph), kernels(stages.whole, [*inside, *(v.name for v in stages.whole.outputs)])
    whole = stages.whole.clone()
    outputs = [value.name for value in graph.outputs]
    ends = [whole.find(name) for name in inside]
    whole.set_outputs([*whole.outputs, *(value for value in ends if value not in whole.outputs)])
    captured = stages.captured(samples[0], optimize=True)
    staged, complete = compiled(stages.graph, stages.feeds(samples[0], captured)), compiled(whole, samples[0])
    layer, total = {name: Row() for name in inside}, {name: Row() for name in inside}
    end = 0.0
    for feeds in samples:
        captured = stages.captured(feeds, optimize=True)
        by_layer, by_model = staged(stages.feeds(feeds, captured)), complete(feeds)
        for name in inside:
            layer[name].add(steps(captured[name], by_layer[name]))
            total[name].add(steps(captured[name], by_model[name]))
        end = max(end, relative({name: captured[name] for name in outputs}, by_model))
    print(f"{path}\n  ONNX Runtime's kernels {alone}" + ("" if alone == watched else f", watched {watched}"))
    print(f"  {'layer by layer':>24} {'in the model':>24}\n  {'equal       one step most   ' * 2}")
    for stage in stages.stages:
        name = stage.value
        if name in layer and (every or layer[name].most or total[name].most):
            print(f"  {layer[name]}  {total[name]}  {stage.layer}")
    for title, rows in (("layer by layer", layer), ("in the model", total)):
        count = sum(row.count for row in rows.values())
        equal = sum(row.equal for row in rows.values()) / max(count, 1)
        differing = sum(row.most > 0 for row in rows.values())
        most = max((row.most for row in rows.values()), default=0)
        print(
            f"  {title}: {equal:.6%} of {count} equal, at most {most} steps, {differing} of {len(rows)} tensors differ"
        )
    print(f"  outputs are {end:.1e} of the largest away")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--all", action="store_true", help="print layers that are equal, too")
    options = parser.parse_args()
    for path in options.models:
        if options.data is None:
            samples = [random_feeds(path, options.size)]
        else:
            arrays = dict(np.load(options.data))
            count = min(options.samples, *(len(array) for array in arrays.values()))
            samples = [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
        compare(path, samples, options.all)


if __name__ == "__main__":
    main()
