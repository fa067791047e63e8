"""Selectors: how a recipe names ops, as in ``skip = ["/head/*", "kind:Softmax"]``.

======================  ===============================================================================
``NAME``                ops of that name or label; ``*``, ``?`` and ``[...]`` are wildcards
``kind:KIND``           ops of that operator kind, wildcards allowed; ``kind:com.microsoft.*`` names a domain
``output:NAME``         the op that computes that value, wildcards allowed
``re:REGEX``            ops whose whole name or label a regular expression matches
======================  ===============================================================================

A selector that selects nothing is an error, not silence. A regular expression that could backtrack for ever is refused
before it is run: few repetitions, none inside another.
"""

from __future__ import annotations

import difflib
import re
import re._constants as sre  # type: ignore[import-not-found]  # what re itself parses with; typeshed has no stub
import re._parser as sre_parse  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from nncomp.errors import RecipeError
from nncomp.ir import Graph, Op

Selector: TypeAlias = Callable[[Op], bool]

_MAX_PATTERN: Final = 200  # characters of a regular expression
_MAX_NAME: Final = 200  # characters of a name that one is matched against; longer names it does not match
_MAX_LOOPS: Final = 3  # repetitions: with names of 200 characters at most 200^3 / 6 steps
_MAX_CHOICES: Final = 6  # optional parts and alternatives: at most 2^6 ways more


def select(graph: Graph, patterns: Iterable[str], *, option: str = "") -> set[Op]:
    """Return the ops, in bodies too, that any of ``patterns`` selects.

    Args:
        graph: Where to look.
        patterns: Selectors; see the module.
        option: What to call the option in messages, as in ``quantize.skip``.

    Raises:
        RecipeError: a selector is malformed, or selects nothing (NNC-R011).
    """
    ops = [op for _, op in graph.walk()]
    chosen: set[Op] = set()
    for pattern in patterns:
        matches = selector(pattern, option=option)
        found = {op for op in ops if matches(op)}
        if not found:
            raise _error(option, f"selector {pattern!r} matches no op", _nearest(pattern, ops))
        chosen |= found
    return chosen


def selector(pattern: str, *, option: str = "") -> Selector:
    """Return the test that ``pattern`` stands for.

    Raises:
        RecipeError: the selector is malformed (NNC-R011).
    """
    sort, colon, rest = pattern.partition(":")
    if not pattern:
        raise _error(option, "a selector is empty", "'*' selects every op")
    if colon and sort == "re":
        return _by_regex(rest, pattern, option)
    if colon and sort == "kind":
        return lambda op: _fits(rest, op.kind) or _fits(rest, f"{op.domain}.{op.kind}")
    if colon and sort == "output":
        return lambda op: any(_fits(rest, value.name) for value in op.outputs if value.name)
    return lambda op: any(_fits(pattern, name) for name in _names(op))


def _names(op: Op) -> tuple[str, ...]:
    return (op.name,) if op.name else (op.label,)


def _fits(pattern: str, name: str) -> bool:
    """Equal, or matched as a glob: names such as ``layer[0]`` hold what a glob reads as a set of characters."""
    return pattern == name or fnmatchcase(name, pattern)


def _by_regex(text: str, pattern: str, option: str) -> Selector:
    if len(text) > _MAX_PATTERN:
        raise _error(
            option,
            f"selector {pattern[:40]!r}... has {len(text)} characters, expected at most {_MAX_PATTERN}",
            "wildcards may do: 'layer*.conv?'",
        )
    try:
        tree = sre_parse.parse(text)
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _error(
            option, f"selector {pattern!r} is not a regular expression: {error}", "without 're:' it is a glob"
        ) from None
    loops, choices = _count_choices(tree, pattern, option)
    if loops > _MAX_LOOPS or choices > _MAX_CHOICES:
        raise _error(
            option,
            f"selector {pattern!r} has {loops} repetitions and {choices} optional parts or alternatives, "
            f"expected at most {_MAX_LOOPS} and {_MAX_CHOICES}",
            "several short selectors do the same",
        )
    return lambda op: any(len(name) <= _MAX_NAME and compiled.fullmatch(name) is not None for name in _names(op))


def _count_choices(tree: Any, pattern: str, option: str, *, inside_loop: bool = False) -> tuple[int, int]:
    """Count (repetitions, other choices) of a parsed regular expression; see :mod:`re._parser` for its form."""
    loops = choices = 0
    for code, argument in tree:
        loop = False
        if code in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            low, high, _ = argument
            loop = high > 1
            loops += int(loop and low != high)
            choices += int(not loop and low != high)
        elif code is sre.BRANCH:
            choices += 1
        elif code is sre.GROUPREF:
            raise _error(option, f"selector {pattern!r} refers back to a group", "write the text out")
        varies = code is sre.BRANCH or (code in (sre.MAX_REPEAT, sre.MIN_REPEAT) and argument[0] != argument[1])
        if varies and inside_loop:
            raise _error(
                option, f"selector {pattern!r} has a choice inside a repetition", "several selectors do the same"
            )
        for part in _parts(argument):
            inner = _count_choices(part, pattern, option, inside_loop=inside_loop or loop)
            loops, choices = loops + inner[0], choices + inner[1]
    return loops, choices


def _parts(argument: Any) -> list[Any]:
    """Return the patterns inside a node's argument: they are the sub-patterns in it, at any depth of lists."""
    if isinstance(argument, sre_parse.SubPattern):
        return [argument]
    if isinstance(argument, list | tuple):
        return [part for item in argument for part in _parts(item)]
    return []


def _nearest(pattern: str, ops: Iterable[Op]) -> str:
    ops = list(ops)
    kinds = {op.kind for op in ops}
    if pattern in kinds:
        return f"did you mean 'kind:{pattern}'?"
    sort, _, rest = pattern.partition(":")
    if sort == "kind":
        near = difflib.get_close_matches(rest, kinds, 1, cutoff=0.4)
        return f"did you mean 'kind:{near[0]}'?" if near else f"kinds: {', '.join(sorted(kinds)[:20])}"
    if sort == "output":
        names = [value.name for op in ops for value in op.outputs if value.name]
        near = difflib.get_close_matches(rest, names[:5000], 1, cutoff=0.4)
        return f"did you mean 'output:{near[0]}'?" if near else ""
    near = difflib.get_close_matches(pattern, [name for op in ops[:5000] for name in _names(op)], 3, cutoff=0.4)
    return f"near: {', '.join(repr(name) for name in near)}" if near else "`nncomp inspect MODEL --ops` lists the names"


def _error(option: str, message: str, hint: str) -> RecipeError:
    return RecipeError(f"{option}: {message}" if option else message, code="NNC-R011", hint=hint)
