"""matmul-to-gemm: MatMul of two matrices and the bias behind it become one Gemm."""

from __future__ import annotations

from typing import ClassVar, Final

from nncomp import Context, DataType, Effect, Graph, Pass, Value
from nncomp.rewrite import Match, Rule, any_value, op, rule
from nncomp_fusion.driver import apply_rules
from nncomp_fusion.requirements import require_shape, require_sole_reader

_GEMM_TYPES: Final = (DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16)


@rule(op("Add", op("MatMul", any_value("x"), any_value("w"), bind="matmul"), any_value("b"), commutative=True))
def matmul_and_bias_to_gemm(m: Match) -> Value:
    """Add(MatMul(x, w), b) = Gemm(x, w, b);  x (M, K), w (K, N), b (), (1,), (N,) or (1, N)."""
    for name, side in (("x", "first"), ("w", "second")):
        rank = len(require_shape(m, m[name]))
        if rank != 2:
            raise m.reject(f"MatMul's {side} operand has rank {rank}, Gemm takes rank 2")
    _require_bias(m)
    require_sole_reader(m, m.op("matmul").output)
    dtype = m["b"].tensor_type.dtype if m["b"].tensor_type else DataType.UNDEFINED
    if dtype not in _GEMM_TYPES:
        raise m.reject(f"its operands are {dtype.name.lower()}, which runtimes have no Gemm for")
    int8 = m.ctx.target.int8 if m.ctx.target is not None else None
    if int8 is not None and "MatMul" in int8.kernels and "Gemm" not in int8.kernels:
        raise m.reject("the target runs MatMul in integers, but not Gemm")
    return m.add("Gemm", [m["x"], m["w"], m["b"]], like=m.op("matmul"))


RULES: Final[tuple[tuple[Rule, ...], ...]] = (matmul_and_bias_to_gemm,)


class MatmulToGemm(Pass):
    """Turn MatMul and Add of a bias into Gemm, where both operands are matrices."""

    name: ClassVar[str] = "matmul-to-gemm"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite wherever the ranks are known to be 2."""
        apply_rules(graph, RULES, ctx, self.name)


def _require_bias(m: Match) -> None:
    """Decline unless b broadcasts against (M, N) without making it larger."""
    bias, columns = require_shape(m, m["b"]), require_shape(m, m["w"])[1]
    if len(bias) > 2 or any(dim != 1 for dim in bias[:-1]):
        raise m.reject(f"the other operand of Add is {m['b'].type}, expected one number a column")
    width = bias[-1] if bias else 1
    if width != 1 and (width is None or width != columns):
        raise m.reject(f"the other operand of Add is {m['b'].type}, MatMul has {columns or 'unknown'} columns")
