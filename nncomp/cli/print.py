"""``nncomp print``: a model in ONNX's own text syntax, large constants as digest and range."""

from __future__ import annotations

from typing import Annotated

import typer

from nncomp.cli.options import Debug, Model

Types = Annotated[bool, typer.Option("--types", help="Declare the types of intermediate values, too.")]
MaxElements = Annotated[
    int, typer.Option("--max-elements", metavar="N", min=0, help="Print the data of constants up to this size.")
]


def print_(model: Model, types: Types = False, max_elements: MaxElements = 16, debug: Debug = False) -> None:
    """Print a model as text, in a form that parses again."""
    from nncomp import onnx_io
    from nncomp.infer import infer_types
    from nncomp.text import print_graph

    graph = onnx_io.load(model)
    if types:
        infer_types(graph)
    print(print_graph(graph, types=types, max_elements=max_elements))
