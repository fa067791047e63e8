"""``nncomp demo``: the digit classifier that comes with nncomp, compiled to INT8 and judged on held-out images.

JSON: as ``nncomp compile``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nncomp.cli.options import Debug, Json

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.")]


def demo(out: Out = Path("nncomp-demo"), json: Json = False, debug: Debug = False) -> None:
    """Compile a digit classifier to INT8 and compare."""
    from nncomp.cli.compile import run_and_show
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import say
    from nncomp.compiler import CompileRequest
    from nncomp.demo import data_path, model_path

    request = CompileRequest(model=model_path(), out=out, data=str(data_path()))
    run_and_show(request, load_registry(), json=json)
    if not json:
        say()
        say(f"the same: nncomp compile {model_path()} --data {data_path()} -o {out}")
