"""What a kernel needs of a GPU, as its cubin says: registers, shared memory, and what did not fit the registers."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from nncomp_tvm.elf import sections

_WITH_SIZE: Final = 4  # format of an attribute with content of its own; others have two bytes
_COUNTED: Final = {0x2F: "registers", 0x11: "stack_bytes"}
"""Attributes of the section ``.nv.info`` (EIATTR_REGCOUNT, EIATTR_FRAME_SIZE), each a symbol and a number."""

_SHARED: Final = ".nv.shared."


def resources(cubin: bytes) -> dict[str, Mapping[str, int]]:
    """Return ``registers`` and ``stack_bytes`` of a thread, ``shared_bytes`` of a block, by entry function.

    The stack holds what did not fit the registers, and arrays that are indexed by what is not known beforehand.
    """
    found = {one.name: one for one in sections(cubin)}
    if not {".nv.info", ".symtab", ".strtab"} <= found.keys():
        return {}
    symbols, strings = found[".symtab"].content, found[".strtab"].content
    needs: dict[str, dict[str, int]] = defaultdict(lambda: {"registers": 0, "shared_bytes": 0, "stack_bytes": 0})
    for attribute, symbol, number in _counts(found[".nv.info"].content):
        (name,) = struct.unpack_from("<I", symbols, symbol * 24)
        entry = strings[name : strings.index(b"\0", name)].decode()
        needs[entry][attribute] = number
    for name, one in found.items():
        if name.startswith(_SHARED):
            needs[name.removeprefix(_SHARED)]["shared_bytes"] = one.size
    return dict(needs)


def _counts(info: bytes) -> Iterator[tuple[str, int, int]]:
    at = 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        if kind == _WITH_SIZE and attribute in _COUNTED:
            symbol, number = struct.unpack_from("<II", info, at + 4)
            yield _COUNTED[attribute], symbol, number
        at += 4 + (size if kind == _WITH_SIZE else 0)
