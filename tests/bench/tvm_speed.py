"""Time models compiled by the target tvm-cpu against ONNX Runtime, one thread, and say where the time goes.

    python tests/bench/tvm_speed.py MODEL.onnx [MODEL.onnx ...] [--int8 QUANTIZED.onnx ...] [--size 128]
        [--shape x=1,3,320,320 ...] [--tune SECONDS --trials N --database FILE] [--kernels 12] [--pairs 40]

For each model: CPU seconds of the compilation, and the time of ONNX Runtime (one thread, all optimizations) over that
of TVM, the median over pairs that ran in turn in one process, in CPU time of the calling thread. With ``--tune``, the
same after tuning. ``--int8`` names as many quantized models, in the same order, which are compared with ONNX Runtime's
time for the same file and with the float32 model in TVM. ``--kernels`` prints what each kernel takes, and what ONNX
Runtime's profiler says of its own. Inputs are random; open sizes become 1, ``--size`` on a second axis, or what
``--shape`` says for an input; ``sr=16000`` gives one that is a single number its value.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort

import nncomp
from nncomp.onnx_io import load
from nncomp.ops import builtin_table
from nncomp_tvm.kernels import CpuTarget, TuningOptions, build_cpu
from nncomp_tvm.library import relax, tensor, tvm
from nncomp_tvm.lowering import Sizes, lower


def prepared(path):
    """Return the graph after the target's default recipe."""
    return nncomp.compile(path, "ort", passes=["cleanup", "fuse", "cleanup"], measure=False).graph


class OnnxRuntime:
    """A model in ONNX Runtime, one thread."""

    def __init__(self, path, feeds, profile=None):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.feeds = feeds

    def __call__(self):
        return self.session.run(None, self.feeds)


class Tvm:
    """A model compiled by our kernels."""

    def __init__(self, path, feeds, tuning=None, cpu=None):
        graph = prepared(path)
        shapes = {name: array.shape for name, array in feeds.items()}
        lowered = lower(graph, builtin_table(), Sizes(shapes, feeds))
        start = time.process_time()
        self.built = build_cpu(lowered.module, cpu or CpuTarget.host(), threads=1, tuning=tuning)
        self.seconds = time.process_time() - start
        self.machine = relax.VirtualMachine(self.built.executable, tvm.cpu())
        self.main = self.machine["main"]
        self.inputs = [*(tensor(feeds[port.name]) for port in lowered.inputs), *self.built.parameters]

    def __call__(self):
        return self.main(*self.inputs)

    def outputs(self):
        result = self()
        return [result.numpy()] if hasattr(result, "numpy") else [part.numpy() for part in result]

    def kernels(self, runs=10):
        """Microseconds and calls a run, by function; the least of several runs for each call."""
        times, start = defaultdict(list), [0]

        def watch(_function, name, before, _result, *_arguments):
            if before:
                start[0] = time.thread_time_ns()
            else:
                times[name].append(time.thread_time_ns() - start[0])

        machine = relax.VirtualMachine(self.built.executable, tvm.cpu())
        machine.set_instrument(watch)
        for _ in range(runs):
            machine["main"](*self.inputs)
        return {
            name: (np.reshape(values, (runs, -1)).min(0).sum() / 1e3, len(values) // runs)
            for name, values in times.items()
        }


def sizes(text):
    """Read ``NAME=1,3,320,320``."""
    name, _, numbers = text.partition("=")
    return name, [int(number) for number in numbers.split(",")]


def random_feeds(path, size, given=()):
    """Random inputs; open sizes are 1, ``size`` on a second axis, or as given; masks are ones, types zeros."""
    rng, feeds, given = np.random.default_rng(0), {}, dict(given)
    for value in load(path).inputs:
        shape = [dim if isinstance(dim, int) else (1 if axis != 1 else size) for axis, dim in enumerate(value.shape)]
        kind = np.dtype(value.type.dtype.numpy())
        if not shape and value.name in given:
            feeds[value.name] = np.array(given[value.name][0], kind)
            continue
        shape = given.get(value.name, shape)
        if kind.kind == "f":
            feeds[value.name] = rng.standard_normal(shape).astype(kind)
        elif "mask" in value.name:
            feeds[value.name] = np.ones(shape, kind)
        else:
            feeds[value.name] = rng.integers(0, 2 if "type" in value.name else 1000, shape).astype(kind)
    return feeds


def in_turn(first, second, pairs):
    """Median over pairs of the time of ``first`` / the time of ``second``, and the median times in milliseconds."""
    first(), second()
    times = []
    for _ in range(pairs):
        pair = []
        for run in (first, second):
            start = time.thread_time()
            run()
            pair.append(time.thread_time() - start)
        times.append(pair)
    table = np.array(times)
    return float(np.median(table[:, 0] / table[:, 1])), *(1e3 * np.median(table, axis=0))


def error(compiled, reference):
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in zip(compiled, reference, strict=True)
    )


