"""Which Relax operators start a kernel of ours, and with what shape, packed weights and scales.

An anchor is matched at one binding; operators that follow are fused by ``regions``. Where something does not fit
(symbolic dimensions, weights that are no constants, averages that leave padding out) nothing is matched, and TVM's own
code is used.
"""

from __future__ import annotations

from nncomp_tvm.kernels.anchors.anchor import Anchor, Device, Matcher, Quantized, exact
from nncomp_tvm.kernels.anchors.matching import match
from nncomp_tvm.kernels.anchors.rows import elementwise

__all__ = ["Anchor", "Device", "Matcher", "Quantized", "elementwise", "exact", "match"]
