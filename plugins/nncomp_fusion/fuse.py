"""fuse: all fusion rules, in an order in which none spoils another, until nothing changes."""

from __future__ import annotations

import difflib
from typing import ClassVar, Final

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from nncomp import Context, Effect, Graph, Pass, option
from nncomp.rewrite import Rule
from nncomp_fusion import activations, batchnorm, gemm, movements, pads, pools, scales
from nncomp_fusion.driver import apply_phase, is_recent_enough

PHASES: Final[tuple[tuple[tuple[Rule, ...], ...], ...]] = (
    movements.RULES,
    activations.RULES,  # before constants go into weights: they are parts of what is to be recognized
    pads.RULES,
    batchnorm.RULES,
    scales.RULES,
    gemm.RULES,
    pools.RULES,
)

RULE_NAMES: Final = tuple(dict.fromkeys(one.name for phase in PHASES for group in phase for one in group))

_MAX_ROUNDS: Final = 16


class Fuse(Pass):
    """Apply all fusion passes until nothing changes."""

    name: ClassVar[str] = "fuse"
    effect: ClassVar[Effect] = Effect.REASSOCIATES

    skip: tuple[str, ...] = option((), help="names of rules that are not applied")

    @field_validator("skip")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in RULE_NAMES:
                near = difflib.get_close_matches(name, RULE_NAMES, 1) or RULE_NAMES
                raise PydanticCustomError("unknown_rule", "expected rules such as {names}", {"names": ", ".join(near)})
        return names

    def run(self, graph: Graph, ctx: Context) -> None:
        """Apply all rules but those in ``skip``; what declines is noted once, as it stands at the end."""
        if not is_recent_enough(graph, ctx, self.name):
            return
        phases = [[group for group in phase if group[0].name not in self.skip] for phase in PHASES]
        for _ in range(_MAX_ROUNDS):
            start = len(ctx.notes)
            if not sum(apply_phase(graph, phase, ctx) for phase in phases):
                break
            ctx.notes[start:] = [note for note in ctx.notes[start:] if note.event != "declined"]
