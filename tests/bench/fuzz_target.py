"""Draw graphs, compile each with a target, and compare what it computes with ONNX Runtime on inputs that no gate saw.

    python tests/bench/fuzz_target.py --target tvm-cpu --examples 500 --seed 1 --out failures

Each graph is built in a process of its own, so a crash or a hang is one graph's. A graph *agrees*, is *refused* by
the target, is *gated* (its own gate stopped it: nothing wrong was handed over, and yet something is to be mended), is
*wrong*, has *failed* (anything but an error of nncomp's), has *crashed*, or was *late*. All but the first two leave
the model in OUT/N/drawn.onnx and what happened in OUT/N/what.txt.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

import nncomp
from nncomp.errors import GateError, NncompError
from nncomp.gate import HALF_LIMIT, compare
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import save
from nncomp.runtime import RuntimeFailure, Session
from nncomp.testing import feeds as make_feeds
from nncomp.testing.generate import graphs

LIMIT = 1e-4
"""Relative error (L2) of a float output in single precision."""

Verdict = tuple[str, str]


def judged(target: Any, graph: Graph) -> Verdict:
    """Build ``graph`` and compare it on inputs of its own."""
    inputs = make_feeds(graph, seed=7)
    try:
        expected = Session(graph, optimize=False).run(inputs)
    except RuntimeFailure:
        return "not run by ONNX Runtime", ""
    try:
        got = target.build(graph, nncomp.Context()).run(inputs)
    except GateError as error:
        return "gated", error.message
    except NncompError as error:
        return "refused", error.message
    except Exception:  # noqa: BLE001  what a user must never see
        return "failed", traceback.format_exc()
    dtypes = {value.type.dtype for value in graph.values() if isinstance(value.type, TensorType)}
    limit = HALF_LIMIT if dtypes & {DataType.FLOAT16, DataType.BFLOAT16} else LIMIT
    deviation = compare([expected], [got])
    same = all(np.array_equal(one, got[name], equal_nan=True) for name, one in expected.items())  # -0 is 0
    if same or deviation.relative <= limit:
        return "agrees", ""
    return "wrong", f"output {deviation.worst_output!r} is {deviation.relative:.2g} relative away"


def work(target: Any, graph: Graph, verdict: Any) -> None:
    """Say the verdict of one graph to the process that waits for it."""
    warnings.simplefilter("ignore")
    verdict.send(judged(target, graph))


def alone(target: Any, graph: Graph, seconds: float) -> Verdict:
    """Judge a graph in a process of its own."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    worker = fork.Process(target=work, args=(target, graph, theirs))
    worker.start()
    theirs.close()
    try:
        found: Verdict = ours.recv() if ours.poll(seconds) else ("late", f"nothing came in {seconds:.0f} s")
    except EOFError:
        worker.join()
        found = ("crashed", f"exit code {worker.exitcode}")
    worker.kill()
    worker.join()
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="tvm-cpu")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-ops", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    target = nncomp.Registry.discover().target(arguments.target)
    target.check(Graph("nothing"), nncomp.Context())  # loads its library, once for all that fork
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()

    @settings(
        max_examples=arguments.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(arguments.seed)
    @given(graphs(max_ops=arguments.max_ops))
    def draw(graph: Graph) -> None:
        infer_types(graph)
        verdict, why = alone(target, graph, arguments.seconds)
        counts[verdict] += 1
        if verdict == "refused":
            reasons[why] += 1
        if verdict in ("gated", "wrong", "failed", "crashed", "late"):
            folder = arguments.out / f"{arguments.seed}-{sum(counts.values())}"
            save(graph, folder / "drawn.onnx")
            (folder / "what.txt").write_text(f"{verdict}: {why}\n")
            print(f"{folder}: {verdict}: {why[-300:]}", flush=True)

    started = time.monotonic()
    draw()
    print(", ".join(f"{count} {what}" for what, count in counts.most_common()), end=" ")
    print(f"of {sum(counts.values())} graphs in {time.monotonic() - started:.0f} s")
    for reason, count in reasons.most_common():
        print(f"{count} refused: {reason}")


if __name__ == "__main__":
    main()
