"""Goes through the products of a model and rounds their weights: to the nearest, or on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError
from nncomp.ir import Graph, Value
from nncomp.passes import Context
from nncomp.statistics import LayerWalk, Moments, executor_of
from nncomp_quant.scales import chunks
from nncomp_quant.weight_only.blocks import Blocks
from nncomp_quant.weight_only.channel_scaling import channel_scales, divide_input, scaled
from nncomp_quant.weight_only.forms import Writer
from nncomp_quant.weight_only.gptq import LayerMoments, gptq, layer_moments
from nncomp_quant.weight_only.products import Product


@dataclass
class Rounder:
    """Rounds the weights of one model.

    Attributes:
        graph: The model's own graph; it changes as weights are rounded.
        ctx: Gives data, room on the disk, threads and progress.
        blocks: Format.
        writer: Makes the writer of a product.
        subject: What notes are about.
    """

    graph: Graph
    ctx: Context
    blocks: Blocks
    writer: Callable[[Product], Writer]
    subject: str

    def run(self, products: Sequence[Product], *, gptq: bool, scaling: bool, samples: int) -> None:
        """Round all of ``products``.

        Args:
            products: In topological order.
            gptq: Round one input after the other on calibration data.
            scaling: Scale inputs before.
            samples: Calibration samples.

        Raises:
            DataError: calibration without data (NNC-D006).
        """
        layers: dict[str, Product] = {}
        if gptq or scaling:
            layers = {product.ops[0].output.name: product for product in products if not self._why_not(product)}
        for product in products:
            if product.ops[0].output.name in layers:
                continue
            if gptq or scaling:
                reason = f"rounded to the nearest: {self._why_not(product)}"
                self.ctx.note("declined", self.subject, node=product.ops[0].label, reason=reason)
            self._to_nearest(product)
        if layers:
            self._calibrated(layers, gptq=gptq, scaling=scaling, samples=samples)

    def _calibrated(self, layers: dict[str, Product], *, gptq: bool, scaling: bool, samples: int) -> None:
        if self.ctx.data is None:
            raise DataError(
                f"{self.subject}: gptq and scaling need calibration data",
                code="NNC-D006",
                hint='give --data, or round to the nearest: quantize-weights{method="rtn"}',
            )
        walk = LayerWalk(
            self.graph.clone(),
            self.graph,
            list(layers),
            self.ctx.data,
            samples=samples,
            ops=self.ctx.ops,
            executor=executor_of(self.ctx),
            progress=self.ctx.progress,
        )
        for stage in walk:
            for group in _by_input([layers[name] for name in stage]):
                self._round_group(group, [stage[product.ops[0].output.name] for product in group], gptq, scaling)

    def _round_group(self, group: list[Product], moments: list[Moments], with_gptq: bool, scaling: bool) -> None:
        """Round the products of one activation."""
        problems = [
            layer_moments(one, product.rows(), self._bias(product), repair=with_gptq)
            for product, one in zip(group, moments, strict=True)
        ]
        if scaling:
            scales = channel_scales(problems, self.blocks)
            if (scales != 1).any():
                divide_input(group, scales)
                problems = [scaled(problem, scales) for problem in problems]
        for product, problem in zip(group, problems, strict=True):
            if with_gptq:
                written = self.writer(product)
                written.put(0, *gptq(problem, self.blocks))
                written.write(product, self.ctx.scratch)
            else:
                self._to_nearest(product, problem)

    def _to_nearest(self, product: Product, problem: LayerMoments | None = None) -> None:
        written = self.writer(product)
        read = product.rows if problem is None else lambda: problem.target
        for start, rows in chunks(read):
            params = self.blocks.params(rows)
            written.put(start, self.blocks.codes(rows, params), params)
        written.write(product, self.ctx.scratch)

    def _why_not(self, product: Product) -> str:
        """Return why a product has no moments, "" if it has."""
        if product.graph is not self.graph:
            return "what bodies compute is not calibrated"
        if self.ctx.ops.matrix(product.ops[0], self.graph) is None:
            return "its weight is read transposed"
        bias = self.graph.array(product.ops[0].input(2))
        given = product.ops[0].input(2) is not None
        if given and (bias is None or bias.size not in (1, product.outputs) or bias.shape[-1:] == (1,) != bias.shape):
            return "its bias is not one number a channel"
        return ""

    def _bias(self, product: Product) -> npt.NDArray[np.generic] | None:
        bias = self.graph.array(product.ops[0].input(2))
        return None if bias is None else np.broadcast_to(bias.reshape(-1), (product.outputs,))


def _by_input(products: Iterable[Product]) -> list[list[Product]]:
    groups: dict[Value | None, list[Product]] = {}
    for product in products:
        groups.setdefault(product.ops[0].inputs[0], []).append(product)
    return list(groups.values())
