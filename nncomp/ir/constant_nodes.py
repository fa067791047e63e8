"""What a ``Constant`` node gives, in whichever of its forms it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from nncomp.ir.attributes import Attribute
from nncomp.ir.nodes import Op
from nncomp.ir.tensors import Tensor, tensor


def constant_node_data(op: Op) -> Tensor | None:
    """Return the tensor that a ``Constant`` node gives; None for any other op, and for a sparse one."""
    if not op.is_a("Constant"):
        return None
    for name, attr in op.attrs.items():
        if name == "value":
            return cast(Tensor, attr.value)
        if name in _CONSTANT_FORMS:
            return _CONSTANT_FORMS[name](attr)
    return None


def _plain_constant(dtype: type[np.generic]) -> Callable[[Attribute], Tensor]:
    return lambda attr: tensor(np.array(attr.value, dtype=dtype))


def _string_constant(attr: Attribute) -> Tensor:
    return tensor(np.array(attr.value, object))


_CONSTANT_FORMS: Mapping[str, Callable[[Attribute], Tensor]] = {
    "value_float": _plain_constant(np.float32),
    "value_floats": _plain_constant(np.float32),
    "value_int": _plain_constant(np.int64),
    "value_ints": _plain_constant(np.int64),
    "value_string": _string_constant,
    "value_strings": _string_constant,
}
