"""Draw graphs, run lossless passes over them, and reduce whatever breaks a law to a small repro.

    python tests/bench/fuzz.py --examples 20000 --seed 1 --out failures

One line at the end says how many models and passes there were, and how many diverged. A failure leaves the model as it
was drawn in OUT/N/drawn.onnx and, where the gate sees it too, what `nncomp reduce` makes of it in OUT/N.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

import nncomp_cleanup
import nncomp_fusion
from nncomp.errors import NncompError, UsageError
from nncomp.onnx_io import save
from nncomp.reduce import Failure, reduce_failure
from nncomp.testing.generate import graphs
from nncomp.testing.lawful import assert_lawful, runs
from nncomp.testing.reference import assert_same_on_reference

PASSES = {one.name: one for one in (*nncomp_cleanup.nncomp_passes(), *nncomp_fusion.nncomp_passes())}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", nargs="+", choices=sorted(PASSES), default=["cleanup", "fuse"])
    parser.add_argument("--max-ops", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    steps = [PASSES[name]() for name in arguments.passes]

    @settings(
        max_examples=arguments.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(arguments.seed)
    @given(graphs(max_ops=arguments.max_ops))
    def draw(graph):
        counts["models"] += 1
        counts["ops"] += len(graph.ops())
        if not runs(graph):
            counts["refused by the runtime"] += 1
            return
        for step in steps:
            counts["passes"] += 1
            try:
                after = assert_lawful(step, graph)
                counts["seen by the reference evaluator"] += assert_same_on_reference(graph, after)
            except (AssertionError, NncompError) as error:
                counts["divergences"] += 1
                folder = arguments.out / str(counts["divergences"])
                save(graph, folder / "drawn.onnx")
                (folder / "what.txt").write_text(f"{step.spec}: {error}\n")
                print(f"{folder}: {step.spec}: {str(error)[:300]}", flush=True)
                with contextlib.suppress(UsageError):  # a law that no gate watches, such as settling
                    reduce_failure(graph, Failure([step]), folder)

    started = time.process_time()
    draw()
    print(
        ", ".join(f"{count} {what}" for what, count in counts.items()),
        f"in {time.process_time() - started:.0f} s of CPU",
    )


if __name__ == "__main__":
    main()
