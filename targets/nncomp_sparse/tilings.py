"""The mappings that are looked at: how far loops are split over array, element and buffers, and in what order they go.

Splits. The array is filled as far as its dataflow's dims allow: bounds that no other bound could raise. What is left of
a dim is split by its divisors (of the roundest number at most 6 % above, where it has a prime factor above 7). Of the
tiles that fit a memory only those are kept of which no dim can grow: a larger tile never moves more words. Kernels are
not split in the outermost block.

Orders. Each dim is irrelevant to at most one tensor: n and p to weights, c and r to outputs, m to inputs. The innermost
loop of more than one iteration therefore leaves one tensor in place at most, and that tensor stays longest when all
loops that do not matter to it are innermost; the others are fetched in each iteration, whatever the order of the rest.
Three orders a block would do; windows that overlap ask for a few more, since the loop next to them decides which axis
slides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp_sparse.space import Space
from nncomp_sparse.traffic import Counts

_LARGEST_FACTOR: Final = 7
_PADDING: Final = 0.06
_MOST_TILES: Final = 512


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a number, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


@lru_cache(maxsize=4096)
def rounded(number: int) -> int:
    """Return the number, or one at most 6 % above with most divisors if it has a large prime factor."""
    rest = number
    for prime in (2, 3, 5, 7):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 or number <= _LARGEST_FACTOR:
        return number
    return max(range(number, int(number * (1 + _PADDING)) + 1), key=lambda n: (len(divisors(n)), -n))


@dataclass(frozen=True, slots=True)
class Placement:
    """What runs side by side: bounds by dim for the rows and for the columns of the array, and inside of an element."""

    rows: tuple[tuple[int, int], ...]
    cols: tuple[tuple[int, int], ...]
    inner: tuple[tuple[int, int], ...] = ()

    @property
    def loops(self) -> tuple[tuple[int, int], ...]:
        """Dims and bounds over the array."""
        return (*self.rows, *self.cols)


def placements(
    space: Space, rows: int, cols: int, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, macs_per_pe: int = 1
) -> list[Placement]:
    """Return the ways to fill an array.

    Args:
        space: Of the layer.
        rows, cols: Of the array.
        pairs: Dims that may go along rows, and dims that may go along columns; several choices.
        macs_per_pe: Multipliers in an element; output channels, else input channels, go over them.
    """
    found: dict[Placement, None] = {}
    for along_rows, along_cols in pairs:
        for row in _filled(space.sizes, along_rows, rows):
            taken = dict(row)
            left = [size if dim not in taken else -(-size // taken[dim]) for dim, size in enumerate(space.sizes)]
            for col in _filled(left, along_cols, cols):
                rest = [size if dim not in dict(col) else -(-size // dict(col)[dim]) for dim, size in enumerate(left)]
                inner = _filled(rest, [2], macs_per_pe)[0] or _filled(rest, [3], macs_per_pe)[0]
                found[Placement(row, col, inner)] = None
    return list(found)


def _filled(sizes: Sequence[int], dims: Sequence[int], room: int) -> list[tuple[tuple[int, int], ...]]:
    """Return the products of at most two dims' bounds that fit ``room`` and that no other raises in both."""
    options: list[dict[int, int]] = []
    active = [dim for dim in dims if sizes[dim] > 1]
    for chosen in itertools.chain(((dim,) for dim in active), itertools.combinations(active, 2)):
        for first in _useful(sizes[chosen[0]], room):
            if len(chosen) == 1:
                options.append({chosen[0]: first})
                continue
            second = _useful(sizes[chosen[1]], room // first)[-1]
            options.append({chosen[0]: first, chosen[1]: second})
    rounds = [tuple(-(-size // option.get(dim, 1)) for dim, size in enumerate(sizes)) for option in options]
    best = []
    for number, mine in enumerate(rounds):
        beaten = any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or place < number)
            for place, other in enumerate(rounds)
            if place != number
        )
        if not beaten:
            best.append(tuple((dim, bound) for dim, bound in sorted(options[number].items()) if bound > 1))
    return list(dict.fromkeys(best)) or [()]


def _useful(size: int, room: int) -> list[int]:
    """Return the bounds up to ``room`` that are the least for their number of rounds, ascending."""
    bounds = {-(-size // -(-size // bound)) for bound in range(1, min(size, max(room, 1)) + 1)}
    return sorted(bounds)


def largest_tiles(
    choices: Sequence[Sequence[int]], base: Sequence[int], fits: Callable[[Counts], npt.NDArray[np.bool_]]
) -> Counts:
    """Return the factors of tiles that fit and of which no dim can grow, (tiles, dims).

    Args:
        choices: Factors that each dim may have, ascending.
        base: What a tile spans at factor 1, by dim.
        fits: True for tiles, given what they span, (tiles, dims).
    """
    grid = np.stack(np.meshgrid(*[np.array(options, np.int64) for options in choices], indexing="ij"), axis=-1)
    shape = grid.shape[:-1]
    flat = grid.reshape(-1, len(choices))
    fitting = fits(flat * np.array(base, np.int64)).reshape(shape)
    growable = np.zeros(shape, bool)
    for axis in range(len(shape)):
        head = [slice(None)] * len(shape)
        tail = [slice(None)] * len(shape)
        head[axis], tail[axis] = slice(None, -1), slice(1, None)
        growable[tuple(head)] |= fitting[tuple(tail)]
    return np.asarray(flat[(fitting & ~growable).reshape(-1)])


def orders(space: Space, stationary: str, *, kernels: bool) -> list[tuple[int, ...]]:
    """Return the orders of a block's loops, outer to inner.

    Args:
        space: Of the layer.
        stationary: The tensor that stays longest; ``any`` for all three.
        kernels: Kernel dims are among the loops.
    """
    positions = [0, *range(4, len(space.dims), 2)]
    kernel = list(range(5, len(space.dims), 2)) if kernels else []
    found: dict[tuple[int, ...], None] = {}
    for p, r in itertools.product(_last_ones(positions), _last_ones([3, *kernel])):
        ways = {"weight": [(2, *r, *p)], "output": [(2, *p, *r)], "input": [(*r, *p, 2), (*p, *r, 2)]}
        for tensor, chosen in ways.items():
            if stationary in (tensor, "any"):
                found.update(dict.fromkeys((1, *order) for order in chosen))
    active = [tuple(dim for dim in order if space.sizes[dim] > 1) for order in found]
    return list(dict.fromkeys(active))


def _last_ones(dims: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the dims with each sliding one (all but the first) innermost once."""
    head, tail = dims[0], list(dims[1:])
    if not tail:
        yield (head,)
    for last in tail:
        yield (head, *(dim for dim in tail if dim != last), last)
