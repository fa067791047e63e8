"""Connected components by whole-array steps: hook larger roots to smaller ones, then halve the paths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def components(count: int, one: Ints, other: Ints) -> Ints:
    """Return for each of ``count`` nodes the smallest node of its component.

    O((nodes + edges) log nodes) for all graphs met in practice; after Shiloach and Vishkin, "An O(log n) parallel
    connectivity algorithm", 1982.
    """
    root = np.arange(count, dtype=np.int64)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root
        one, other = a[apart], b[apart]
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while True:
            above = root[root]
            if np.array_equal(above, root):
                break
            root = above
