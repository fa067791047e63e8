"""Memory of the process that a command runs in."""

from __future__ import annotations

from typing import Final

_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_LARGE: Final = 1 << 20  # bytes


def give_back_at_once() -> None:
    """Let the C library give large blocks back to the system when they are freed, where it can be told so (glibc).

    Else it keeps them for later once it has seen a few: the weights of a session that is gone stay in memory, beside
    those of the next.
    """
    import ctypes

    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
