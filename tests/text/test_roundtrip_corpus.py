from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.loader import load_model_tests

from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.text import constants_of, inexpressible, parse_graph, print_graph

COUNTS = {"node": 1884, "simple": 23, "real": 9, "pytorch-converted": 82, "pytorch-operator": 35}
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def models(kind: str) -> Iterator[tuple[str, onnx.ModelProto]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the expected outputs of node tests divides by zero
        cases = load_model_tests(kind=kind)
    for case in cases:
        model = getattr(case, "model", None)
        if model is None:
            folder = Path(case.model_dir) if case.model_dir else None
            light = LIGHT / f"light_{case.name.removeprefix('test_')}.onnx"
            model = onnx.load(folder / "model.onnx" if folder else light)
        yield case.name, model


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_every_backend_model_comes_back_from_text(kind: str) -> None:
    different, count = [], 0
    for name, model in models(kind):
        count += 1
        graph = graph_from_proto(model)
        text = print_graph(graph, types=True)
        back = parse_graph(text, constants=constants_of(graph))
        same = graph_to_proto(back) == graph_to_proto(graph) and print_graph(back, types=True) == text
        if not same or inexpressible(graph):
            different.append(name)
    assert different == []
    assert count == COUNTS[kind]


def test_the_corpus_has_2033_models() -> None:
    assert sum(COUNTS.values()) == 2033
