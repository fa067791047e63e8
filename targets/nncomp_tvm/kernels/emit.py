"""Write loop nests of TIR: buffers, loops, vectors and named values, in the order in which they run.

TVM's schedules are not used for the kernels of this package: a register tile is written out, one accumulator a vector
register, and LLVM is left nothing to guess. An accumulator is a buffer of one vector in the scope "global": TVM puts
buffers of that scope, up to 1 KiB, on the stack (those of scope "local" on the heap), and LLVM turns each into a
register.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nncomp_tvm.kernels.extents import Extent, Symbol, product
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
        self._symbols: dict[Symbol, Any] = {}

    def size(self, extent: Extent) -> Expr:
        """Return a size as a number or, open, as an expression of 64 bits, of values that the function is given."""
        if isinstance(extent, int):
            return extent
        total: Expr = tirx.const(extent.factor, "int64")
        for symbol in extent.symbols:
            if symbol not in self._symbols:
                self._symbols[symbol] = tirx.Var(f"s{len(self._symbols)}", "int64")
            total = total * self._symbols[symbol]
        return total

    def parameter(self, shape: Sequence[Extent], dtype: str) -> Buffer:
        """Add a tensor to the signature and return its flat view."""
        name = f"p{len(self._params)}"
        tensor = tirx.decl_buffer(tuple(self.size(extent) for extent in shape), dtype, name, layout=None)
        elements = product(shape)
        view = tirx.decl_buffer((self.size(elements) if elements else 1,), dtype, f"{name}_flat", layout=None)
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

    def rounded(self, value: Expr, lanes: int) -> Expr:
        """Return float32 that is rounded before it is used: a product stays out of a fused multiply-add."""
        return tirx.call_llvm_pure_intrin(vector_type("float32", lanes), "llvm.arithmetic.fence", value)

    @contextmanager
    def loop(self, extent: Expr, start: Expr = 0) -> Iterator[Expr]:
        """Append a loop that runs what the block appends; a loop of one turn is none."""
        if _is_one(extent):
            yield start
            return
        with self._loop(extent, start, tirx.ForKind.SERIAL) as index:
            yield index

    @contextmanager
    def spread(self, extent: Expr) -> Iterator[Expr]:
        """Append a loop whose turns may run on several threads."""
        if _is_one(extent) or not self._parallel or len(self._open) > 1:
            with self.loop(extent) as index:
                yield index
            return
        with self._loop(extent, 0, tirx.ForKind.PARALLEL) as index:
            yield index

    @contextmanager
    def _loop(self, extent: Expr, start: Expr, kind: Any) -> Iterator[Expr]:
        wide = any(not isinstance(bound, int) and str(bound.ty) == "int64" for bound in (extent, start))
        index = tirx.Var(self._name("i"), "int64" if wide else "int32")
        self._open.append([])
        yield index
        body = self._open.pop()
        if body:
            self.run(tirx.For(index, start, extent, kind, sequence(body)))

    def function(self) -> Any:
        """Return the finished PrimFunc: its tensors, the last of which is the result, and before that the symbols."""
        body = sequence([*self._views, *self._open[0]])
        root = s_tir.SBlock([], [], [], "root", body)  # Relax's passes expect a block, and look no further
        body = s_tir.SBlockRealize([], True, root)
        symbols = [self._symbols[symbol] for symbol in sorted(self._symbols)]
        return tirx.PrimFunc([*self._params[:-1], *symbols, self._params[-1]], body).with_attr({"tirx.noalias": True})

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"


def _is_one(extent: Expr) -> bool:
    return isinstance(extent, int) and extent == 1


def sequence(statements: list[Any]) -> Any:
    """Return statements as one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
