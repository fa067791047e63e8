"""Recurrent layers.

x: (positions, batch, in);  w: (directions, gates * hidden, in);  r: (directions, gates * hidden, hidden).
"""

from __future__ import annotations

import math

from nncomp.ir import Op
from nncomp.ops.counting import Counted, shape
from nncomp.ops.coupling import stays
from nncomp.ops.labels.recurrent import recurrent
from nncomp.ops.nest_rules import recurrent_nests
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import CostRule, OpSemantics, QuantRole, Role, rows

LSTM_STEPS, GRU_STEPS, RNN_STEPS = 9, 8, 1
"""Scalar operations a hidden unit and position: activations of gates and state, and the products and sums that join
them; biases and peepholes not counted."""


def recurrent_cost(steps: int) -> CostRule:
    """Return the rule: positions * batch * (elements of w + elements of r), which holds for both layouts."""

    def count(op: Op) -> Counted:
        data, weights, recurrent = shape(op.input(0)), shape(op.input(1)), shape(op.input(2))
        if data is None or weights is None or recurrent is None or len(recurrent) != 3:
            return None
        positions, directions, hidden = math.prod(data[:2]), recurrent[0], op.attr("hidden_size") or recurrent[2]
        macs = positions * (math.prod(weights) + math.prod(recurrent))
        return macs, positions * directions * hidden * steps

    return count


_FEEDBACK = QuantRole(Role.SENSITIVE, weight=1, reason="its state carries rounding errors along the sequence")

ROWS: tuple[OpSemantics, ...] = (
    *rows("LSTM", axes=recurrent(4), cost=recurrent_cost(LSTM_STEPS), quant=_FEEDBACK, nest=recurrent_nests),
    *rows("GRU", axes=recurrent(3), cost=recurrent_cost(GRU_STEPS), quant=_FEEDBACK, nest=recurrent_nests),
    *rows("RNN", axes=recurrent(1), cost=recurrent_cost(RNN_STEPS), quant=_FEEDBACK, nest=recurrent_nests),
    *rows(
        "DynamicQuantizeLSTM",
        axes=stays("its weights are quantized in blocks"),
        domain="com.microsoft",
        cost=recurrent_cost(LSTM_STEPS),
        quant=barrier("already quantized", weight=1, bias=2),
    ),
)
