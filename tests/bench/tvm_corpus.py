"""ONNX's backend tests through TVM: how many pass through ``tvm-cpu``, ``tvm-cuda``, and how many through its frontend.

Each test runs in a worker process, so that a crash is one test's. A test passes when its own tolerance holds; it is
*refused* when the target says so beforehand, *gated* when the gate stops it, *failed* when something else ends it,
*wrong* when it runs and differs. Of those that differ it is *nearer* when no output is farther from the exact result,
computed in float64, than the test's own expected values are (which were rounded on the way), and *beyond* when ONNX
Runtime does not hold the test's tolerance either. Through ``tvm-cuda`` it passes when the gate has seen that it is
right, on a GPU or on the CPU in its place, and is *unseen* when that could not be.

    python tests/bench/tvm_corpus.py [--engine target|cuda|plain] [--kinds node simple ...] [--only TEXT ...]
                                     [--every N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

import nncomp
from nncomp.errors import GateError, NncompError, UnsupportedError
from nncomp.onnx_io import graph_from_proto
from nncomp.runtime import Session
from nncomp.targets import Artifact, Target
from nncomp.testing.conformance import mismatches
from nncomp.testing.corpus import BackendCase, backend_cases

Verdict = tuple[str, str]


def through_target(case: BackendCase) -> Verdict:
    """Compile as ``nncomp compile -t tvm-cpu`` does, and run the test's inputs."""
    from nncomp_tvm.target import TvmCpuTarget

    artifact = built(case, TvmCpuTarget(), nncomp.Context())
    if not isinstance(artifact, Artifact):
        return artifact
    try:
        outputs = [artifact.run(inputs) for inputs, _ in case.samples]
    except NncompError as error:
        return "failed", error.message
    return judged(case, outputs)


def through_cuda(case: BackendCase) -> Verdict:
    """Compile as ``nncomp compile -t tvm-cuda`` does; its gate, with or without a GPU, is the judge."""
    from nncomp_tvm.target import TvmCudaTarget

    ctx = nncomp.Context()
    artifact = built(case, TvmCudaTarget.from_options({"emulate": True}), ctx)
    if not isinstance(artifact, Artifact):
        return artifact
    unseen = [note.reason for note in ctx.notes if note.code == "NNC-W063"]
    return ("unseen", unseen[0]) if unseen else ("passed", "")


def built(case: BackendCase, target: Target, ctx: nncomp.Context) -> Artifact | Verdict:
    """Return what a target builds for the test's inputs, or why it does not."""
    from nncomp_cleanup.cleanup import Cleanup

    graph = graph_from_proto(case.model)
    try:
        Cleanup().run(graph, ctx)
        ctx.data = Samples([inputs for inputs, _ in case.samples])
        return target.build(graph, ctx)
    except UnsupportedError as refusal:
        return "refused", refusal.message
    except GateError as error:
        return "gated", error.message
    except NncompError as error:
        return "failed", error.message


class Samples:
    """The test's own inputs as calibration data."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)


def through_plain_frontend(case: BackendCase) -> Verdict:
    """Import, compile and run as TVM's documentation does."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = relax.get_pipeline("zero")(from_onnx(case.model))
    machine = relax.VirtualMachine(relax.build(module, tvm.target.Target({"kind": "llvm"})), tvm.cpu())
    outputs = []
    for inputs, _ in case.samples:
        given = [tvm.runtime.tensor(np.ascontiguousarray(inputs[item.name])) for item in case.model.graph.input]
        result = machine["main"](*given)
        names = [item.name for item in case.model.graph.output]
        found = [result] if len(names) == 1 else list(result)
        outputs.append({name: value.numpy() for name, value in zip(names, found, strict=True)})
    return judged(case, outputs)


def judged(case: BackendCase, outputs: list[Any]) -> Verdict:
    """Hold outputs to the test's tolerance."""
    problems = mismatches(case, outputs)
    if not problems:
        return "passed", ""
    if nearer(case, outputs):
        return "nearer", problems[0]
    try:
        theirs = mismatches(case, [Session(graph_from_proto(case.model)).run(inputs) for inputs, _ in case.samples])
    except NncompError:
        theirs = []
    return "beyond" if theirs else "wrong", problems[0]


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose constants and conversions are float64 where they are narrower floats."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    floats = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT}
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        for attr in node.attribute:
            if node.op_type == "Cast" and attr.name == "to" and attr.i in floats:
                attr.i = TensorProto.DOUBLE
            elif attr.type == onnx.AttributeProto.TENSOR:
                tensors.append(attr.t)
    for one in tensors:
        if one.data_type in floats:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float64), one.name))
    return model


def nearer(case: BackendCase, outputs: list[Any]) -> bool:
    """Whether outputs are as near to the exact result, by root mean square, as the expected values are."""
    model = in_double(case.model)
    for (inputs, expected), got in zip(case.samples, outputs, strict=True):
        wide = {name: one.astype(np.float64) if one.dtype.kind == "f" else one for name, one in inputs.items()}
        try:
            exact = dict(zip(expected, ReferenceEvaluator(model).run(None, wide), strict=True))
        except Exception:  # noqa: BLE001  it raises whatever numpy does
            return False
        for name, wanted in expected.items():
            if isinstance(wanted, list) or np.asarray(wanted).dtype.kind != "f" or exact[name].dtype != np.float64:
                return False
            theirs, ours = (np.linalg.norm(np.float64(one) - exact[name]) for one in (wanted, got[name]))
            if not ours <= theirs:
                return False
    return True


ENGINES = {"target": through_target, "cuda": through_cuda, "plain": through_plain_frontend}


def work(engine: str, cases: list[BackendCase], start: int, results: Any) -> None:
    """Judge ``cases`` from ``start`` on, and say each verdict."""
    warnings.simplefilter("ignore")
    for number in range(start, len(cases)):
        results.send((number, ("crashed", "the process died")))
        try:
            verdict = ENGINES[engine](cases[number])
        except Exception as error:  # noqa: BLE001  TVM raises whatever comes
            verdict = ("failed", f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}")
        results.send((number, verdict))
    results.send((len(cases), None))


def verdicts(engine: str, cases: list[BackendCase], seconds: float) -> dict[str, Verdict]:
    """Return a verdict for each test; a test that takes longer than ``seconds`` counts as crashed."""
    found: dict[str, Verdict] = {}
    fork = multiprocessing.get_context("fork")
    number = 0
    while number < len(cases):
        ours, theirs = fork.Pipe(duplex=False)
        worker = fork.Process(target=work, args=(engine, cases, number, theirs))
        worker.start()
        theirs.close()
        try:
            while ours.poll(seconds):
                number, verdict = ours.recv()
                if verdict is None:
                    break
                found[cases[number].label] = verdict
                if len(found) % 100 == 0 and verdict[0] != "crashed":
                    print(len(found), dict(Counter(v for v, _ in found.values())), file=sys.stderr, flush=True)
        except EOFError:
            pass
        worker.kill()
        worker.join()
        number += number < len(cases)
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="target")
    parser.add_argument("--kinds", nargs="+", default=["node"])
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [case for case in backend_cases(*options.kinds) if any(text in case.name for text in options.only)]
    found = verdicts(options.engine, cases[options.first :: options.every], options.seconds)
    counts = Counter(verdict for verdict, _ in found.values())
    print(f"{options.engine}: {counts['passed']} of {len(found)} pass; {dict(counts.most_common())}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
