"""Sections of 64-bit ELF files: of shared libraries, and of the cubins that hold code for NVIDIA's GPUs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NOBITS: Final = 8  # a section that takes no room in the file


@dataclass(frozen=True)
class Section:
    """A section: its name, size in bytes, and content, which is empty where the file does not hold it."""

    name: str
    size: int
    content: bytes


def sections(file: bytes) -> Iterator[Section]:
    """Yield the sections of a 64-bit ELF file; another format has none."""
    if file[:5] != b"\x7fELF\x02":
        return
    (offset,) = struct.unpack_from("<Q", file, 0x28)
    size, count, names = struct.unpack_from("<HHH", file, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", file, offset + number * size) for number in range(count)]
    strings = headers[names][4]
    for name, kind, _, _, start, length in headers:
        begin = strings + name
        text = file[begin : file.index(b"\0", begin)].decode()
        yield Section(text, length, b"" if kind == _NOBITS else file[start : start + length])
