"""Static or dynamic: for ops that a target runs in integers either way, which of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from nncomp.errors import RecipeError, UnsupportedError, Where
from nncomp.ir import Graph, Op
from nncomp.selectors import select
from nncomp.targets import Int8Form, Int8Kernel, Int8Support


def asked_forms(
    graph: Graph, int8: Int8Support, *, static: Sequence[str], dynamic: Sequence[str]
) -> dict[Op, Int8Form]:
    """Return the form of each op that selectors ask for.

    Raises:
        UnsupportedError: the target has no such kernel for one of them (NNC-T002).
        RecipeError: an op is to be both (NNC-R012), or a selector matches nothing (NNC-R011).
    """
    found: dict[Op, Int8Form] = {}
    wanted = {
        option: select(graph, names, option=f"quantize.{option}") if names else frozenset()
        for option, names in (("static", static), ("dynamic", dynamic))
    }
    for _, op in graph.walk():
        options = [option for option, ops in wanted.items() if op in ops]
        if len(options) > 1:
            raise RecipeError(
                f"quantize: {op.label!r} is in static and in dynamic",
                code="NNC-R012",
                where=Where(node=op.label),
                hint="take it out of one of them",
            )
        for option in options:
            kernel = _kernel(op, int8)
            form = kernel.form_with(dynamic=option == "dynamic") if kernel is not None else None
            if kernel is None or form is None:
                raise _no_kernel(op, option, kernel)
            found[op] = form
    return found


def other_forms(graph: Graph, int8: Int8Support, *, dynamic: bool) -> dict[Op, Int8Form]:
    """Return the ops that the target would run otherwise, but can run dynamically, or statically, too."""
    found = {}
    for _, op in graph.walk():
        kernel = _kernel(op, int8)
        form = kernel.form_with(dynamic=dynamic) if kernel is not None else None
        if kernel is not None and form is not None and (kernel.form is Int8Form.DYNAMIC) != dynamic:
            found[op] = form
    return found


def refuse_wide(forms: Mapping[Op, Int8Form], wide: Set[Op]) -> None:
    """Refuse dynamic ops whose activations are to have 16 bits: those need scales from calibration.

    Raises:
        RecipeError: there is one (NNC-R012).
    """
    for op, form in forms.items():
        if form is Int8Form.DYNAMIC and op in wide:
            raise RecipeError(
                f"quantize: {op.label!r} is in dynamic, where activations of 16 bits are not",
                code="NNC-R012",
                where=Where(node=op.label),
                hint="take it out of dynamic, or out of what has 16 bits",
            )


def _kernel(op: Op, int8: Int8Support) -> Int8Kernel | None:
    return None if op.domain else int8.kernels.get(op.kind)


def _no_kernel(op: Op, option: str, kernel: Int8Kernel | None) -> UnsupportedError:
    has, hint = "no integer kernel", "take it out"
    if kernel is not None:
        when = "at run time" if option == "dynamic" else "with scales from calibration"
        has = f"no kernel that quantizes its activations {when}"
        hint = "take it out: its integer kernel is " + ("static" if option == "dynamic" else "dynamic")
    return UnsupportedError(
        f"quantize.{option}: for {op.label!r} ({op.kind}) the target has {has}",
        code="NNC-T002",
        where=Where(node=op.label),
        hint=hint,
    )
