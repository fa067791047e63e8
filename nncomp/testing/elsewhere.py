"""Elsewhere: what a pass makes in another process, where sets of strings lie in another order.

The child imports the pass by its name, so it must lie in a module that can be imported.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from nncomp.errors import NncompError
from nncomp.ir import Graph
from nncomp.onnx_io import from_bytes, to_bytes
from nncomp.passes import Pass
from nncomp.testing.lawful import MakeContext, made
from nncomp.text import model_digest

_RUN = "from nncomp.testing.elsewhere import answer; answer()"


def importable(thing: Any) -> str:
    """Return how another process finds a class or function, as ``module:name``; "" when it cannot."""
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    if module == "__main__" or not name.isidentifier():
        return ""
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is thing else ""


def digests_elsewhere(
    steps: Sequence[Pass], graphs: Sequence[Graph], context: MakeContext, hash_seed: int
) -> list[list[str]] | None:
    """Return digests of what each pass makes of each graph in a process with another hash seed; "" where it refuses.

    None when the passes or the context cannot be imported there.
    """
    names, place = [importable(type(step)) for step in steps], importable(context)
    if not place or not all(names):
        return None
    question = {
        "path": sys.path,
        "passes": [
            {"type": name, "options": step.model_dump(mode="json")} for name, step in zip(names, steps, strict=True)
        ],
        "context": place,
        "models": [base64.b64encode(to_bytes(graph)).decode() for graph in graphs],
    }
    ended = subprocess.run(  # noqa: S603  this Python, with a program of ours
        [sys.executable, "-c", _RUN],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if ended.returncode:
        if "ModuleNotFoundError" in ended.stderr:  # a test module, as pytest imports it, has a name only there
            return None
        raise AssertionError(f"in another process: {ended.stderr.strip().splitlines()[-1]}")
    found: list[list[str]] = json.loads(ended.stdout)
    return found


def digests_here(step: Pass, graphs: Sequence[Graph], context: MakeContext) -> list[str]:
    """Return digests of what a pass makes of each graph; "" where it refuses."""
    found = []
    for graph in graphs:
        try:
            found.append(model_digest(made([step], graph, context)))
        except NncompError:
            found.append("")
    return found


def answer() -> None:
    """Read a question from stdin and print the digests: what the child does."""
    question = json.load(sys.stdin)
    sys.path[:] = question["path"]
    context = _found(question["context"])
    graphs = [from_bytes(base64.b64decode(model)) for model in question["models"]]
    steps = [_found(one["type"]).from_options(one["options"]) for one in question["passes"]]
    print(json.dumps([digests_here(step, graphs, context) for step in steps]))


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
