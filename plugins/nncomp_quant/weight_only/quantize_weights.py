"""The ``quantize-weights`` pass: integer weights for matrix products whose activations stay float."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, Value
from nncomp.opset import convert_opset
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass, told
from nncomp.selectors import select
from nncomp.targets import Capabilities, WeightForm, WeightKernel
from nncomp_quant.bodies import constants_read, drop_unread, with_bodies
from nncomp_quant.dynamic import quantize_table
from nncomp_quant.insert import require_finite
from nncomp_quant.plan import is_table
from nncomp_quant.scales import chunks
from nncomp_quant.weight_only.blocks import Blocks
from nncomp_quant.weight_only.forms import BLOCKED_QDQ_OPSET, writer
from nncomp_quant.weight_only.products import Product, find_products
from nncomp_quant.weight_only.rounder import Rounder


class Rounding(StrEnum):
    """How weights are rounded: to the nearest, or so that each makes up for those before it."""

    RTN = "rtn"
    GPTQ = "gptq"


class FormChoice(StrEnum):
    """How products are written."""

    AUTO = "auto"
    MATMUL_NBITS = "matmul-nbits"
    BLOCKED_QDQ = "blocked-qdq"


class QuantizeWeights(Pass):
    """Store the weights of matrix products as integers, block by block; activations stay float.

    Products of few rows wait for their weights, and these become 4 to 8 times smaller. Embedding tables become INT8,
    one scale a row. Weights are read, rounded and written one at a time, from the inputs of the model on: method gptq
    sees what rounding in front has left.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = ("cleanup", "lift-constants", "fold-constants", "fuse", "fold-scales")

    bits: Literal[2, 4, 8] = option(4, help="bits of a weight")
    block: int = option(128, help="inputs that share a scale", ge=16)
    method: Rounding = option(
        Rounding.GPTQ, help="how weights are rounded: rtn to the nearest, gptq on calibration data"
    )
    scaling: bool = option(False, help="scale inputs before rounding, by their size in calibration (AWQ)")
    samples: int = option(128, help="calibration samples for gptq and scaling", ge=1)
    symmetric: bool = option(False, help="no zero points: a little smaller, and a little less accurate")
    form: FormChoice = option(FormChoice.AUTO, help="how products are written; auto: the target's fastest")
    skip: tuple[str, ...] = option((), help="ops to leave float, by name or label; globs, or re:...")
    embeddings: bool = option(True, help="store embedding tables as INT8, one scale a row")

    def objection(self, target: Capabilities | None) -> str:
        """Refuse targets that do not take such products."""
        if target is None or self._form(target) is not None:
            return ""
        if not target.weight_only:
            return "the target takes no products with integer weights and float activations"
        form = "" if self.form is FormChoice.AUTO else f" as {self.form.value}"
        return f"the target takes no {self.bits}-bit weights in blocks of {self.block}{form}"

    def run(self, graph: Graph, ctx: Context) -> None:
        """Quantize the weights of ``graph``.

        Raises:
            UnsupportedError: nothing to quantize (NNC-M052), a weight that is not finite (NNC-M053), or a target that
                does not take it (NNC-T002).
            DataError: gptq or scaling without data (NNC-D006).
        """
        chosen = None if ctx.target is None else self._form(ctx.target)
        if chosen is None:
            reason = self.objection(ctx.target) or "there is no target"
            raise UnsupportedError(f"{self.name}: {reason}", code="NNC-T002", hint="compile for one that does: -t ort")
        form, kernel = chosen
        if form is WeightForm.BLOCKED_QDQ:
            _lift(graph, ctx)
        skipped = with_bodies(select(graph, self.skip, option=f"{self.name}.skip")) if self.skip else frozenset[Op]()
        products, left = find_products(graph, ctx.ops, skip=skipped)
        tables = [(part, op) for part, op in graph.walk() if op not in skipped and is_table(op, part)]
        for op, reason in left.items():
            ctx.note("declined", self.name, node=op.label, reason=reason)
        if not self.embeddings:
            tables = []
        if not products and not tables:
            raise _nothing_to_do(left)
        ctx.results[self.name] = {
            "form": form.value,
            "products": [op.label for product in products for op in product.ops],
            "tables": [op.label for _, op in tables],
            "left_float": {op.label: reason for op, reason in left.items()},
        }
        read = constants_read(graph)
        blocks = Blocks(self.bits, self.block, self.symmetric)
        for product in products:
            _require_finite(product)
        Rounder(graph, ctx, blocks, lambda product: writer(form, kernel, blocks, product), self.name).run(
            products, gptq=self.method is Rounding.GPTQ, scaling=self.scaling, samples=self.samples
        )
        written: dict[Value, tuple[Value, Value]] = {}
        for part, op in tables:
            quantize_table(part, op, written, ctx.scratch)
        drop_unread(read)

    def _form(self, target: Capabilities) -> tuple[WeightForm, WeightKernel] | None:
        for form, kernel in target.weight_only.items():
            wanted = self.form in (FormChoice.AUTO, form.value)
            if wanted and self.block in kernel.blocks.get(self.bits, ()):
                return form, kernel
        return None


def _require_finite(product: Product) -> None:
    for _, rows in chunks(product.rows):
        require_finite(rows, product.weight.name, product.ops[0], by=QuantizeWeights.name)


def _lift(graph: Graph, ctx: Context) -> None:
    version = graph.opsets.get("", BLOCKED_QDQ_OPSET)
    if version < BLOCKED_QDQ_OPSET:
        ctx.note("info", "opset", reason=f"lifted from {version} to {BLOCKED_QDQ_OPSET}")
        convert_opset(graph, BLOCKED_QDQ_OPSET)
        infer_types(graph, ctx.ops)


def _nothing_to_do(left: dict[Op, str]) -> UnsupportedError:
    return UnsupportedError("quantize-weights: no product or table to quantize" + told(left), code="NNC-M052")
