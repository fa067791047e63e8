"""reducemean-to-pool: means over all pixels, however they are written, become GlobalAveragePool."""

from __future__ import annotations

from typing import ClassVar, Final

from nncomp import Context, Effect, Graph, Pass, TensorType, Value
from nncomp.ops import kernel_shape, pads, reduce_axes
from nncomp.rewrite import Match, Rule, any_value, op, rule
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.requirements import require_float, require_shape


@rule(op("ReduceMean", any_value("x"), open_ended=True))
def mean_of_pixels_to_global_average_pool(m: Match) -> Value:
    """ReduceMean(x, axes=[2, 3]) = GlobalAveragePool(x), with Flatten where keepdims=0;  x (N, C, H, W)."""
    x = m["x"]
    shape = require_shape(m, x)
    if len(shape) != 4:
        raise m.reject(f"its input has rank {len(shape)}, expected images of rank 4")
    axes = reduce_axes(m.root, m.graph)
    if axes is None:
        raise m.reject("its axes are computed at run time")
    if axes != (2, 3):
        raise m.reject(f"it takes the mean of axes {list(axes)}, GlobalAveragePool of [2, 3]")
    require_float(m, x, "GlobalAveragePool")
    pooled = m.add("GlobalAveragePool", [x])
    if m.root.attr("keepdims", 1):
        return pooled
    assert x.tensor_type is not None
    m.graph.set_type(pooled, TensorType(x.tensor_type.dtype, (*shape[:2], 1, 1)))
    return m.add("Flatten", [pooled], attrs={"axis": 1})


@rule(op("AveragePool", any_value("x")))
def average_pool_to_global_average_pool(m: Match) -> Value:
    """AveragePool(x; kernel=[H, W]) = GlobalAveragePool(x);  x (N, C, H, W), no padding: one window sees it all."""
    x = m["x"]
    shape = require_shape(m, x)
    pixels, window = shape[2:], kernel_shape(m.root)
    if pixels != window:
        raise m.reject("its window does not cover the image")
    border = pads(m.root, len(shape))
    if border is None or any(border):
        raise m.reject("it pads the image")
    if any(step != 1 for step in m.root.attr("dilations") or ()):
        raise m.reject("its window is dilated")
    require_float(m, x, "GlobalAveragePool")
    return m.add("GlobalAveragePool", [x])


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    mean_of_pixels_to_global_average_pool,
    average_pool_to_global_average_pool,
)


class ReducemeanToPool(Pass):
    """Turn means over all pixels of an image into GlobalAveragePool, which targets have integer kernels for."""

    name: ClassVar[str] = "reducemean-to-pool"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite ReduceMean over height and width, and AveragePool with a window as large as the image."""
        apply_rules(graph, RULES, ctx, self.name)
