"""Assertions on graphs; they raise AssertionError with what a test's reader must know."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, TensorType, Type
from nncomp.narrow import widened
from nncomp.testing import builders
from nncomp.text import has_header, print_graph, tokens


def assert_same_function(
    a: Graph,
    b: Graph,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    exact: bool = False,
    seed: int = 0,
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Assert that two graphs have one interface, and give one result on ONNX Runtime without optimizations.

    Types and shapes of results must be equal, NaN equals NaN; |a - b| <= atol + rtol |a| elsewhere.

    Args:
        a: Reference.
        b: Graph that must do the same.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        exact: Ask for equal bits (of all but NaNs) instead.
        seed: Seed of the inputs.
        feeds: Inputs; default: :func:`feeds` of ``a``.

    Raises:
        AssertionError: they differ; the message names each output and how far it is off.
        RuntimeFailure: ONNX Runtime refuses one of them.
    """
    from nncomp.runtime import run

    problems = list(_interface_problems(a, b))
    assert not problems, "interfaces differ:\n" + "\n".join(problems)
    inputs = builders.feeds(a, seed=seed) if feeds is None else feeds
    before, after = run(a, inputs), run(b, inputs)
    for name, expected in before.items():
        tolerance = None if exact else (rtol, atol)
        problems += [f"output {name!r}{problem}" for problem in result_problems(expected, after[name], tolerance)]
    assert not problems, "results differ:\n" + "\n".join(problems)


def assert_text(graph: Graph, expected: str) -> None:
    """Assert that a graph prints as ``expected``, white space, comments and model header aside.

    A constant that ``expected`` declares without data may have any.

    Raises:
        AssertionError: it does not; the message is a diff of the texts.
    """
    text = print_graph(graph)
    if _same_tokens(_body_tokens(text), _body_tokens(expected)):
        return
    found = text.partition(">\n")[2] if not has_header(expected) else text
    lines = difflib.unified_diff(
        textwrap.dedent(expected).strip().splitlines(), found.strip().splitlines(), "expected", "found", lineterm=""
    )
    raise AssertionError("graph text differs:\n" + "\n".join(lines))


def _body_tokens(text: str) -> list[str]:
    found = tokens(text)
    return found[found.index(">") + 1 :] if found[:1] == ["<"] else found


def _same_tokens(found: list[str], expected: list[str]) -> bool:
    at = 0
    for token in expected:
        if token in (",", ">") and found[at : at + 2] == ["=", "{"]:
            at = found.index("}", at) + 1
        if found[at : at + 1] != [token]:
            return False
        at += 1
    return at == len(found)


def _interface_problems(a: Graph, b: Graph) -> Iterator[str]:
    for what, before, after in (("inputs", a.inputs, b.inputs), ("outputs", a.outputs, b.outputs)):
        names = [value.name for value in before], [value.name for value in after]
        if names[0] != names[1]:
            yield f"{what} are {names[1]}, expected {names[0]}"
            continue
        for old, new in zip(before, after, strict=True):
            same = old.type == new.type if what == "inputs" else _agree(old.type, new.type)
            if not same:
                yield f"{what[:-1]} {old.name!r} is {new.type}, expected {old.type}"


def _agree(a: Type | None, b: Type | None) -> bool:
    """True when one value can be of both types: a pass may learn or forget a dimension of an output."""
    if not (isinstance(a, TensorType) and isinstance(b, TensorType)):
        return a is None or b is None or a == b
    if a.dtype != b.dtype or a.shape is None or b.shape is None:
        return a.dtype == b.dtype
    sizes = zip(a.shape, b.shape, strict=False)
    return len(a.shape) == len(b.shape) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in sizes
    )


def result_problems(expected: Any, found: Any, tolerance: tuple[float, float] | None) -> Iterator[str]:
    """Yield how a result (array, list of arrays, or None for an empty optional) differs.

    Args:
        expected: Reference.
        found: Result.
        tolerance: (relative, absolute); None asks for equal bits of all but NaNs.
    """
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f" has {len(found)} elements, expected {len(expected)}"
        for number, (old, new) in enumerate(zip(expected, found, strict=False)):
            yield from (f"[{number}]{problem}" for problem in result_problems(old, new, tolerance))
    elif isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        yield from _array_problems(expected, found, tolerance)
    elif type(expected) is not type(found) or expected != found:
        yield f" is {found!r}, expected {expected!r}"


def _array_problems(
    expected: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: tuple[float, float] | None
) -> Iterator[str]:
    if expected.dtype != found.dtype or expected.shape != found.shape:
        yield f" is {found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
        return
    expected, found = widened(expected), widened(found)
    if expected.dtype.kind not in "fc":
        wrong = expected != found
    elif tolerance is None:
        wrong = expected != found
        for old, new in ((expected.real, found.real), (expected.imag, found.imag)):
            wrong = wrong | (np.signbit(old) != np.signbit(new))
        wrong = wrong & ~(np.isnan(expected) & np.isnan(found))
    else:
        rtol, atol = tolerance
        wrong = ~np.isclose(found, expected, rtol=rtol, atol=atol, equal_nan=True)
    if wrong.any():
        where = tuple(int(place) for place in np.argwhere(wrong)[0])
        yield (
            f": {int(wrong.sum())} of {wrong.size} elements differ{_largest(expected, found)}; "
            f"the first at {list(where)}: {found[where]}, expected {expected[where]}"
        )


def _largest(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> str:
    if expected.dtype.kind not in "fiu":
        return ""
    with np.errstate(invalid="ignore"):
        distance = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    return f" by up to {np.nanmax(distance):.3g}" if not np.isnan(distance).all() else ""
