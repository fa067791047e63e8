"""The smallest piece of a graph that a build gets wrong, and what replays it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.errors import NncompError
from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, Value
from nncomp.onnx_io import save, write_atomically
from nncomp.reduce import reduce_graph
from nncomp.runtime import Feeds, Session

Array: TypeAlias = npt.NDArray[Any]
Build: TypeAlias = Callable[[Graph, Feeds], Any]

_TRIES: Final = 60
_WINDOWS: Final = (1, 2, 4, 8)
"""Numbers of ops that are tried alone."""


@dataclass(frozen=True)
class Reproducer:
    """Looks for the smallest piece of a graph that a build gets wrong.

    Attributes:
        problem: Builds a graph for given inputs, runs it, and says what is wrong; "" if nothing is.
    """

    problem: Callable[[Graph, Feeds], str]

    def write(self, graph: Graph, feeds: Feeds, folder: Path, command: str, problem: str) -> str:
        """Write ``repro.onnx``, ``feeds.npz``, ``recipe.toml`` and ``repro.json``; return what to say of it.

        Args:
            graph: A model's own graph that is got wrong on ``feeds``.
            feeds: Its inputs.
            folder: Where the files go.
            command: Target as the command line writes it.
            problem: What is wrong.
        """
        try:
            small, inputs = self.smallest(graph, feeds)
            save(small, folder / "repro.onnx")
            write_atomically(folder / "recipe.toml", [b"passes = []\n"])
            buffer = io.BytesIO()
            np.savez(buffer, **inputs)  # type: ignore[arg-type]
            write_atomically(folder / "feeds.npz", [buffer.getvalue()])
            record = {"code": "NNC-G005", "message": problem, "ops": len(small.ops()), "target": command}
            write_atomically(folder / "repro.json", [json.dumps(record, indent=2).encode() + b"\n"])
        except NncompError as error:
            return f"no reproducer: {error.message}"
        ops = len(small.ops())
        return (
            f"{ops} op{'s' * (ops > 1)} still do{'es' * (ops == 1)}; replay: nncomp compile {folder}/repro.onnx -t "
            f"'{command}' -r {folder}/recipe.toml --data {folder}/feeds.npz -o {folder}/out"
        )

    def smallest(self, graph: Graph, feeds: Feeds) -> tuple[Graph, dict[str, Array]]:
        """Return the smallest piece of ``graph`` found that is got wrong, and its inputs.

        First runs of ops are tried alone, each on what it is fed when the reference runs, the shortest first; then what
        is found is reduced further.
        """
        whole = graph.clone()
        infer_types(whole)
        tensors = [value for op in whole.ops() for value in op.outputs if value.name and value.tensor_type is not None]
        captured = {**dict(feeds), **Session(whole, outputs=[value.name for value in tensors]).run(feeds)}

        def inputs_of(piece: Graph) -> dict[str, Array]:
            return {value.name: captured[value.name.removesuffix("_fed")] for value in piece.inputs}

        def fails(piece: Graph) -> bool:
            try:
                return bool(self.problem(piece, inputs_of(piece)))
            except (NncompError, KeyError):
                return False

        found = next((piece for piece in _pieces(whole) if fails(piece.clone())), whole)
        small = reduce_graph(found, fails, tries=_TRIES)
        return small, inputs_of(small)


def _pieces(graph: Graph) -> Iterator[Graph]:
    """Yield runs of ops as graphs of their own, the shortest first; of equal ops only the first."""
    seen: set[object] = set()
    ops = [op for op in graph.ops() if not op.bodies]
    for length in _WINDOWS:
        if length > len(ops):
            return
        for start in range(len(ops) - length + 1):
            window = ops[start : start + length]
            key = tuple(_key(op) for op in window)
            if key not in seen:
                seen.add(key)
                yield graph.extract(window, _results(graph, window))


def _results(graph: Graph, window: Sequence[Op]) -> list[Value]:
    inside = set(window)
    made = [value for op in window for value in op.outputs if value.name]
    return [value for value in made if graph.is_output(value) or any(user not in inside for user in graph.users(value))]


def _key(op: Op) -> object:
    attrs = tuple(sorted((name, str(attr.value)) for name, attr in op.attrs.items()))
    return (op.kind, op.domain, attrs, tuple(None if value is None else str(value.type) for value in op.inputs))
