"""Compare recipes on one model: accuracy against latency, size and MACs, one JSON line each.

    python tests/bench/frontier.py model.onnx calibration.npz evaluation.npz \
        'int8: cleanup; fuse; cleanup; equalize; quantize' \
        'both: cleanup; fuse; cleanup; decompose{latency=0.8}; equalize; quantize'

Both archives hold stacked arrays by input name; the evaluation archive may hold ``labels``. A recipe is a name, a
colon, and passes with semicolons between them. A speed-up is the median over pairs of float time and recipe's, the two
models run in turn in one process, one thread, in CPU time of that thread.
``cpu_s`` is the CPU time of compiling, ``peak_mib`` the most memory that the process has had by then. With
``--then 'equalize; quantize'``, ``then_speedup`` is that of the recipe with these passes behind it over
``cleanup; fuse; cleanup`` with them. ``promised`` is what ``decompose`` expects of the times of its layers, and
``measured`` the ratio of the same two models: the recipe with and without ``decompose``.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

import nncomp
from nncomp.bench import compare_latency
from nncomp.data import FeedSource
from nncomp.gate import compare


def feeds_of(path: Path) -> tuple[list[dict[str, np.ndarray]], np.ndarray | None]:
    """Return one feed a sample, and the labels."""
    arrays = dict(np.load(path))
    labels = arrays.pop("labels", None)
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)], labels


def parsed(text: str) -> tuple[str, tuple[str, ...]]:
    """Split ``name: pass; pass``."""
    name, _, passes = text.partition(":")
    return name.strip(), tuple(one.strip() for one in passes.split(";") if one.strip())


def compiled(model: nncomp.Graph, passes: tuple[str, ...], calibration: list[Any]) -> nncomp.CompileResult:
    """Compile without measuring."""
    data = FeedSource(calibration, model)
    return nncomp.compile_model(nncomp.CompileRequest(model=model, passes=passes, data=data, measure=False, gate=False))


def main() -> None:
    """Compile, run and time each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--samples", type=int, default=0, help="evaluation samples to use; 0: all")
    parser.add_argument("--then", default="", help="passes behind each recipe, to be timed with and without it")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing, a pair of models")
    arguments = parser.parse_args()
    model = nncomp.load(arguments.model)
    calibration, _ = feeds_of(arguments.calibration)
    evaluation, labels = feeds_of(arguments.evaluation)
    evaluation = evaluation[: arguments.samples or None]
    base = compiled(model, ("cleanup",), calibration).artifact
    expected = [base.run(feed) for feed in evaluation]
    known: dict[tuple[str, ...], Any] = {(): base}  # no passes at all would mean the target's own recipe
    for name, passes in map(parsed, arguments.recipes):
        started = time.process_time()
        result = compiled(model, passes, calibration)
        spent, peak = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        known[passes] = result.artifact
        got = [result.artifact.run(feed) for feed in evaluation]
        latency = compare_latency(
            lambda artifact=result.artifact: artifact.run(evaluation[0]),
            lambda: base.run(evaluation[0]),
            seconds=arguments.seconds,
        )
        before, after = result.report.before, result.report.after
        line: dict[str, Any] = {
            "recipe": name,
            "macs": round(after.macs / before.macs, 3) if before.macs else None,
            "params": round(after.params / before.params, 3),
            "sqnr_db": round(compare(expected, got).sqnr_db, 2),
            "speedup": round(latency.ratio, 3),
            "spread": [round(number, 3) for number in latency.spread],
            "cpu_s": round(spent, 1),
            "peak_mib": round(peak),
        }
        if labels is not None:
            scores = [next(iter(one.values())).argmax(-1)[0] for one in got]
            line["accuracy"] = round(float((np.array(scores) == labels[: len(scores)]).mean() * 100), 2)
        if arguments.then:
            behind = parsed(f":{arguments.then}")[1]
            plain = ("cleanup", "fuse", "cleanup", *behind)
            if plain not in known:
                known[plain] = compiled(model, plain, calibration).artifact
            both, theirs = compiled(model, (*passes, *behind), calibration).artifact, known[plain]
            together = compare_latency(
                lambda both=both: both.run(evaluation[0]),
                lambda theirs=theirs: theirs.run(evaluation[0]),
                seconds=arguments.seconds,
            )
            line["then_speedup"] = round(together.ratio, 3)
            line["then_spread"] = [round(number, 3) for number in together.spread]
        found = result.report.results.get("decompose")
        if found is not None:
            without = tuple(one for one in passes if not one.startswith("decompose"))
            if without not in known:
                known[without] = compiled(model, without, calibration).artifact
            ours, theirs = result.artifact, known[without]
            alone = compare_latency(
                lambda ours=ours: ours.run(evaluation[0]),
                lambda theirs=theirs: theirs.run(evaluation[0]),
                seconds=arguments.seconds,
            )
            line["decomposed"] = len(found["layers"])
            line["promised"] = round(found["promised_speedup"], 3) if found["promised_speedup"] else None
            line["measured"] = round(alone.ratio, 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
