from collections.abc import Callable, Iterable
from typing import TypeAlias

import pytest

from nncomp.errors import NncompError
from nncomp.ir import DataType, Graph, TensorType

Model: TypeAlias = Callable[..., Graph]


@pytest.fixture
def model() -> Model:
    """Make a graph with inputs like ``x="FLOAT N 3 8 8"``; ``None`` for the shape is written ``FLOAT *``."""

    def make(**inputs: str) -> Graph:
        graph = Graph("g")
        for name, text in inputs.items():
            word, *dims = text.split()
            shape = None if dims == ["*"] else tuple(int(dim) if dim.isdigit() else dim for dim in dims)
            graph.add_input(name, TensorType(DataType[word], shape))
        graph.set_outputs([op.output for op in [graph.add_op("Identity", [value]) for value in graph.inputs]])
        return graph

    return make


@pytest.fixture
def graph(model: Model) -> Graph:
    """Make a graph with one input, rows of three numbers."""
    return model(x="FLOAT N 3")


@pytest.fixture
def error_of() -> Callable[[Callable[[], object]], NncompError]:
    """Return the error that opening and reading all samples raises."""

    def run(action: Callable[[], object]) -> NncompError:
        with pytest.raises(NncompError) as caught:
            made = action()
            if isinstance(made, Iterable):
                for _ in made:
                    pass
        return caught.value

    return run
