"""What ONNX text syntax can say of names and types, and how long lines are broken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nncomp.ir import (
    DataType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from nncomp.ir.types import DTYPE_NAMES, quote_name, quote_text

WIDTH: Final = 110
INDENT: Final = "   "

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TYPE_WORDS: Final = frozenset(DTYPE_NAMES.values()) | {"seq", "map", "optional", "sparse_tensor", "opaque"}
_READ_AS_FLOAT: Final = re.compile(r"(inf|nan|infinity)(?![A-Za-z0-9])", re.ASCII | re.IGNORECASE)
_UNWRITABLE: Final = re.compile("[\0\ud800-\udfff]")


@dataclass
class Remarks:
    """Comments on one op or declaration: at its line's end, and on lines below."""

    behind: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)

    def at(self, lines: list[str], depth: int) -> list[str]:
        """Return ``lines`` with the comments."""
        last = f"{lines[-1]}  # {'; '.join(self.behind)}" if self.behind else lines[-1]
        return [*lines[:-1], last, *comments(self.below, depth)]


def is_word(text: str) -> bool:
    """True for an identifier: the only form that operators, domains' parts, overloads and attributes may have."""
    return _WORD.fullmatch(text) is not None


def is_dotted(text: str) -> bool:
    """True for a domain: identifiers joined by dots, or none."""
    return not text or all(is_word(part) for part in text.split("."))


def is_body_name(text: str) -> bool:
    """True for a name that a graph may have where it is an attribute: a word not read as a type or as a number."""
    return is_word(text) and text not in _TYPE_WORDS and not _READ_AS_FLOAT.match(text)


def word_like(text: str) -> str:
    """Return a word that resembles ``text``."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return word if is_body_name(word) else f"_{word}"


def dotted_like(text: str) -> str:
    """Return a domain that resembles ``text``."""
    return ".".join(part if is_word(part) else word_like(part) for part in text.split("."))


def can_write_text(text: str | bytes) -> bool:
    """True when a string literal can hold ``text``: UTF-8 without NUL."""
    return isinstance(text, str) and not _UNWRITABLE.search(text)


def writable(text: str) -> str:
    """Return ``text`` with a replacement sign for each character that onnx's parser cannot be given."""
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def can_write_type(type_: Type | None) -> bool:
    """True when ``str(type_)`` parses as this type, denotations aside."""
    match type_:
        case TensorType() | SparseTensorType():
            return type_.dtype != DataType.UNDEFINED
        case SequenceType() | OptionalType():
            return can_write_type(type_.elem)
        case MapType():
            return type_.key != DataType.UNDEFINED and can_write_type(type_.value)
        case OpaqueType():
            return bool(type_.name) and is_word(type_.name) and is_dotted(type_.domain)
        case _:
            return False


def has_denotation(type_: Type | None) -> bool:
    """True when a type carries a mark that the syntax has no place for."""
    match type_:
        case None:
            return False
        case TensorType() | SparseTensorType():
            return bool(type_.denotation or type_.dim_denotations)
        case SequenceType() | OptionalType():
            return bool(type_.denotation) or has_denotation(type_.elem)
        case MapType():
            return bool(type_.denotation) or has_denotation(type_.value)
        case OpaqueType():
            return bool(type_.denotation)


def declaration(type_: Type | None, name: str) -> str:
    """Return ``type name``, or the name alone when the type is unknown or cannot be written."""
    if can_write_type(type_):
        return f"{type_} {quote_name(name)}"
    return quote_text(name) if name in _TYPE_WORDS else quote_name(name)


def joined(groups: Iterable[list[str]]) -> list[str]:
    """Return the pieces of all groups, with a comma between one group and the next."""
    found = [group for group in groups if group]
    return [piece for group in found[:-1] for piece in (*group[:-1], f"{group[-1]},")] + [
        piece for group in found[-1:] for piece in group
    ]


def enclosed(pieces: list[str], opening: str, closing: str) -> list[str]:
    """Return the pieces with brackets around them."""
    if not pieces:
        return [opening + closing]
    marked = [opening + pieces[0], *pieces[1:]]
    return [*marked[:-1], marked[-1] + closing]


def listed(items: Iterable[str], opening: str, closing: str) -> list[str]:
    """Return ``opening item, item closing`` as pieces between which a line may be broken."""
    return enclosed(joined([item] for item in items), opening, closing)


def wrapped(pieces: Iterable[str], depth: int) -> list[str]:
    """Return the pieces as lines indented by ``depth``, broken at :data:`WIDTH` and indented further behind that."""
    lines: list[str] = []
    line = ""
    for piece in pieces:
        if line and len(line) + len(piece) >= WIDTH:
            lines.append(line)
            line = INDENT * (depth + 2) + piece
        else:
            line = f"{line} {piece}" if line else INDENT * depth + piece
    return [*lines, line]


def comments(texts: Iterable[str], depth: int) -> list[str]:
    """Return ``texts`` as comment lines."""
    return [f"{INDENT * depth}# {line}".rstrip() for text in texts for line in text.splitlines()]


def block(entries: Iterable[tuple[list[str], Remarks]], depth: int) -> list[str]:
    """Return ``<entry, entry>``, on one line where it fits and nothing is remarked; no line without entries."""
    found = list(entries)
    if not found:
        return []
    flat = ", ".join(" ".join(pieces) for pieces, _ in found)
    if len(flat) < WIDTH - 10 and "\n" not in flat and not any(remarks.behind or remarks.below for _, remarks in found):
        return [f"{INDENT * depth}<{flat}>"]
    lines = [INDENT * depth + "<"]
    for pieces, remarks in found[:-1]:
        lines += remarks.at(wrapped([*pieces[:-1], pieces[-1] + ","], depth + 1), depth + 1)
    for pieces, remarks in found[-1:]:
        lines += remarks.at(wrapped(pieces, depth + 1), depth + 1)
    return [*lines, INDENT * depth + ">"]
