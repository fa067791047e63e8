"""The ``sparsify`` pass: zeros in weights, where a target gains from them or the file shall pack better."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np
from pydantic import field_validator

from nncomp.errors import DataError, UnsupportedError
from nncomp.ir import Graph, Op
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.selectors import select
from nncomp.statistics import LayerWalk, Moments
from nncomp.targets import Capabilities
from nncomp_prune.fitting import HOLD_OUT, Layer, layer_of, normal_equations, put, ridge_of
from nncomp_prune.patterns import Doubles, Pattern, pattern_of
from nncomp_prune.zeros import by_size, chosen, refitted


class Method(StrEnum):
    """How zeros are chosen."""

    OBS = "obs"
    """By the error that they make, the weights left making up for it."""
    MAGNITUDE_REFIT = "magnitude-refit"
    """The smallest weights; those left are refitted."""
    MAGNITUDE = "magnitude"
    """The smallest weights; nothing else changes. Needs no data."""


class Objective(StrEnum):
    """What the zeros are for."""

    SPEED = "speed"
    """The target computes faster with them."""
    SIZE = "size"
    """The file packs better."""


class Sparsify(Pass):
    """Set weights to zero, anywhere or in the pattern that a target's kernels skip.

    Layers are gone through in order. Each is fitted to what it gave in the original model, on what the sparse layers
    in front feed it with, its zeros are chosen by optimal brain surgeon from the same second moments (Frantar and
    Alistarh, "SparseGPT", ICML 2023), and what is left is fitted again. Shapes stay as they are.
    """

    name: ClassVar[str] = "sparsify"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "cleanup", "lift-constants", "fold-constants", "fuse", "fold-batchnorm", "fold-scales", "prune-structured",
    )  # fmt: skip

    pattern: str = option("element", help="'element', 'row', 'N:M', 'block RxC' or 'tile RxC'")
    sparsity: float = option(0.5, help="share of zeros; N:M says it itself", gt=0, lt=1)
    method: Method = option(Method.OBS, help="how zeros are chosen, and whether the weights left make up for them")
    objective: Objective = option(Objective.SPEED, help="what for: 'speed' is refused where a target gains none")
    skip: tuple[str, ...] = option((), help="ops to leave dense, by name or label; globs, or re:...")
    samples: int = option(512, help="calibration samples to look at", ge=1)
    positions: int = option(48, help="output positions of each sample that count", ge=1)
    ridge: float = option(1e-3, help="pull towards the weights as they are, relative to the inputs' power", gt=0)

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, pattern: str) -> str:
        pattern_of(pattern, 0.5, option=f"{cls.name}.pattern")
        return pattern

    def run(self, graph: Graph, ctx: Context) -> None:
        """Sparsify ``graph``.

        Raises:
            UnsupportedError: the target gains nothing (NNC-T002), or no layer has the pattern (NNC-M052).
            DataError: the method needs calibration data, and there is none (NNC-D006).
        """
        self._refuse_useless(ctx.target)
        if ctx.data is None and self.method is not Method.MAGNITUDE:
            raise DataError(
                f"{self.name}: method {self.method.value!r} needs calibration data",
                code="NNC-D006",
                hint='give --data, or method="magnitude"',
            )
        pattern = self._pattern()
        found = self._layers(graph, pattern, ctx)
        if self.method is Method.MAGNITUDE:
            for name in found:
                layer = layer_of(graph, name, ctx.ops)
                put(graph, layer, _each(layer.weight, layer, lambda weight, _: by_size(weight, pattern)), None)
        else:
            self._walk(graph, found, pattern, ctx)
        ctx.results[self.name] = _summary(graph, found, ctx)

    def _refuse_useless(self, target: Capabilities | None) -> None:
        useful = target is None or self._pattern().sort in target.sparse_weights
        if self.objective is Objective.SPEED and target is not None and not useful:
            gains = ", ".join(sorted(target.sparse_weights))
            raise UnsupportedError(
                f"{self.name}: the target computes no faster with zeros of pattern {self.pattern!r}; it skips "
                + (f"those of {gains}" if gains else "none"),
                code="NNC-T002",
                hint='objective="size" makes files that pack better',
            )

    def _walk(self, graph: Graph, found: list[str], pattern: Pattern, ctx: Context) -> None:
        """Go through all layers: those found become sparse, the others are refitted as they are."""
        assert ctx.data is not None
        skipped = self._skipped(graph)
        names = [op.output.name for op in graph.ops() if op not in skipped and ctx.ops.matrix(op, graph) is not None]
        original, sparse = graph.clone(), set(found)
        walk = LayerWalk.of_pass(
            original, graph, names, ctx, samples=self.samples, positions=self.positions, hold_out=HOLD_OUT
        )
        for stage in walk:
            for name, moments in stage.items():
                layer = layer_of(graph, name, ctx.ops)
                ridge = ridge_of(moments, walk.held_out[name], layer, ridge=self.ridge)
                everything = moments + walk.held_out[name]
                weight = self._fitted(layer, everything, pattern if name in sparse else None, ridge)
                put(graph, layer, weight, everything, whole=name in walk.aims)

    def _fitted(self, layer: Layer, moments: Moments, pattern: Pattern | None, ridge: float) -> Doubles:
        square, cross = normal_equations(moments, layer, ridge=ridge)
        solution = np.linalg.solve(square, cross.swapaxes(1, 2)).swapaxes(1, 2)
        if pattern is None:
            return np.asarray(solution)
        order = channels_innermost(layer)

        def one(weight: Doubles, group: int) -> Doubles:
            ordered = square[group][np.ix_(order, order)]
            target, given = cross[group][:, order], layer.weight[group][:, order]
            if self.method is Method.MAGNITUDE_REFIT:
                return refitted(by_size(given, pattern), ordered, target)
            return chosen(weight, given, ordered, target, pattern)

        return _each(solution, layer, one)

    def _layers(self, graph: Graph, pattern: Pattern, ctx: Context) -> list[str]:
        """Return the layers that can have the pattern; note why others cannot.

        Raises:
            UnsupportedError: none can (NNC-M052).
        """
        found, reasons = [], dict[str, int]()
        skipped = self._skipped(graph)
        for op in graph.ops():
            view = ctx.ops.matrix(op, graph)
            if view is None:
                continue
            channels = view.columns // view.kernel
            reason = "a selector skips it" if op in skipped else pattern.misfit(view.outputs, channels)
            if not reason and channels == 1:
                reason = "each output has one input channel"
            weight = op.input(view.weight)
            if not reason and weight is not None and not graph.single_use(weight):
                reason = "something else reads its weight, too"
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
                ctx.note("declined", self.name, node=op.label, reason=reason)
            else:
                found.append(op.output.name)
        if not found:
            told = "; ".join(f"{count} x {reason}" for reason, count in list(reasons.items())[:4])
            raise UnsupportedError(
                f"{self.name}: no layer can have the pattern {self.pattern!r}" + (f" ({told})" if told else ""),
                code="NNC-M052",
            )
        return found

    def _skipped(self, graph: Graph) -> set[Op]:
        return select(graph, self.skip, option=f"{self.name}.skip") if self.skip else set()

    def _pattern(self) -> Pattern:
        return pattern_of(self.pattern, self.sparsity, option=f"{self.name}.pattern")


def channels_innermost(layer: Layer) -> Any:
    """Return the order of columns that has in channels side by side for each kernel element, as hardware reads them."""
    return np.arange(layer.view.columns).reshape(-1, layer.view.kernel).T.reshape(-1)


def _each(weight: Any, layer: Layer, work: Callable[[Doubles, int], Doubles]) -> Doubles:
    """Return ``work(matrix, group)`` of each group, with columns in the order of :func:`channels_innermost`."""
    order = channels_innermost(layer)
    result: Doubles = np.empty_like(weight)
    for group, matrix in enumerate(weight):
        result[group][:, order] = work(matrix[:, order], group)
    return result


def _summary(graph: Graph, found: list[str], ctx: Context) -> dict[str, object]:
    shares, zeros, total = {}, 0, 0
    for name in found:
        weight = layer_of(graph, name, ctx.ops).weight
        shares[name] = float(np.mean(weight == 0))
        zeros, total = zeros + int(np.count_nonzero(weight == 0)), total + weight.size
    return {"sparsity": zeros / max(total, 1), "layers": shares}
