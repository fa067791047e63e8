"""A sample of ONNX's backend tests through ``tvm-cpu`` and through TVM's plain frontend; all of them take minutes."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from nncomp.testing.corpus import backend_cases

BENCH = Path(__file__).parents[2] / "bench" / "tvm_corpus.py"
EVERY = 60


@pytest.mark.slow
def test_of_onnx_s_backend_tests_more_pass_than_through_the_plain_frontend(record_property):
    spec = importlib.util.spec_from_file_location("tvm_corpus", BENCH)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    cases = list(backend_cases("node"))[::EVERY]
    counts = {}
    for engine in ("target", "plain"):
        found = bench.verdicts(engine, cases, seconds=60)
        counts[engine] = Counter(verdict for verdict, _ in found.values())
        record_property(
            "scoreboard", f"{engine}: {counts[engine]['passed']} of {len(found)} pass, {dict(counts[engine])}"
        )
        if engine == "target":
            assert [(label, why) for label, (verdict, why) in found.items() if verdict in ("wrong", "crashed")] == []
    assert counts["target"]["passed"] >= 1.15 * counts["plain"]["passed"]
