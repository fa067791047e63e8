"""``nncomp new-plugin``: a plugin of one's own, as a distribution that installs and passes its tests.

JSON: ``{name, kind, folder, files: [path]}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nncomp.cli.options import Debug, Json

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case words joined by hyphens, as in acme.", show_default=False)
]
BringsPass = Annotated[bool, typer.Option("--pass", help="With a pass (the default).")]
BringsTarget = Annotated[bool, typer.Option("--target", help="With a target.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where to write (default: nncomp-NAME).", show_default=False),
]


def new_plugin(
    name: Name,
    *,
    pass_: BringsPass = False,
    target: BringsTarget = False,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a plugin with a pass or a target, its tests, and all that it takes to install it."""
    from nncomp.cli.tables import say, show_json
    from nncomp.errors import UsageError
    from nncomp.scaffold import Kind
    from nncomp.scaffold import new_plugin as write

    if pass_ and target:
        raise UsageError("give --pass or --target, not both", hint="one plugin may bring both: add the other by hand")
    kind = Kind.TARGET if target else Kind.PASS
    folder = Path(f"nncomp-{name}") if out is None else out
    files = write(name, kind, folder)
    if json:
        show_json({"name": name, "kind": kind.value, "folder": str(folder), "files": [str(path) for path in files]})
        return
    for path in files:
        say(str(path))
    say()
    say(f"next: cd {folder} && pip install -e '.[test]' && pytest")
