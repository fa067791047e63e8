"""recognize-activations: activations and normalizations that an exporter wrote in pieces become one op again."""

from __future__ import annotations

from typing import ClassVar, Final

from nncomp import Context, Effect, Graph, Pass, Value
from nncomp.rewrite import Match, Rule, any_value, op, rule
from nncomp_fusion import clips, gelu, hard_activations, layernorm
from nncomp_fusion.driver import apply_rules


@rule(op("Mul", any_value("x"), op("Sigmoid", any_value("x")), commutative=True))
def recognize_silu(m: Match) -> Value:
    """SiLU(x) = x * Sigmoid(x);  stays as it is, and is reported."""
    raise m.reject("SiLU stays Sigmoid and Mul: runtimes have kernels for both, and Swish exists since opset 24 only")


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    *clips.RECOGNIZE_RULES,
    *hard_activations.RULES,
    *gelu.RULES,
    *layernorm.RULES,
    recognize_silu,
)


class RecognizeActivations(Pass):
    """Recognize HardSigmoid, HardSwish, Gelu, LayerNormalization and Relu6 written in pieces."""

    name: ClassVar[str] = "recognize-activations"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite where the model's opset has the op and nobody else reads the pieces."""
        apply_rules(graph, RULES, ctx, self.name)
