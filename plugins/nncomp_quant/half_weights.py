"""The ``half-weights`` pass: weights of 16 bits in the file, computed with as float32."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, Value
from nncomp.ops import OpTable, Role
from nncomp.opset import convert_opset
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.selectors import select
from nncomp.targets import Capabilities
from nncomp_quant.bodies import with_bodies
from nncomp_quant.insert import frozen

BFLOAT16_OPSET: Final = 13
"""First opset whose Cast reads bfloat16."""


class HalfType(StrEnum):
    """Float types of 16 bits."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> DataType:
        """The element type."""
        return DataType[self.name]


class HalfWeights(Pass):
    """Store float32 weights with 16 bits, and a Cast behind each: half the file, and float32 in every kernel.

    Weights are constants of two axes or more. float16 keeps 11 bits of a number from 6e-5 to 65504; a weight that holds
    anything larger is left alone. bfloat16 keeps 8 bits and the range of float32. Weights are rounded to the nearest,
    ties to even; scales of integers are no weights. A target takes them where it computes the Cast once, when the model
    is loaded.
    """

    name: ClassVar[str] = "half-weights"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "cleanup", "lift-constants", "fold-constants", "fuse", "fold-batchnorm", "fold-scales", "fold-pad", "decompose",
        "equalize", "smooth", "prune-structured", "sparsify", "quantize", "quantize-weights",
    )  # fmt: skip

    dtype: HalfType = option(HalfType.FLOAT16, help="how weights are stored")
    least: int = option(1024, help="elements below which a weight is not worth a Cast", ge=1)
    skip: tuple[str, ...] = option((), help="ops whose weights are left alone, by name or label; globs, or re:...")

    def objection(self, target: Capabilities | None) -> str:
        """Refuse targets that would compute each Cast anew."""
        refused = target is not None and self.dtype.dtype not in target.half_weights
        return f"the target takes no {self.dtype.value} weights" if refused else ""

    def run(self, graph: Graph, ctx: Context) -> None:
        """Store the weights of ``graph`` and its bodies.

        Raises:
            UnsupportedError: no weight to store so (NNC-M052), or a target that does not take them (NNC-T002).
        """
        if reason := self.objection(ctx.target):
            raise UnsupportedError(f"{self.name}: {reason}", code="NNC-T002", hint="compile for one that does: -t ort")
        skipped = with_bodies(select(graph, self.skip, option=f"{self.name}.skip")) if self.skip else frozenset[Op]()
        found = [
            (part, value)
            for part in graph.graphs()
            for value in part.constants()
            if self._worth(part, value, ctx.ops) and skipped.isdisjoint(part.users(value))
        ]
        if found and graph.opsets.get("", BFLOAT16_OPSET) < BFLOAT16_OPSET:
            names = {value.name for _, value in found}
            ctx.note("info", "opset", reason=f"lifted from {graph.opsets['']} to {BFLOAT16_OPSET}")
            convert_opset(graph, BFLOAT16_OPSET)
            infer_types(graph, ctx.ops)
            found = [(part, value) for part in graph.graphs() for value in part.constants() if value.name in names]
        stored = sum(self._store(part, value, ctx) for part, value in found)
        if not stored:
            raise UnsupportedError(
                f"{self.name}: no float32 weight of {self.least} elements or more that {self.dtype.value} holds",
                code="NNC-M052",
            )
        ctx.results[self.name] = {"stored": stored}

    def _worth(self, graph: Graph, value: Value, ops: OpTable) -> bool:
        """True for a weight that is large enough: scales of integers are vectors, or read by what is quantized."""
        tensor = graph.constant(value)
        if tensor is None or tensor.dtype != DataType.FLOAT or tensor.size < self.least or len(tensor.shape) < 2:
            return False
        roles = [ops.quant(op, graph.opsets).role for op in _readers(graph, value)]
        return bool(roles) and Role.BARRIER not in roles and not graph.is_output(value)

    def _store(self, graph: Graph, value: Value, ctx: Context) -> bool:
        array = graph.array(value)
        assert array is not None
        half = _rounded(array, self.dtype.dtype)
        if half is None:
            reason = f"it holds values that {self.dtype.value} does not"
            ctx.note("declined", self.name, node=value.name, reason=reason)
            return False
        stored = graph.add_constant(f"{value.name}_{self.dtype.value}", half)
        cast = graph.add_op(
            "Cast",
            [stored],
            [(f"{value.name}_float", value.type)],
            attrs={"to": DataType.FLOAT.value},
            name=f"{value.name}_Cast",
        )
        graph.replace_uses(value, cast.output)
        graph.remove_unused([value])
        return True


def _readers(graph: Graph, value: Value) -> list[Op]:
    """Return the ops that read ``value``, in bodies too."""
    found = []
    for op in graph.users(value):
        if any(one is value for one in op.inputs):
            found.append(op)
        for body in op.bodies.values():
            for inner, outer in body.captures.items():
                found += _readers(body, inner) if outer is value else []
    return found


def _rounded(array: npt.NDArray[Any], dtype: DataType) -> npt.NDArray[Any] | None:
    """Return ``array`` in the narrower type, None where a finite number would become infinite."""
    with np.errstate(over="ignore"):
        half = array.astype(dtype.numpy())
    if np.count_nonzero(np.isinf(half)) > np.count_nonzero(np.isinf(array)):
        return None
    return frozen(half)
