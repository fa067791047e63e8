"""NonMaxSuppression as ONNX Runtime runs it: per batch and class, the best box that is left, as long as one is.

TVM's own gives as many rows as there may be; here the rows are cut to those that were found, whose number only the run
knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nncomp_tvm.library import Expr, IRBuilder, T, constant, relax, te, tirx
from nncomp_tvm.lowering.calls import Call, NotLoweredError


def non_max_suppression(call: Call) -> Sequence[Expr] | None:
    """Rows (batch, class, box) of int64; of boxes that overlap by more than the threshold the best stays."""
    boxes, scores = call.static_shape(0), call.static_shape(1)
    if boxes is None or scores is None:
        raise NotLoweredError("the number of boxes is not known before the run")
    most = call.array(2)
    if call.given(2) and most is None:
        raise NotLoweredError("max_output_boxes_per_class is not known before the run")
    limit = 0 if most is None else min(int(np.ravel(most)[0]), boxes[1])
    if limit <= 0 or not scores[0] * scores[1]:
        return [constant(np.zeros((0, 3), np.int64))]
    emit = call.builder.emit
    thresholds = [
        relax.op.reshape(call.inputs[slot], (1,)) if call.given(slot) else constant(np.full(1, default, np.float32))
        for slot, default in ((3, 0.0), (4, -np.inf))
    ]
    suppression = _Suppression(
        (scores[0], scores[1], boxes[1], limit),
        centered=bool(call.op.attr("center_point_box", 0)),
        takes_all=not call.given(4),
    )
    found = call.builder.emit_te(
        suppression.write, call.inputs[0], call.inputs[1], *map(emit, thresholds), primfunc_name_hint="suppress"
    )
    rows, count = (emit(relax.TupleGetItem(found, place)) for place in (0, 1))
    first, step = constant(np.zeros(2, np.int64)), constant(np.ones(2, np.int64))
    cut = emit(relax.op.dynamic_strided_slice(rows, first, count, step))
    kept = relax.TensorType([tirx.Var("selected", "int64"), 3], "int64")
    return [call.builder.match_cast(cut, kept)]


class _Suppression:
    """Writes the loops.

    Args:
        sizes: Batch, classes, boxes, and the most that are kept of a class.
        centered: Boxes are (x, y, width, height) of their centers; else (y, x, y, x) of two corners.
        takes_all: No score is too small.
    """

    def __init__(self, sizes: tuple[int, int, int, int], *, centered: bool, takes_all: bool) -> None:
        self.sizes, self.centered, self.takes_all = sizes, centered, takes_all

    def write(self, boxes: Any, scores: Any, overlap: Any, least: Any) -> Any:
        """Return rows (batch, class, box), and their number with a 3 behind it: the end of a slice."""
        batch, classes, _, limit = self.sizes
        return te.extern(
            [(batch * classes * limit, 3), (2,)],
            [boxes, scores, overlap, least],
            self._loops,
            dtype=["int64", "int64"],
            name="suppress",
        )

    def _loops(self, ins: Any, outs: Any) -> Any:
        with IRBuilder() as builder:
            with T.seq_scope():
                self._search(ins, outs)
            return builder.get()

    def _search(self, ins: Any, outs: Any) -> None:
        batch, classes, count, limit = self.sizes
        boxes, scores, overlap, least, rows, number = map(T.buffer_proxy, (*ins, *outs))
        number[0], number[1] = T.int64(0), T.int64(3)
        left = T.buffer_proxy(T.alloc_buffer((count,), "int32", scope="global"))  # boxes, by number
        state = T.buffer_proxy(T.alloc_buffer((4,), "int32", scope="local"))  # left, taken, best, kept
        with T.serial(0, batch) as b, T.serial(0, classes) as c:
            state[0], state[1] = T.int32(0), T.int32(0)
            with T.serial(0, count) as box, T.If(tirx.any(self.takes_all, scores[b, c, box] > least[0])), T.Then():
                left[state[0]] = box
                state[0] = state[0] + 1
            with T.While(tirx.all(state[0] > 0, state[1] < limit)):
                state[2], state[3] = left[0], T.int32(0)
                with T.serial(0, state[0]) as place:
                    better = scores[b, c, left[place]] > scores[b, c, state[2]]
                    with T.If(better), T.Then():
                        state[2] = left[place]
                row = number[0]
                for column, value in enumerate((b, c, state[2])):
                    rows[row, column] = tirx.Cast("int64", value)
                number[0] = row + 1
                state[1] = state[1] + 1
                with T.serial(0, state[0]) as place:
                    other = left[place]
                    gone = tirx.any(other == state[2], self._overlap(boxes, b, state[2], other, overlap[0]))
                    with T.If(tirx.Not(gone)), T.Then():
                        left[state[3]] = other
                        state[3] = state[3] + 1
                state[0] = state[3]

    def _overlap(self, boxes: Any, batch: Any, one: Any, other: Any, most: Any) -> Any:
        """Whether two boxes have more in common than ``most`` of what they cover together."""
        (a0, a1, b0, b1), (c0, c1, d0, d1) = self._corners(boxes, batch, one), self._corners(boxes, batch, other)
        high = [te.max(x, y) for x, y in ((a0, c0), (a1, c1))]
        low = [te.min(x, y) for x, y in ((b0, d0), (b1, d1))]
        common = (low[0] - high[0]) * (low[1] - high[1])
        areas = [(b0 - a0) * (b1 - a1), (d0 - c0) * (d1 - c1)]
        together = areas[0] + areas[1] - common
        apart = tirx.any(low[0] <= high[0], low[1] <= high[1], areas[0] <= 0.0, areas[1] <= 0.0, together <= 0.0)
        return tirx.all(tirx.Not(apart), common / together > most)

    def _corners(self, boxes: Any, batch: Any, box: Any) -> tuple[Any, Any, Any, Any]:
        """Return the smaller coordinates of both axes, and the larger ones."""
        p, q, r, s = (boxes[batch, box, place] for place in range(4))
        if self.centered:
            half = T.float32(2)
            return p - r / half, q - s / half, p + r / half, q + s / half
        return te.min(p, r), te.min(q, s), te.max(p, r), te.max(q, s)