def report(label, path, feeds, model, pairs):
    rival = OnnxRuntime(path, feeds)
    ratio, theirs, ours = in_turn(rival, model, pairs)
    print(
        f"  {label:<22} {ratio:5.2f}x ONNX Runtime ({ours:.2f} ms, it {theirs:.2f} ms), "
        f"error {error(model.outputs(), rival()):.1e}, {model.seconds:.1f} s CPU to compile"
    )


def print_kernels(path, feeds, model, count):
    known = {kernel.name: kernel for kernel in model.built.kernels}
    times = model.kernels()
    print(f"  TVM: {sum(us for us, _ in times.values()) / 1e3:.2f} ms in {len(times)} functions")
    for name, (us, calls) in sorted(times.items(), key=lambda item: -item[1][0])[:count]:
        kernel = known.get(name)
        rate = ""
        if kernel is not None and kernel.macs:
            speed = 2e-3 * kernel.macs * calls / us
            rate = f"{speed:6.0f} GOP/s  tile {kernel.tile.rows} x {kernel.tile.vectors}"
        print(f"    {us:8.1f} us {calls:3} x  {name[:60]:<60} {rate}")
    with tempfile.TemporaryDirectory() as folder:
        rival = OnnxRuntime(path, feeds, Path(folder) / "profile")
        for _ in range(20):
            rival()
        events = json.loads(Path(rival.session.end_profiling()).read_text())
    spent, calls = Counter(), Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 20
            calls[event["args"]["op_name"]] += 1
    print("  ONNX Runtime, shares of its wall-clock time")
    for kind, us in spent.most_common(count):
        print(f"    {us / sum(spent.values()):8.1%} {calls[kind] // 20:6} x  {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--int8", nargs="*", type=Path, default=[], help="quantized models, in the same order")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--shape", nargs="*", type=sizes, default=[], metavar="NAME=SIZES")
    parser.add_argument("--tune", type=float, default=0.0, help="seconds a model")
    parser.add_argument("--trials", type=int, default=512)
    parser.add_argument("--database", type=Path)
    parser.add_argument("--kernels", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    quantized = dict(zip(options.models, options.int8, strict=False))
    for path in options.models:
        print(path.name)
        feeds = random_feeds(path, options.size, options.shape)
        model = Tvm(path, feeds)
        report("untuned", path, feeds, model, options.pairs)
        if options.tune:
            tuning = TuningOptions(options.trials, options.tune, options.database)
            start = time.monotonic()
            model = Tvm(path, feeds, tuning)
            report(f"tuned {time.monotonic() - start:.0f} s", path, feeds, model, options.pairs)
        if path in quantized:
            tuning = TuningOptions(options.trials, options.tune, options.database) if options.tune else None
            small = Tvm(quantized[path], feeds, tuning)
            report("INT8", quantized[path], feeds, small, options.pairs)
            ratio, *_ = in_turn(model, small, options.pairs)
            print(f"  INT8 is {ratio:.2f}x float32 in TVM")
        if options.kernels:
            print_kernels(path, feeds, model, options.kernels)


if __name__ == "__main__":
    main()
