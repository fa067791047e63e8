"""Inputs of a library with open sizes: whether feeds fit it, and feeds of other sizes to try it on."""

from __future__ import annotations

from typing import Any

import numpy as np

from nncomp.runtime import Feeds, RuntimeFailure
from nncomp_tvm.manifest import Manifest


def require_fit(manifest: Manifest, feeds: Feeds) -> None:
    """Hold the sizes of all inputs against the manifest.

    Raises:
        RuntimeFailure: a size is another than compiled for; one name has two sizes; an open size is 0.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for port in manifest.inputs:
        if port.name not in feeds or port.shape is None:
            continue
        shape = np.shape(feeds[port.name])
        wanted = f"[{', '.join(str(dim) or '?' for dim in port.shape)}]"
        fits = len(shape) == len(port.shape) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(port.shape, shape, strict=True)
        )
        if not fits:
            raise RuntimeFailure(f"input {port.name!r} is {list(shape)}, expected {wanted}")
        for dim, size in zip(port.shape, shape, strict=True):
            if isinstance(dim, str) and size == 0:
                raise RuntimeFailure(f"input {port.name!r} is {list(shape)}: open sizes of {wanted} are 1 or more")
            if not isinstance(dim, str) or not dim:
                continue
            first, where = sizes.setdefault(dim, (size, port.name))
            if first != size:
                raise RuntimeFailure(
                    f"input {port.name!r} is {list(shape)}: {dim} is {size} there, and {first} in {where!r}"
                )


def at_other_sizes(manifest: Manifest, feeds: Feeds) -> dict[str, Any] | None:
    """Return feeds whose open sizes are 3, or 2 where they were 3, made of the same numbers; None without open sizes.

    Rows that would be equal are moved by an element each, so that one that is taken for another shows.
    """
    found: dict[str, Any] = dict(feeds)
    for port in manifest.inputs:
        if port.shape is None or port.name in manifest.pinned or not any(isinstance(dim, str) for dim in port.shape):
            continue
        old = np.asarray(feeds[port.name])
        shape = tuple(
            dim if isinstance(dim, int) else 3 if size != 3 else 2
            for dim, size in zip(port.shape, old.shape, strict=True)
        )
        places = np.arange(int(np.prod(shape)))
        found[port.name] = old.reshape(-1)[(places + places // max(old.size, 1)) % max(old.size, 1)].reshape(shape)
    changed = any(np.shape(found[name]) != np.shape(feeds[name]) for name in feeds)
    return found if changed else None
