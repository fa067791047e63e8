"""Say where the time of models compiled by tvm-cpu goes, kind of kernel by kind of kernel, beside ONNX Runtime's.

    python tests/bench/tvm_table.py MODEL.onnx [QUANTIZED.onnx ...] [--size 128] [--shape x=1,3,320,320] [--cpu haswell]
        [--database FILE]

For each model and each kind of kernel: microseconds of one run, how many calls, the speed in 10^9 operations a second
(a multiplication and an addition are two) and its share of what this core reaches in a loop of nothing but products,
and what ONNX Runtime's profiler says that the same kind takes there. All times are the least of several runs, kernel
by kernel, of one thread. The first line of a model is its time as a whole against ONNX Runtime's, in turn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tvm_speed import OnnxRuntime, Tvm, in_turn, random_feeds, sizes

from nncomp_tvm.kernels import CpuTarget, TuningOptions
from nncomp_tvm.kernels.cpu import DOTS, ByteDot
from nncomp_tvm.kernels.emit import Code, constant, load
from nncomp_tvm.kernels.products import Product
from nncomp_tvm.kernels.rows import Rows
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.kernels.window import Fold, Window
from nncomp_tvm.library import tirx, tvm

RUNS = 15


@dataclass
class Line:
    """What a kind of kernel takes."""

    us: float = 0.0
    calls: int = 0
    macs: int = 0
    integer: bool = False


def peak(cpu, *, integer, turns=2000):
    """10^9 operations a second in a loop of products of registers, the best of several turns."""
    code, lanes = Code(parallel=False), cpu.lanes
    wide, kind = (4, "int32") if integer else (1, "float32")
    bytes_of = "int8" if integer else "float32"
    count = 24 if cpu.registers == 32 else 10
    x = code.parameter((2 * lanes * wide,), bytes_of)
    y = code.parameter((count * lanes,), kind)
    sums = [code.local(lanes, kind) for _ in range(count)]
    for total in sums:
        code.store(total, 0, constant(0, kind, lanes), lanes)
    a, b = (load(x, start * lanes * wide, lanes * wide) for start in (0, 1))
    with code.loop(turns):
        for total in sums:
            old = load(total, 0, lanes)
            if integer:
                dot = DOTS[ByteDot.VNNI, lanes]
                new = tirx.call_llvm_pure_intrin(dot.result, dot.intrinsic, old, a, b)
            else:
                new = old * a + b
            code.store(total, 0, new, lanes)
    for place, total in enumerate(sums):
        code.store(y, place * lanes, load(total, 0, lanes), lanes)
    function = code.function().with_attr({"global_symbol": "k", "s_tir": True})
    run = tvm.tirx.build(tvm.IRModule({"k": function}), target=cpu.target)["k"]
    arguments = [
        tvm.runtime.tensor(np.ones(2 * lanes * wide, bytes_of)),
        tvm.runtime.tensor(np.zeros(count * lanes, kind)),
    ]

    def seconds():
        start = time.thread_time()
        run(*arguments)
        return time.thread_time() - start

    return 2e-9 * lanes * wide * count * turns / min(seconds() for _ in range(50))


def kind_of(kernel):
    """Name the kind of a kernel of ours."""
    work = kernel.work[0] if isinstance(kernel.work, tuple) else kernel.work
    if isinstance(work, Contraction):
        if kernel.ops[0] == "matmul":
            return "product with weights"
        return "convolution 1 x 1" if work.kernel == (1, 1) else "convolution"
    if isinstance(work, Window):
        return "depthwise" if work.fold is Fold.WEIGHTED else "pooling"
    if isinstance(work, Product):
        return "product of activations"
    return work.work.value if isinstance(work, Rows) else "other"


def ours(model):
    known = {kernel.name: kernel for kernel in model.built.kernels}
    lines = defaultdict(Line)
    for name, (us, calls) in model.kernels(RUNS).items():
        kernel = known.get(name)
        own = name.startswith(("vm.", "vm_"))
        line = lines[kind_of(kernel) if kernel else "calls and memory" if own else "TVM's own"]
        line.us += us
        line.calls += calls
        if kernel is not None:
            line.macs += calls * kernel.macs
            line.integer |= kernel.integer
    return lines


KINDS = {
    "Softmax": "softmax", "LayerNormalization": "normalise", "SkipLayerNormalization": "normalise",
    "MaxPool": "pooling", "AveragePool": "pooling", "GlobalAveragePool": "pooling", "ReduceMean": "pooling",
    "QLinearGlobalAveragePool": "pooling", "QLinearAveragePool": "pooling",
}  # fmt: skip


def kind_of_event(arguments):
    """Name the kind of a kernel of ONNX Runtime, by its op and the shapes of its inputs."""
    op = arguments["op_name"]
    shapes = [next(iter(one.values())) for one in arguments["input_type_shape"]]
    if "Conv" in op:
        weights = next((shape for shape in shapes[1:] if len(shape) == 4), None)
        if weights is None:  # packed: the profile has no shape of them
            return "convolutions of all kinds"
        if weights[1] == 1 and weights[0] > 1:
            return "depthwise"
        return "convolution 1 x 1" if tuple(weights[2:]) == (1, 1) else "convolution"
    if "MatMul" in op or op in ("Gemm", "QGemm"):
        both = [shape for shape in shapes if len(shape) > 1]
        return "product of activations" if len(both) > 1 and len(both[1]) > 2 else "product with weights"
    return KINDS.get(op, "map")


def theirs(path, feeds):
    with tempfile.TemporaryDirectory() as folder:
        rival = OnnxRuntime(path, feeds, Path(folder) / "profile")
        for _ in range(RUNS + 1):
            rival()
        events = json.loads(Path(rival.session.end_profiling()).read_text())
    times, kinds = defaultdict(list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"])
            kinds[event["name"]] = kind_of_event(event["args"])
    lines = defaultdict(Line)
    for name, taken in times.items():
        lines[kinds[name]].us += min(taken)
        lines[kinds[name]].calls += 1
    return lines


def table(path, cpu, options):
    feeds = random_feeds(path, options.size, options.shape)
    tuning = TuningOptions(0, 1.0, options.database) if options.database else None
    model, rival = Tvm(path, feeds, tuning, cpu), OnnxRuntime(path, feeds)
    ratio, their_ms, our_ms = in_turn(rival, model, options.pairs)
    mine, other = ours(model), theirs(path, feeds)
    best = {integer: peak(cpu, integer=integer) for integer in (False, True) if not integer or cpu.dot is ByteDot.VNNI}
    peaks = ", ".join(f"{value:.0f} GOP/s {'bytes' if key else 'float32'}" for key, value in best.items())
    print(f"{path.name}: {our_ms:.2f} ms, ONNX Runtime {their_ms:.2f} ms, {ratio:.2f}x; peaks {peaks}")
    print("| kind | calls | us | % of ours | GOP/s | % of peak | ONNX Runtime, us |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    whole = sum(line.us for line in mine.values())
    for kind in sorted({*mine, *other}, key=lambda kind: -mine[kind].us):
        line = mine[kind]
        rate = 2e-3 * line.macs / line.us if line.macs else 0
        bar = best.get(line.integer) if rate else None
        speed = f"{rate:.0f} | {100 * rate / bar:.0f}" if bar else f"{rate:.0f} |" if rate else "|"
        print(
            f"| {kind} | {line.calls} | {line.us:.0f} | {100 * line.us / whole:.1f} | {speed} | {other[kind].us:.0f} |"
        )
    calls, spent = (sum(getattr(line, name) for line in mine.values()) for name in ("calls", "us"))
    print(f"| all | {calls} | {spent:.0f} | 100 | | | {sum(line.us for line in other.values()):.0f} |\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--shape", nargs="*", type=sizes, default=[], metavar="NAME=SIZES")
    parser.add_argument("--cpu", help="LLVM's name; the host's if it is not given")
    parser.add_argument("--database", type=Path, help="tiles that were tuned")
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    cpu = CpuTarget.named(options.cpu) if options.cpu else CpuTarget.host()
    for path in options.models:
        table(path, cpu, options)


if __name__ == "__main__":
    main()
