"""Energy of accesses and multiplications: from the machine where it says them, else from a table, scaled.

Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, pJ for 32 bits: integer add 0.1, integer multiply 3.1,
register file 1, SRAM of 8 KB 5 (10 for 64 bits), DRAM 640. Scaled so: adds and accesses with the width, products with
the product of the widths, SRAM with the square root of its capacity, all that is on chip with the feature size. The
square-root law meets the table's other sizes (32 KB: 20, 1 MB: 100 pJ for 64 bits) within 13 %.

Chen, Emer, Sze, "Eyeriss", ISCA 2016, table IV, 65 nm, in units of one 16-bit multiply-accumulate: register file 1,
between elements 2, global buffer 6, DRAM 200. These are ratios: multiplied by the energy of a multiply-accumulate of
the other table they are in pJ, and remain relative.
"""

from __future__ import annotations

import math
from typing import Final

from nncomp_sparse.hardware import Hardware, Level

ADD_32: Final = 0.1
MULTIPLY_32: Final = 3.1
REGISTER_32: Final = 1.0
SRAM_8KB_32: Final = 5.0
DRAM_32: Final = 640.0
TABLE_NM: Final = 45.0
SMALL_KB: Final = 1.0
"""Memories below this are register files."""

EYERISS_BITS: Final = 16
EYERISS_RATIOS: Final = {"register": 1.0, "network": 2.0, "buffer": 6.0, "dram": 200.0}


def mac_pj(machine: Hardware, weight_bits: int, input_bits: int) -> float:
    """Return the energy of one multiply-accumulate, pJ; wider or narrower than native by the product of the widths."""
    precision = machine.precision
    if machine.energy.mac_pj is not None:
        native = precision.weight_bits * precision.input_bits
        return machine.energy.mac_pj * weight_bits * input_bits / native
    product = MULTIPLY_32 * weight_bits * input_bits / 1024
    return (product + ADD_32 * precision.psum_bits / 32) * machine.energy.process_nm / TABLE_NM


def access_pj_per_bit(machine: Hardware, level: Level) -> float:
    """Return the energy of reading or writing one bit of a level, pJ."""
    if level.pj_per_bit is not None:
        return level.pj_per_bit
    if machine.energy.table == "eyeriss-65nm-relative":
        unit = mac_pj(machine, EYERISS_BITS, EYERISS_BITS) / EYERISS_BITS
        return unit * EYERISS_RATIOS["dram" if level.off_chip else "register" if level.per_pe else "buffer"]
    if level.off_chip:
        return DRAM_32 / 32
    scale = machine.energy.process_nm / TABLE_NM
    if level.kb is None or level.kb < SMALL_KB:
        return REGISTER_32 / 32 * scale
    return SRAM_8KB_32 / 32 * math.sqrt(level.kb / 8) * scale


def network_pj_per_bit(machine: Hardware) -> float:
    """Return the energy of bringing one bit into the array, pJ."""
    if machine.energy.network_pj_per_bit or machine.energy.table != "eyeriss-65nm-relative":
        return machine.energy.network_pj_per_bit
    return mac_pj(machine, EYERISS_BITS, EYERISS_BITS) / EYERISS_BITS * EYERISS_RATIOS["network"]


def static_pj(machine: Hardware, cycles: float) -> float:
    """Return the energy that flows while ``cycles`` pass, whatever is computed, pJ."""
    seconds = cycles / (machine.clock_mhz * 1e6)
    return machine.energy.static_mw * 1e9 * seconds + machine.energy.clock_pj_per_cycle * cycles
