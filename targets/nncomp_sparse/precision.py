"""What operand widths do to time: how many cycles one multiply-accumulate takes in one multiplier."""

from __future__ import annotations

import math

from nncomp_sparse.hardware import Hardware
from nncomp_sparse.layer import Layer, Operand


def width(machine: Hardware, operand: Operand, tensor: str) -> int:
    """Return a tensor's width: what the model says, else the machine's own."""
    return operand.bits if operand.bits is not None else machine.precision.native(tensor)


def cycles_per_mac(machine: Hardware, weight_bits: int, input_bits: int) -> float:
    """Return the cycles of one multiply-accumulate, below 1 where units split.

    Fixed: passes of the native width. Bit-serial: proportional to the widths (Stripes: input / 16; Loom: both). Bit
    fusion: the share of a unit that the product takes, or the passes when an operand is wider than the unit.
    """
    precision = machine.precision
    native = {"weight": precision.weight_bits, "input": precision.input_bits}
    given = {"weight": weight_bits, "input": input_bits}
    if precision.mode == "bit-serial":
        return math.prod(
            given[tensor] / native[tensor] if tensor in precision.serial else math.ceil(given[tensor] / native[tensor])
            for tensor in given
        )
    if precision.mode == "bit-fusion":
        return math.prod(_fused(bits, precision.min_bits) / precision.max_bits for bits in given.values())
    return float(math.prod(math.ceil(given[tensor] / native[tensor]) for tensor in given))


def layer_cycles_per_mac(machine: Hardware, layer: Layer) -> float:
    """Return :func:`cycles_per_mac` at a layer's widths."""
    return cycles_per_mac(machine, width(machine, layer.weight, "weight"), width(machine, layer.input, "input"))


def _fused(bits: int, least: int) -> int:
    """Return the width that units of a bit-fusion machine join to: a power of two."""
    return max(least, 1 << (bits - 1).bit_length())
