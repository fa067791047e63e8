"""How much the non-zeros of tiles of a feature map differ: the ``spread`` of machines whose elements hold tiles.

    python tests/bench/tile_spread.py MODEL.onnx DATA [PREPROCESS]

Each map behind a ReLU or a Clip is cut into 8 x 8 tiles; printed is the median over the maps of the relative deviation
of the non-zeros of a tile, over all channels.
"""

import sys
from itertools import islice

import numpy as np

from nncomp import load
from nncomp.data import open_data
from nncomp.runtime import Session

SAMPLES, PARTS = 16, 8


def deviation(value: np.ndarray) -> float:
    """Return the relative deviation between whole tiles; nan for maps that are small, or hardly hold zeros."""
    height, width = value.shape[2:]
    tall, wide = -(-height // PARTS), -(-width // PARTS)
    rows, cols = height // tall, width // wide
    mask = value[:, :, : rows * tall, : cols * wide] != 0
    tiles = mask.reshape(*value.shape[:2], rows, tall, cols, wide).sum(axis=(1, 3, 5)).reshape(len(value), -1)
    known = 0 < mask.mean() < 0.98 and min(height, width) >= 14
    return float((tiles.std(axis=1) / tiles.mean(axis=1)).mean()) if known else float("nan")


def main() -> None:
    graph = load(sys.argv[1])
    names = [op.output.name for op in graph.ops() if op.kind in ("Relu", "Clip")]
    options = {"preprocess": sys.argv[3]} if len(sys.argv) > 3 else {}
    data = open_data(sys.argv[2], graph, allow_code=True, **options)
    session = Session(graph, outputs=names, optimize=True)
    found = []
    for feeds in islice(data, SAMPLES):
        values = session.run(feeds).values()
        found.append([deviation(value) if value.ndim == 4 else float("nan") for value in values])
    print(f"median over {len(names)} maps: {np.nanmedian(np.nanmean(found, axis=0)):.3f}")


if __name__ == "__main__":
    main()
