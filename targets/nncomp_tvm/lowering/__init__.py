"""From a graph to a Relax module: TVM's own converters where they are right, and ours where they are not."""

from nncomp_tvm.lowering.mending import Lowered, Refusal, Sizes, lower, refusals

__all__ = ["Lowered", "Refusal", "Sizes", "lower", "refusals"]
