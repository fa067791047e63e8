"""ONNX's own 2033 backend models, each rewritten in every way that must lose nothing, and run on ONNX Runtime.

`pytest tests/conformance` prints one line a rewrite. The counts are those of the pinned versions; with others the
lines say what was found, and the laws (nothing lost, nothing wrong) hold all the same.
"""

from collections import Counter

import onnx
import onnxruntime
import pytest
from onnx import ModelProto

import nncomp
from nncomp.compiler import freeze_defaults
from nncomp.errors import UnsupportedError
from nncomp.onnx_io import graph_from_proto, to_bytes
from nncomp.runtime import RuntimeFailure, run_bytes
from nncomp.testing.conformance import mismatches, references, replay
from nncomp.testing.corpus import BACKEND_COUNTS, BackendCase
from nncomp.text import constants_of, parse_graph, print_graph
from nncomp_cleanup.cleanup import Cleanup
from nncomp_fusion.fuse import Fuse
from nncomp_ort.legalize import legalize

# By versions of onnx and onnxruntime: models that run as they stand, those of them that pass, and those that pass once
# they are legalized. The tests of StringNormalizer, 8 of which need the locale en_US.UTF-8, are not counted.
COUNTS = {
    ("1.23.2", "1.31.1"): (1617, 1595, 1835),
    ("1.23.2", "1.32.0"): (1867, 1845, 1912),
}
VERSIONS = (onnx.__version__, onnxruntime.__version__)


def needs_locale(label: str) -> bool:
    return "/test_strnorm" in label


@pytest.fixture(scope="module")
def runnable(cases):
    return references(cases)


def written_back(model: ModelProto) -> bytes:
    return to_bytes(graph_from_proto(model))


def cloned(model: ModelProto) -> bytes:
    return to_bytes(graph_from_proto(model).clone())


def through_text(model: ModelProto) -> bytes:
    graph = graph_from_proto(model)
    return to_bytes(parse_graph(print_graph(graph, types=True), constants=constants_of(graph)))


def optimized(model: ModelProto) -> bytes:
    """Run the lossless passes of the default recipe, without the gate: they must be right by themselves."""
    graph = graph_from_proto(model)
    nncomp.Pipeline([Cleanup(), Fuse(), Cleanup()]).run(graph, nncomp.Context())
    return to_bytes(graph)


def frozen(model: ModelProto) -> bytes:
    """As :func:`optimized`, but with ``--freeze``: the models of 2017 list their weights as inputs."""
    graph = graph_from_proto(model)
    freeze_defaults(graph)
    nncomp.Pipeline([Cleanup(), Fuse(), Cleanup()]).run(graph, nncomp.Context())
    return to_bytes(graph)


REWRITES = {
    "read and written": written_back,
    "cloned": cloned,
    "through the text form": through_text,
    "cleanup, fuse, cleanup": optimized,
}


@pytest.mark.slow
def test_every_model_that_runs_is_kept_by_every_lossless_rewrite(runnable, record_property):
    passing = sum(reference.passes for reference in runnable)
    record_property("scoreboard", f"as it stands: {len(runnable)} models run, {passing} of them pass")
    for name, rewrite in REWRITES.items():
        board = replay(name, rewrite, runnable)
        record_property("scoreboard", str(board))
        assert board.complaints() == []
        assert board.identical == len(runnable)
    with_defaults = [reference for reference in runnable if has_defaults(reference.case.model)]
    board = replay("the same, with --freeze", frozen, with_defaults)
    record_property("scoreboard", str(board))
    assert board.complaints() == []
    if VERSIONS in COUNTS:
        found = [reference for reference in runnable if not needs_locale(reference.case.label)]
        assert (len(found), sum(reference.passes for reference in found)) == COUNTS[VERSIONS][:2]


def has_defaults(model: ModelProto) -> bool:
    return not {tensor.name for tensor in model.graph.initializer}.isdisjoint(item.name for item in model.graph.input)


@pytest.mark.slow
def test_legalized_for_onnx_runtime_more_models_pass_and_none_fewer(cases, runnable, record_property):
    passing = {case.label for case in cases if passes_legalized(case)}
    lost = {reference.case.label for reference in runnable if reference.passes} - passing
    record_property("scoreboard", f"legalized for ONNX Runtime: {len(passing)} of {len(cases)} pass")
    assert lost == set()
    if VERSIONS in COUNTS:
        assert sum(not needs_locale(label) for label in passing) == COUNTS[VERSIONS][2]


def passes_legalized(case: BackendCase) -> bool:
    graph = graph_from_proto(case.model)
    try:
        legalize(graph)
        return not mismatches(case, run_bytes(to_bytes(graph), [inputs for inputs, _ in case.samples]))
    except (UnsupportedError, RuntimeFailure):
        return False


def test_the_corpus_has_2033_models(cases):
    found = Counter(case.kind for case in cases)
    assert sum(BACKEND_COUNTS.values()) == 2033
    if VERSIONS[0].startswith("1.23."):
        assert found == BACKEND_COUNTS
    assert len({case.label for case in cases}) == len(cases) > 1900
