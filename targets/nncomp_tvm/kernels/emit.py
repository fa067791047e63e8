"""Write loop nests of TIR: buffers, loops, vectors and named values, in the order in which they run.

TVM's schedules are not used for the kernels of this package: a register tile is written out, one accumulator a vector
register, and LLVM is left nothing to guess. An accumulator is a buffer of one vector in the scope "global": TVM puts
buffers of that scope, up to 1 KiB, on the stack (those of scope "local" on the heap), and LLVM turns each into a
register.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from nncomp_tvm.library import s_tir, tirx

Expr = Any  # a tirx expression, scalar or vector, or a Python number
Buffer = Any


def vector_type(dtype: str, lanes: int) -> str:
    """Return TVM's name of ``lanes`` elements of ``dtype``."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def splat(value: Expr, lanes: int) -> Expr:
    """Return a scalar in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def constant(value: float, dtype: str, lanes: int = 1) -> Expr:
    """Return a number in every lane."""
    return splat(tirx.const(value, dtype), lanes)


def load(buffer: Buffer, index: Expr, lanes: int = 1, stride: int = 1) -> Expr:
    """Return ``lanes`` elements of a flat buffer from ``index`` on."""
    return tirx.BufferLoad(buffer, [index if lanes == 1 else tirx.Ramp(index, stride, lanes)])


def pieces(count: int, lanes: int) -> list[int]:
    """Split ``count`` elements into vectors of ``lanes`` and, at the end, powers of two."""
    whole = [lanes] * (count // lanes)
    rest = count % lanes
    return whole + [1 << bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]


class Code:
    """A function under construction.

    Parameters are flat views of tensors: whatever their shape, elements are addressed by one index.
    """

    def __init__(self, *, parallel: bool) -> None:
        self._parallel = parallel
        self._params: list[Any] = []
        self._views: list[Any] = []
        self._open: list[list[Any]] = [[]]
        self._names = 0

    def parameter(self, shape: Sequence[int], dtype: str) -> Buffer:
        """Add a tensor to the signature and return its flat view."""
        name = f"p{len(self._params)}"
        tensor = tirx.decl_buffer(tuple(shape), dtype, name, layout=None)
        view = tirx.decl_buffer((max(prod(shape), 1),), dtype, f"{name}_flat", layout=None)
        self._params.append(tensor)
        self._views.append(tirx.DeclBuffer(view, data=tensor.data))
        return view

    def local(self, elements: int, dtype: str) -> Buffer:
        """Return a buffer of this turn of the loop around it; small and indexed by constants, it is registers."""
        buffer = tirx.decl_buffer((elements,), dtype, self._name("t"), layout=None)
        self.run(tirx.AllocBuffer(buffer))
        return buffer

    def run(self, statement: Any) -> None:
        """Append a statement."""
        self._open[-1].append(statement)

    def store(self, buffer: Buffer, index: Expr, value: Expr, lanes: int = 1) -> None:
        """Append a store of ``lanes`` elements."""
        self.run(tirx.BufferStore(buffer, value, [index if lanes == 1 else tirx.Ramp(index, 1, lanes)]))

    def let(self, value: Expr, dtype: str, lanes: int = 1) -> Expr:
        """Name a value, so that it is computed once."""
        name = tirx.Var(self._name("v"), vector_type(dtype, lanes))
        self.run(tirx.Bind(name, value))
        return name

    @contextmanager
    def loop(self, extent: Expr, start: Expr = 0) -> Iterator[Expr]:
        """Append a loop that runs what the block appends; a loop of one turn is none."""
        if isinstance(extent, int) and extent == 1:
            yield start
            return
        with self._loop(extent, start, tirx.ForKind.SERIAL) as index:
            yield index

    @contextmanager
    def spread(self, extent: int) -> Iterator[Expr]:
        """Append a loop whose turns may run on several threads."""
        if extent == 1 or not self._parallel or len(self._open) > 1:
            with self.loop(extent) as index:
                yield index
            return
        with self._loop(extent, 0, tirx.ForKind.PARALLEL) as index:
            yield index

    @contextmanager
    def _loop(self, extent: Expr, start: Expr, kind: Any) -> Iterator[Expr]:
        index = tirx.Var(self._name("i"), "int32")
        self._open.append([])
        yield index
        body = self._open.pop()
        if body:
            self.run(tirx.For(index, start, extent, kind, _sequence(body)))

    def function(self) -> Any:
        """Return the finished PrimFunc."""
        body = _sequence([*self._views, *self._open[0]])
        root = s_tir.SBlock([], [], [], "root", body)  # Relax's passes expect a block, and look no further
        body = s_tir.SBlockRealize([], True, root)
        return tirx.PrimFunc(self._params, body).with_attr({"tirx.noalias": True})

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"


def _sequence(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
