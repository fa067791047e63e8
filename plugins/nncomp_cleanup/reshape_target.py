"""What a computed target of Reshape comes to."""

from __future__ import annotations

import math

from nncomp_cleanup.dims import Entry, Integers


def reshape_target(
    dims: tuple[Entry, ...] | None, wanted: Integers | None, *, allow_zero: bool
) -> tuple[tuple[int, ...] | None, str]:
    """Return a constant target that does what ``wanted`` does on every input on which ``wanted`` is valid, or why not.

    Three steps, each of which changes nothing:

    * An entry equal to the input's dimension at its place becomes 0, which copies it; even where it is 0 itself.
      Not with ``allow_zero``, under which 0 is a size.
    * A number stays.
    * If one entry is left, and all others are positive numbers, or copies of such, it becomes -1: the others' product P
      is not zero, and elements / P is the only size that the entry can have had, also where it was -1 or a copying 0.
      With another factor that may be 0 it must stay: nothing follows from 0 elements.

    Args:
        dims: The input's dimensions, None when its rank is unknown.
        wanted: The target's entries as far as known.
        allow_zero: Reshape's attribute.

    Returns:
        The target and "", or None and the reason.
    """
    if wanted is None:
        return None, "nothing is known of its target"
    entries = [_copied(entry, axis, dims, allow_zero=allow_zero) for axis, entry in enumerate(wanted.entries)]
    open_ = [axis for axis, entry in enumerate(entries) if entry is None]
    if not open_:
        return tuple(entry for entry in entries if entry is not None), ""
    if len(open_) > 1:
        return None, f"entries {open_} of its target are known only when the model runs"
    others = [
        _size(entry, axis, dims, allow_zero=allow_zero) for axis, entry in enumerate(entries) if entry is not None
    ]
    if -1 in entries or None in others or math.prod(size or 0 for size in others) == 0:
        return None, f"entry {open_[0]} of its target does not follow from the others, of which one may be 0"
    return tuple(-1 if entry is None else entry for entry in entries), ""


def _copied(entry: Entry, axis: int, dims: tuple[Entry, ...] | None, *, allow_zero: bool) -> int | None:
    if isinstance(entry, int):
        return entry
    same = dims is not None and axis < len(dims) and entry is not None and entry == dims[axis]
    return 0 if same and not allow_zero else None


def _size(entry: int, axis: int, dims: tuple[Entry, ...] | None, *, allow_zero: bool) -> int | None:
    """Return what an entry comes to, None when it copies a dimension that is not known."""
    if entry or allow_zero:
        return entry
    copied = dims[axis] if dims is not None and axis < len(dims) else None
    return copied if isinstance(copied, int) else None
