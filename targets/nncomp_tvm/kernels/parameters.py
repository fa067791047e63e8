"""Parameters apart from code: constants become arguments of ``main``, so that a library holds nothing but code.

What our kernels read lies in one tensor a type, a pool, and a kernel is handed the pool and where its weights begin: an
argument costs half a microsecond a run, which for a hundred constants would be what a small model takes. Constants of
TVM's own operators are few, and arguments of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.graph import Walk, array_of, dtype_of, is_plain
from nncomp_tvm.library import Constant, relax, s_tir, tensor, tirx, tvm

_ALIGNED: Final = 64  # bytes: a vector of AVX512 crosses no line of the cache


class Pool:
    """Constants, one behind the other; equal ones are stored once."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._sizes: dict[str, int] = {}
        self._places: dict[tuple[str, bytes], int] = {}
        self.variables: Mapping[str, Any] = {}

    def place(self, constant: Any) -> int:
        """Return where a constant begins in the pool of its type, in elements; store it if it is new."""
        array, dtype = array_of(constant), dtype_of(constant)
        assert array is not None
        key = dtype, sha256(array.data).digest()
        if key not in self._places:
            step = _ALIGNED // array.itemsize
            grown = np.zeros(-(-array.size // step) * step, array.dtype)
            grown[: array.size] = array.reshape(-1)
            self._places[key] = self._sizes.get(dtype, 0)
            self._sizes[dtype] = self._places[key] + grown.size
            self._parts.setdefault(dtype, []).append(grown)
        return self._places[key]

    def close(self) -> None:
        """Make the variables of ``main`` that the pools are handed over in, by type; nothing is placed behind this."""
        self.variables = {
            dtype: relax.Var(f"parameters_{dtype}", relax.TensorType((size,), dtype))
            for dtype, size in sorted(self._sizes.items())
        }

    def tensors(self) -> list[Any]:
        """Return the pools, in the order of :attr:`variables`."""
        return [tensor(np.concatenate(self._parts[dtype])) for dtype in self.variables]


def pooled(function: Any, operands: Sequence[Any]) -> Any:
    """Return a kernel that reads its constant operands from pools.

    Args:
        function: From ``emit.Code``: its body begins with a flat view of each tensor.
        operands: What its first parameters are.

    Returns:
        A PrimFunc of the other operands, a pool for each type by name, where each constant begins, and what follows.
    """
    stored = [place for place, operand in enumerate(operands) if isinstance(operand, Constant)]
    kinds = [dtype_of(operands[place]) for place in stored]
    pools = {
        kind: tirx.decl_buffer((tirx.Var(f"size_{kind}", "int64"),), kind, f"pool_{kind}", layout=None)
        for kind in sorted(set(kinds))
    }
    begins = [tirx.Var(f"at{place}", "int64") for place in stored]
    statements = list(function.body.block.body.seq)
    binds = []
    for place, kind, begin in zip(stored, kinds, begins, strict=True):
        pointer = tirx.Var(f"from{place}", tvm.ir.PointerType(tvm.ir.PrimType(kind)))
        binds.append(tirx.Bind(pointer, tirx.address_of(tirx.BufferLoad(pools[kind], [begin]))))
        statements[place] = tirx.DeclBuffer(statements[place].buffer, data=pointer)
    kept = [one for place, one in enumerate(function.params[: len(operands)]) if place not in stored]
    root = s_tir.SBlock([], [], [], "root", tirx.SeqStmt([*binds, *statements]))
    parameters = [*kept, *pools.values(), *begins, *function.params[len(operands) :]]
    return tirx.PrimFunc(parameters, s_tir.SBlockRealize([], True, root), attrs=function.attrs)


def from_pool(pool: Pool, operands: Sequence[Any]) -> list[Any]:
    """Return what a call of a kernel of :func:`pooled` has instead of ``operands``."""
    stored = [operand for operand in operands if isinstance(operand, Constant)]
    kinds = sorted({dtype_of(operand) for operand in stored})
    begins = [tirx.const(pool.place(operand), "int64") for operand in stored]
    return [
        *(operand for operand in operands if not isinstance(operand, Constant)),
        *(pool.variables[kind] for kind in kinds),
        *begins,
    ]


def apart(module: Any) -> tuple[Any, list[Any]]:
    """Return the module with the constants of ``main`` as arguments behind the others, and their values in order.

    A function with branches keeps its constants.
    """
    main = module["main"]
    found: dict[Any, Any] = {}

    def visit(node: Any) -> None:
        if isinstance(node, Constant) and node not in found:
            found[node] = relax.Var(f"constant_{len(found)}", node.ty)

    if is_plain(main):
        relax.analysis.post_order_visit(main.body, visit)
    if not found:
        return module, []
    walk = Walk(module, lambda _, item: item[1], list(found.values()))
    walk.new.update(found)
    return walk.run(), [constant.value for constant in found]
