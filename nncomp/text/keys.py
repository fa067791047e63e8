"""Keys of elided constants: how a text and the data beside it find each other."""

from __future__ import annotations

from collections.abc import Container, Iterable


def op_key(outputs: Iterable[str], name: str) -> str:
    """Return what stands for an op in keys: its first output that has a name, else its own name."""
    return next(filter(None, outputs), name)


def free_key(key: str, taken: Container[str]) -> str:
    """Return ``key``, or something like it if a name with a slash in it took that.

    Printer and parser ask in the same order, so they agree.
    """
    while key in taken:
        key += "'"
    return key
