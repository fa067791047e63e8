"""``nncomp diff``: what differs between two models; exit 0 either way.

JSON: ``nncomp.diff.GraphDiff.as_dict()`` with ``equal`` in front.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nncomp.cli.options import Debug, Json, Model

_LONGEST = 1000

Other = Annotated[Path, typer.Argument(metavar="OTHER", help="Model file to compare with.", show_default=False)]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False)
]


def diff(model: Model, other: Other, *, html: Html = None, json: Json = False, debug: Debug = False) -> None:
    """Show what differs between two models."""
    from nncomp import onnx_io
    from nncomp.cli.streams import printable
    from nncomp.cli.tables import say, show_json
    from nncomp.diff import diff as compare
    from nncomp.report import plain

    found = compare(onnx_io.load(model), onnx_io.load(other))
    if html is not None:
        from nncomp.report.page import diff_page

        page = diff_page(str(model), str(other), plain(found.as_dict()))
        onnx_io.write_atomically(html, [page.encode()])
    if json:
        show_json({"equal": found.is_empty, **plain(found.as_dict())})
        return
    for line in found.lines():
        print(printable(line, longest=_LONGEST))
    if found.is_empty:
        say("no differences")
    if html is not None:
        say(f"wrote {html}")
