"""What is odd about a model and does not keep it from being compiled: told once, before any work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nncomp.infer import inferred_types
from nncomp.ir import Graph, TensorType, Type
from nncomp.narrow import widened
from nncomp.ops import OpTable, Role
from nncomp.report import Warned

_CHUNK = 1 << 20  # elements looked at together


def odd_weights(graph: Graph, ops: OpTable) -> list[Warned]:
    """Return a warning for each float constant that holds NaN, or infinity where a layer multiplies with it."""
    found = []
    for part in graph.graphs():
        for value in part.constants():
            assert value.const is not None
            if not value.const.dtype.is_floating_point():
                continue
            nans, infinities = _not_finite(value.const.numpy())
            layers = [op.label for op in part.users(value) if ops.quant(op, graph.opsets).role is Role.COMPUTE]
            if nans or (infinities and layers):
                text = f"constant {value.name!r} holds {nans} NaN and {infinities} infinities"
                found.append(Warned("NNC-W030", text + (f", and {layers[0]!r} multiplies with it" if layers else "")))
    return found


def wrong_shapes(graph: Graph) -> list[Warned]:
    """Return a warning for declared sizes that cannot be; those inside the graph are put right.

    Sizes of graph outputs stay as declared: they are part of the interface.
    """
    found = inferred_types(graph, declared=False)
    wrong = []
    for part in graph.graphs():
        for value in part.values():
            type_ = found.get(value)
            if type_ is not None and _contradict(value.type, type_):
                wrong.append(f"{value.name!r} is declared as {value.type}, but is {type_}")
                if not part.is_output(value):
                    part.set_type(value, type_)
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return [Warned("NNC-W041", f"{wrong[0]}{more}")] if wrong else []


def _contradict(declared: Type | None, found: Type) -> bool:
    if not isinstance(declared, TensorType) or not isinstance(found, TensorType):
        return False
    if declared.shape is None or found.shape is None:
        return False
    if len(declared.shape) != len(found.shape):
        return True
    pairs = zip(declared.shape, found.shape, strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def _not_finite(array: npt.NDArray[np.generic]) -> tuple[int, int]:
    nans = infinities = 0
    for part in _parts(array.reshape(-1)):
        if not np.isfinite(part).all():
            nans += int(np.isnan(part).sum())
            infinities += int(np.isinf(part).sum())
    return nans, infinities


def _parts(flat: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    for start in range(0, flat.size, _CHUNK):
        yield widened(flat[start : start + _CHUNK])
