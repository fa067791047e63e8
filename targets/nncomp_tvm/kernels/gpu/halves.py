"""Halve what products with constant weights read: 16-bit floats are stored, and widened where they are multiplied."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from nncomp_tvm.kernels.graph import Walk, array_of, dtype_of, name_of
from nncomp_tvm.library import relax

_PRODUCTS: Final = frozenset({"nn.conv2d", "matmul"})


def halved(module: Any) -> Any:
    """Return the module with activations that meet constant weights rounded to 16 bits, like these; sums stay float32.

    Quantized weights are no constants here: these products stay as they are, for bytes are narrower.
    """
    return _Halves(module).walk.run()


class _Halves:
    def __init__(self, module: Any) -> None:
        self.walk = Walk(module, self._rewrite)
        self._rounded: dict[Any, Any] = {}  # float32 variable -> the same, rounded

    def _rewrite(self, walk: Walk, item: Any) -> Any:
        variable, call = item
        if name_of(call) not in _PRODUCTS or dtype_of(variable) != "float32":
            return call
        x, weights = call.args[0], array_of(call.args[1])
        if weights is None or array_of(x) is not None:
            return call
        rounded = relax.const(weights.astype(np.float16).astype(np.float32))
        return relax.Call(call.op, [self._half(x), rounded], call.attrs, call.ty_args)

    def _half(self, value: Any) -> Any:
        if value not in self._rounded:
            narrow = self.walk.emit(relax.op.astype(value, "float16"))
            self._rounded[value] = self.walk.emit(relax.op.astype(narrow, "float32"))
        return self._rounded[value]
