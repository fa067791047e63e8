"""RoiAlign: regions of an image, each resampled to one size, as ONNX Runtime does it at edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nncomp_tvm.library import Expr, IRBuilder, T, te, tirx
from nncomp_tvm.lowering.calls import Call, NotLoweredError


def roi_align(call: Call) -> Sequence[Expr] | None:
    """Each cell of a region is the mean, or the largest, of samples between four pixels (He et al. 2017)."""
    image, rois = call.static_shape(0), call.static_shape(1)
    if image is None or rois is None:
        raise NotLoweredError("the number of regions is not known before the run")
    if call.dtype(0).name != "float32" or not rois[0]:
        return None
    alignment = _Alignment(call, image, rois[0])
    return [call.builder.emit_te(alignment.write, *call.inputs[:3], primfunc_name_hint="roi_align")]


class _Alignment:
    def __init__(self, call: Call, image: tuple[int, ...], rois: int) -> None:
        op = call.op
        self.image, self.rois = image, rois
        self.cells = (int(op.attr("output_height", 1)), int(op.attr("output_width", 1)))
        self.grid = int(op.attr("sampling_ratio", 0))
        self.scale = float(op.attr("spatial_scale", 1.0))
        default = "half_pixel" if call.opset >= 16 else "output_half_pixel"
        self.half = op.attr("coordinate_transformation_mode", default) == "half_pixel"
        self.largest = op.attr("mode", "avg") == "max"

    def write(self, data: Any, rois: Any, batch: Any) -> Any:
        """Return (regions, channels, cells down, cells right)."""
        shape = (self.rois, self.image[1], *self.cells)
        return te.extern([shape], [data, rois, batch], self._loops, dtype=[data.dtype], name="roi_align")

    def _loops(self, ins: Any, outs: Any) -> Any:
        with IRBuilder() as builder:
            with T.serial(0, self.rois) as roi, T.serial(0, self.cells[0]) as down, T.serial(0, self.cells[1]) as right:
                self._cell(ins, outs, roi, (down, right))
            return builder.get()

    def _cell(self, ins: Any, outs: Any, roi: Any, cell: tuple[Any, Any]) -> None:
        data, rois, batch, out = map(T.buffer_proxy, (*ins, *outs))
        channels = self.image[1]
        place = T.buffer_proxy(T.alloc_buffer((6,), "float32", scope="local"))  # start, step, position; down, right
        number = T.buffer_proxy(T.alloc_buffer((6,), "int32", scope="local"))  # samples, pixel, next pixel
        share = T.buffer_proxy(T.alloc_buffer((4,), "float32", scope="local"))
        for axis in (0, 1):
            start = rois[roi, 1 - axis] * T.float32(self.scale)
            size = rois[roi, 3 - axis] * T.float32(self.scale) - start
            step = (size if self.half else te.max(size, T.float32(1))) / T.float32(self.cells[axis])
            place[axis] = start - T.float32(0.5 if self.half else 0) + cell[axis].astype("float32") * step
            place[2 + axis] = step
            number[axis] = T.int32(self.grid) if self.grid > 0 else tirx.Cast("int32", te.ceil(step))
        with T.serial(0, channels) as c:
            out[roi, c, cell[0], cell[1]] = T.float32(0)
        count = tirx.Cast("float32", te.max(number[0] * number[1], 1))
        with T.serial(0, number[0]) as y, T.serial(0, number[1]) as x:
            for axis, sample in enumerate((y, x)):
                self._between(place, number, axis, sample)
            inside = [
                tirx.all(place[4 + axis] >= T.float32(-1), place[4 + axis] <= T.float32(self.image[2 + axis]))
                for axis in (0, 1)
            ]
            weight = tirx.Select(tirx.all(*inside), T.float32(1), T.float32(0))
            for corner in range(4):
                parts = [self._part(place, number, axis, corner >> (1 - axis) & 1) for axis in (0, 1)]
                share[corner] = weight * parts[0] * parts[1]
            with T.serial(0, channels) as c:
                pixels = [
                    share[corner] * data[batch[roi], c, number[2 + 2 * (corner >> 1)], number[3 + 2 * (corner & 1)]]
                    for corner in range(4)
                ]
                old = out[roi, c, cell[0], cell[1]]
                if self.largest:
                    high = te.max(te.max(pixels[0], pixels[1]), te.max(pixels[2], pixels[3]))
                    first = tirx.all(y == 0, x == 0)
                    out[roi, c, cell[0], cell[1]] = tirx.Select(first, high, te.max(old, high))
                else:
                    out[roi, c, cell[0], cell[1]] = old + (pixels[0] + pixels[1] + pixels[2] + pixels[3])
        if not self.largest:
            with T.serial(0, channels) as c:
                out[roi, c, cell[0], cell[1]] = out[roi, c, cell[0], cell[1]] / count

    def _between(self, place: Any, number: Any, axis: int, sample: Any) -> None:
        """Set the position of a sample, and the pixels on both sides of it."""
        last = self.image[2 + axis] - 1
        apart = place[2 + axis] / tirx.Cast("float32", number[axis])
        place[4 + axis] = place[axis] + (sample.astype("float32") + T.float32(0.5)) * apart
        low = te.max(te.min(tirx.Cast("int32", te.max(place[4 + axis], T.float32(0))), last), 0)
        number[2 + axis] = low
        number[4 + axis] = te.min(low + 1, last)

    def _part(self, place: Any, number: Any, axis: int, side: int) -> Any:
        """Return how much the pixel on one side counts."""
        last = self.image[2 + axis] - 1
        far = te.max(place[4 + axis], T.float32(0)) - tirx.Cast("float32", number[2 + axis])
        far = tirx.Select(number[2 + axis] >= last, T.float32(0), far)
        return far if side else T.float32(1) - far
