"""Ops that read between elements: resizing, grid sampling, regions of interest."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.counting import Counted, per_input, shape, size, unpriced
from nncomp.ops.coupling import stays
from nncomp.ops.labels.resampling import columns_to_image, grid_sample, regions, resize
from nncomp.ops.roles import ELEMENTWISE, PASSTHROUGH, sensitive
from nncomp.ops.semantics import OpSemantics, QuantRole, rows

_TAPS = {"nearest": 0, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}
"""Elements read along each resampled axis; nearest only moves one."""


def _resize_cost(op: Op) -> Counted:
    """Count taps ^ (axes whose size changes) at each output element, ``antialias`` left out of account."""
    before, after = shape(op.input(0)), shape(op.output)
    taps = _TAPS.get(op.attr("mode", "nearest"))
    if before is None or after is None or taps is None:
        return None
    axes = sum(a != b for a, b in zip(before, after, strict=False))
    return 0, (size(op.output) or 0) * taps**axes if taps and axes else 0


def _resize_role(op: Op) -> QuantRole:
    """Let nearest through; the others average. A crop fills what lies outside with a value that may be any."""
    outside = op.attr("coordinate_transformation_mode") == "tf_crop_and_resize" and op.attr("extrapolation_value", 0.0)
    return PASSTHROUGH if op.attr("mode", "nearest") == "nearest" and not outside else ELEMENTWISE


def _grid_cost(op: Op) -> Counted:
    """Count taps ^ (spatial axes) at each output element."""
    elements, source, taps = size(op.output), op.input(0), _TAPS.get(op.attr("mode", "linear"))
    if elements is None or source is None or source.shape is None or taps is None:
        return None
    return 0, elements * taps ** (len(source.shape) - 2) if taps else 0


def _grid_role(op: Op) -> QuantRole:
    """Let nearest through (what lies outside is zero or an element); the others average. The grid stays float."""
    return PASSTHROUGH if op.attr("mode", "linear") == "nearest" else ELEMENTWISE


def _roi_cost(op: Op) -> Counted:
    """Count ``sampling_ratio`` ^ 2 bilinear reads of four elements at each output element; adaptive is not priced."""
    elements, ratio = size(op.output), op.attr("sampling_ratio", 0)
    return None if elements is None or not ratio else (0, elements * ratio * ratio * 4)


_COORDINATES = sensitive("coordinates need more than 8 bits")

ROWS: tuple[OpSemantics, ...] = (
    *rows("Resize", axes=resize, since=10, cost=_resize_cost, quant=_resize_role),
    *rows("Upsample", axes=resize, until=9, cost=_resize_cost, quant=_resize_role),
    *rows("GridSample", axes=grid_sample, cost=_grid_cost, quant=_grid_role),
    *rows("AffineGrid", axes=stays("makes coordinates"), quant=_COORDINATES),
    *rows("RoiAlign", axes=regions, cost=_roi_cost, quant=ELEMENTWISE),
    *rows("Col2Im", axes=columns_to_image, cost=per_input(), quant=ELEMENTWISE),
    *rows("GridSample", axes=grid_sample, domain="com.microsoft", cost=_grid_cost, quant=_grid_role),
    *rows("CropAndResize", axes=regions, domain="com.microsoft", cost=unpriced, quant=ELEMENTWISE),
)
