"""The command tree: built-in commands, and plugins' commands looked up only when an unknown name is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nncomp.cli.axes import axes
from nncomp.cli.bench import bench
from nncomp.cli.check import check
from nncomp.cli.compile import compile_
from nncomp.cli.demo import demo
from nncomp.cli.diff import diff
from nncomp.cli.doctor import doctor
from nncomp.cli.inspect import inspect
from nncomp.cli.lists import passes, plugins, targets
from nncomp.cli.new_plugin import new_plugin
from nncomp.cli.print import print_
from nncomp.cli.reduce import reduce
from nncomp.cli.report import report
from nncomp.cli.sensitivity import sensitivity

_EPILOG = (
    "Exit status: 0 done, 1 a bug of ours, 2 usage or recipe, 3 invalid model, 4 not supported, 5 a gate or budget "
    "failed, 6 resources, 7 a plugin failed, 130 interrupted."
)


class CommandGroup(TyperGroup):
    """Commands of nncomp, then those of plugins."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; plugins are loaded only for a name that is not built in."""
        found = super().get_command(ctx, cmd_name)
        if found is not None or cmd_name.startswith("-"):
            return found
        from nncomp.cli.registry import load_registry

        added = load_registry().commands.get(cmd_name)
        return None if added is None else typer.main.get_command(added)


app = typer.Typer(
    name="nncomp",
    cls=CommandGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _show_version(value: bool) -> None:
    if value:
        from nncomp.installation import version_lines

        typer.echo("\n".join(version_lines()))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Optimization compiler for neural networks: ONNX in, a smaller and faster model out, checked step by step."""


_COMMANDS: dict[str, Callable[..., None]] = {
    "compile": compile_,
    "inspect": inspect,
    "axes": axes,
    "report": report,
    "print": print_,
    "diff": diff,
    "check": check,
    "bench": bench,
    "sensitivity": sensitivity,
    "reduce": reduce,
    "passes": passes,
    "targets": targets,
    "plugins": plugins,
    "doctor": doctor,
    "new-plugin": new_plugin,
    "demo": demo,
}
for _name, _function in _COMMANDS.items():
    app.command(_name)(_function)
