"""How much the non-zeros of tiles of a feature map differ: the ``spread`` of machines whose elements hold tiles.

    python tests/bench/tile_spread.py MODEL.onnx DATA [PREPROCESS]

Each map behind a ReLU or a Clip is cut into 8 x 8 tiles. Printed is the median over the maps of the relative deviation
of the non-zeros of a tile, over all channels: what is seen, and what is left of it without what chance makes of each
channel's share. Maps below 14 x 14 and maps that hardly hold zeros do not count.
"""

import sys
from itertools import islice

import numpy as np

from nncomp import load
from nncomp.data import open_data
from nncomp.runtime import Session

SAMPLES, PARTS = 16, 8


def variances(value: np.ndarray) -> tuple[float, float] | None:
    """Return the variance of the non-zeros of whole tiles of a map, and its part by chance, over the squared mean."""
    height, width = value.shape[2:]
    tall, wide = -(-height // PARTS), -(-width // PARTS)
    rows, cols = height // tall, width // wide
    mask = value[0, :, : rows * tall, : cols * wide] != 0
    if min(height, width) < 14 or not 0 < mask.mean() < 0.98:
        return None
    tiles = mask.reshape(len(mask), rows, tall, cols, wide).sum(axis=(0, 2, 4))
    shares = mask.mean(axis=(1, 2))
    chance = (shares * (1 - shares)).sum() * tall * wide
    return tiles.var() / tiles.mean() ** 2, chance / tiles.mean() ** 2


def main() -> None:
    graph = load(sys.argv[1])
    names = [op.output.name for op in graph.ops() if op.kind in ("Relu", "Clip")]
    options = {"preprocess": sys.argv[3]} if len(sys.argv) > 3 else {}
    data = open_data(sys.argv[2], graph, allow_code=True, **options)
    session = Session(graph, outputs=names, optimize=True)
    found: dict[str, list[tuple[float, float]]] = {}
    for feeds in islice(data, SAMPLES):
        for name, value in session.run(feeds).items():
            pair = variances(value) if value.ndim == 4 else None
            if pair is not None:
                found.setdefault(name, []).append(pair)
    seen, chance = np.array([np.mean(pairs, axis=0) for pairs in found.values()]).T
    beyond = np.sqrt(np.maximum(seen - chance, 0))
    print(f"median over {len(found)} maps: {np.median(np.sqrt(seen)):.4f}, beyond chance {np.median(beyond):.4f}")


if __name__ == "__main__":
    main()
