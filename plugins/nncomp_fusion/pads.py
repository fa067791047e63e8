"""fold-pad: an explicit Pad becomes the padding of the Conv or pool behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from nncomp import Context, Effect, Graph, Op, Pass, Value
from nncomp.ops import clip_bounds, kernel_shape, pads
from nncomp.rewrite import Match, OpPattern, Rule, any_value, op, rule
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.requirements import require_constant, require_shape

_PAD: Final[OpPattern] = op("Pad", any_value("x"), bind="pad", open_ended=True)


@dataclass(frozen=True, slots=True)
class Border:
    """What a Pad adds around the pixels: ``begins`` and ``ends`` by spatial axis, filled with ``value``."""

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    value: float


@rule(op("Conv", _PAD, any_value("w"), open_ended=True))
def fold_pad_into_conv(m: Match) -> Value:
    """Conv(Pad(x, p, 0), w; pads=q) = Conv(x, w; pads=p + q);  x (N, C, *pixels), p on the pixels only."""
    border = _read_border(m, m.op("pad"), len(require_shape(m, m["w"])))
    if border.value:
        raise m.reject(f"it pads with {border.value:g}, Conv pads with 0")
    return _with_pads(m, border)


@rule(op("AveragePool", _PAD))
def fold_pad_into_average_pool(m: Match) -> Value:
    """AveragePool(Pad(x, p, 0); pads=q) = AveragePool(x; pads=p + q, count_include_pad=1);  zeros are counted."""
    border = _read_border(m, m.op("pad"), len(kernel_shape(m.root) or ()) + 2)
    if border.value:
        raise m.reject(f"it pads with {border.value:g}, AveragePool pads with 0")
    own = pads(m.root, len(border.begins) + 2)
    if own is None or (any(own) and not m.root.attr("count_include_pad", 0)):
        raise m.reject("AveragePool does not count its own padding, but it counts the Pad's zeros")
    _require_pool_takes(m, border)
    return _with_pads(m, border, count_include_pad=1)


@rule(op("MaxPool", _PAD))
def fold_pad_into_max_pool(m: Match) -> Value:
    """MaxPool(Pad(x, p, -inf); pads=q) = MaxPool(x; pads=p + q);  so too with 0 instead of -inf where x >= 0."""
    border = _read_border(m, m.op("pad"), len(kernel_shape(m.root) or ()) + 2)
    if border.value != -np.inf and not (border.value == 0 and _not_negative(m, m["x"])):
        raise m.reject(f"it pads with {border.value:g}, which may win: MaxPool pads with -inf")
    if any(value.name for value in m.root.outputs[1:]):
        raise m.reject("MaxPool's indices count the padding")
    if any(step != 1 for step in m.root.attr("dilations") or ()):
        raise m.reject("a dilated window may hit nothing but padding")
    _require_pool_takes(m, border)
    return _with_pads(m, border)


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    fold_pad_into_conv,
    fold_pad_into_average_pool,
    fold_pad_into_max_pool,
)


class FoldPad(Pass):
    """Fold a constant Pad into the padding of the Conv or pool behind it."""

    name: ClassVar[str] = "fold-pad"
    # Kernels for padded convolutions add in another order than those without padding.
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold wherever the Pad adds to pixels only what the op behind it would add by itself."""
        apply_rules(graph, RULES, ctx, self.name)


def _read_border(m: Match, pad: Op, rank: int) -> Border:
    """Return what ``pad`` adds, for an input of ``rank``; attributes before opset 11, inputs since."""
    mode = pad.attr("mode", "constant")
    if mode != "constant":
        raise m.reject(f"Pad has mode {mode!r}")
    given = pad.attr("pads")
    amounts = np.array(given) if given is not None else require_constant(m, pad.input(1), "Pad's amount")
    filling = pad.input(2)
    value = pad.attr("value", 0.0) if filling is None else require_constant(m, filling, "Pad's value").reshape(-1)[0]
    axes = list(range(rank))
    if pad.input(3) is not None:
        axes = [int(axis) % rank for axis in require_constant(m, pad.input(3), "Pad's axes").reshape(-1)]
    if rank < 3 or amounts.size != 2 * len(axes):
        raise m.reject(f"Pad has {amounts.size} amounts, expected {2 * len(axes)}")
    both = np.zeros((2, rank), np.int64)
    both[:, axes] = amounts.reshape(2, -1)
    if both[:, :2].any():
        raise m.reject("it pads the batch or channels")
    if (both < 0).any():
        raise m.reject("it crops: an amount is negative")
    begins, ends = (tuple(int(amount) for amount in side[2:]) for side in both)
    return Border(begins, ends, float(value))


def _require_pool_takes(m: Match, border: Border) -> None:
    """Decline what runtimes refuse: padding as wide as the window; and rounding up, which counts it differently."""
    if m.root.attr("ceil_mode", 0):
        raise m.reject("the pool rounds its size up (ceil_mode=1)")
    total = _total(m, border)
    window = kernel_shape(m.root) or ()
    if any(amount >= size for amount, size in zip(total, window * 2, strict=True)):
        raise m.reject(f"padding of {list(total)} would be as wide as the window {list(window)}")


def _total(m: Match, border: Border) -> tuple[int, ...]:
    own = pads(m.root, len(border.begins) + 2)
    if own is None:
        raise m.reject(f"{m.root.kind}'s own padding depends on sizes that are not known")
    return tuple(a + b for a, b in zip(own, (*border.begins, *border.ends), strict=True))


def _with_pads(m: Match, border: Border, **attrs: int) -> Value:
    kept = {name: value for name, value in m.root.attrs.items() if name != "auto_pad"}
    return m.add(m.root.kind, [m["x"], *m.root.inputs[1:]], attrs={**kept, "pads": _total(m, border), **attrs})


def _not_negative(m: Match, x: Value) -> bool:
    bounds = None if x.producer is None else clip_bounds(x.producer, m.graph)
    return bounds is not None and bounds[0] is not None and bounds[0] >= 0
