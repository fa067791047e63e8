"""Blocks: the model cut where a single value goes on, so that a branch and what joins it stand together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LONGEST_CHAIN: Final = 12
_FAR: Final = 40
"""Layers between two that do not belong to one block for the only reason that one reads the other."""

_NODE: Final = (168, 34)
"""Size of a box; the style says it, too, for a page of thousands need not repeat it."""

_GAP: Final = (18, 24)
_BESIDE: Final = 520
"""Room for words beside a single column of boxes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in a drawing: its position in the model, and its left upper corner."""

    layer: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A block as a drawing.

    Attributes:
        width, height: Of all of it.
        nodes: Boxes.
        edges: Paths between them, and from the upper edge where something comes from another block.
        narrow: There is one column of boxes, and room beside them.
    """

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[str, ...]
    narrow: bool


def blocks(inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cut layers into blocks; linear in layers and edges.

    Behind a layer there is a cut when nothing but its own output is read further on; what is read from far away, such
    as a mask that each layer of a transformer reads, holds nothing together. Between two cuts that follow each other
    lies one layer of a chain; chains are put together.

    Args:
        inputs: Positions that each layer reads, each smaller than its own.
    """
    last_read = list(range(len(inputs)))
    for reader, read in enumerate(inputs):
        for source in read:
            if reader - source <= _FAR:
                last_read[source] = max(last_read[source], reader)
    pieces: list[list[int]] = []
    piece: list[int] = []
    furthest = 0
    for number in range(len(inputs)):
        piece.append(number)
        if furthest <= number:  # nothing in front of this layer is read behind it
            pieces.append(piece)
            piece = []
        furthest = max(furthest, last_read[number])
    pieces += [piece] if piece else []
    found: list[list[int]] = []
    chain = False
    for part in pieces:
        if len(part) == 1 and chain and len(found[-1]) < _LONGEST_CHAIN:
            found[-1] += part
        else:
            found.append(list(part))
        chain = len(part) == 1
    return found


def block_name(names: Sequence[str]) -> str:
    """Return what the names of layers have in common up to a separator, "" when that is nothing."""
    low, high = min(names), max(names)  # what these two share, all that lie between them do
    length = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    shared = low[:length] if len(names) > 1 else ""
    cut = max(shared.rfind("/"), shared.rfind("."))
    return shared[:cut].strip("/.") if cut > 0 else ""


def drawing(block: Sequence[int], inputs: Sequence[Sequence[int]]) -> Drawing:
    """Lay out a block: each layer below all that it reads, beside others of the same depth."""
    inside = set(block)
    depth: dict[int, int] = {}
    rows: dict[int, list[int]] = {}
    for layer in block:
        depth[layer] = max((depth[source] + 1 for source in inputs[layer] if source in depth), default=0)
        rows.setdefault(depth[layer], []).append(layer)
    (wide, high), (between, below) = _NODE, _GAP
    width = max(len(row) for row in rows.values()) * (wide + between) + between
    place: dict[int, tuple[float, float]] = {}
    for level, row in rows.items():
        left = (width - len(row) * (wide + between) + between) / 2
        for column, layer in enumerate(row):
            place[layer] = (left + column * (wide + between), below + level * (high + below))
    edges = []
    for layer in block:
        x, y = place[layer]
        for source in inputs[layer]:
            if source in inside:
                a, b = place[source]
                edges.append(_curve(a + wide / 2, b + high, x + wide / 2, y))
            else:
                edges.append(f"M{x + wide / 2:g} 4V{y:g}" if y == below else f"M{x + 14:g} {y - 14:g}V{y:g}")
        if not inputs[layer]:
            edges.append(f"M{x + wide / 2:g} {y - 12:g}V{y:g}")
    height = below + len(rows) * (high + below)
    nodes = tuple(Node(layer, *place[layer]) for layer in block)
    narrow = len(rows) == len(block)
    return Drawing(width + _BESIDE * narrow, height, nodes, tuple(dict.fromkeys(edges)), narrow)


def _curve(a: float, b: float, x: float, y: float) -> str:
    if a == x:
        return f"M{a:g} {b:g}V{y:g}"
    middle = (b + y) / 2
    return f"M{a:g} {b:g}C{a:g} {middle:g} {x:g} {middle:g} {x:g} {y:g}"
