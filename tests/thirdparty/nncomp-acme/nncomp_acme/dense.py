"""``ai.acme.PackedDense(x, W, b)``: x W^T + b, with ``activation`` "none" or "relu"; W (out, in), x (N, in)."""

from __future__ import annotations

from typing import ClassVar

from nncomp import Context, Effect, Graph, Op, OpSemantics, Pass, QuantRole, Role, TensorType, Value
from nncomp.ir import Type
from nncomp.rewrite import Match, any_value, const, op, rewrite, rule

DOMAIN = "ai.acme"


def dense_type(node: Op) -> tuple[Type | None, ...]:
    """Return (N, out), in the type of x."""
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or x.tensor_type is None or x.shape is None or weight.shape is None:
        return (None,)
    return (TensorType(x.tensor_type.dtype, (x.shape[0], weight.shape[0])),)


def dense_cost(node: Op) -> tuple[int, int] | None:
    """Return N * out * in multiply-accumulates, and a sum and a comparison an output."""
    out, weight = node.output.tensor_type, node.input(1)
    shape = None if weight is None or weight.tensor_type is None else weight.tensor_type.static_shape
    if out is None or out.size is None or shape is None:
        return None
    return out.size * shape[1], 2 * out.size


PACKED_DENSE = OpSemantics(
    "PackedDense",
    domain=DOMAIN,
    infer=dense_type,
    cost=dense_cost,
    quant=QuantRole(Role.COMPUTE, weight=1, weight_axis=lambda node: 0, bias=2),
)


@rule(op("PackedDense", any_value("x"), const("weight"), const("bias"), domain=DOMAIN))
def unpack_dense_to_gemm(m: Match) -> Value:
    """PackedDense(x, W, b) = activation(Gemm(x, W^T, b))."""
    activation = m.root.attr("activation", "none")
    if activation not in ("none", "relu"):
        raise m.reject(f"activation {activation!r} is not one of ONNX's ops")
    result = m.add("Gemm", [m["x"], m["weight"], m["bias"]], attrs={"transB": 1})
    return result if activation == "none" else m.add("Relu", [result])


class UnpackDense(Pass):
    """Write Acme's packed matrix products as Gemm and Relu, which every runtime knows."""

    name: ClassVar[str] = "unpack-dense"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Unpack wherever weight and bias are constant."""
        rewrite(graph, [unpack_dense_to_gemm], ctx)
