"""Write kernels for a GPU as loop nests of TIR: blocks and threads, shared memory, registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from nncomp_tvm.kernels.emit import Buffer, Code, Expr, constant, sequence, vector_type
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.library import tirx

WORD: Final = 4
"""Bytes of a word: what a dot product of bytes takes, and a vector of four words is the widest access."""


class GridCode(Code):
    """A function under construction that is one launch of a grid."""

    def __init__(self) -> None:
        super().__init__(parallel=False)

    def words(self, buffer: Buffer) -> Buffer:
        """Return a view of a parameter's bytes as int32."""
        size, name = buffer.shape[0] // WORD, f"{buffer.name}_words"
        view = tirx.decl_buffer((size,), "int32", name, data=buffer.data, layout=None)
        self._views.append(tirx.DeclBuffer(view, data=buffer.data))
        return view

    def number(self, extent: Extent) -> Expr:
        """Return a size as a number or, open, as an expression of 32 bits, in which a GPU counts."""
        return extent if isinstance(extent, int) else tirx.Cast("int32", self.size(extent))

    def shared(self, elements: int, dtype: str) -> Buffer:
        """Return memory of a block of threads."""
        return self._allocated(elements, dtype, "shared")

    def registers(self, elements: int, dtype: str) -> Buffer:
        """Return memory of a thread, which is registers if indices are known when loops are unrolled."""
        return self._allocated(elements, dtype, "local")

    def _allocated(self, elements: int, dtype: str, scope: str) -> Buffer:
        buffer = tirx.decl_buffer((elements,), dtype, self._name("t"), scope=scope, layout=None)
        self.run(tirx.AllocBuffer(buffer))
        return buffer

    def rounded(self, value: Expr, lanes: int) -> Expr:
        """Return float32 that is rounded before it is used: operations with a named rounding are not contracted."""
        return tirx.call_pure_extern(
            vector_type("float32", lanes), "__fadd_rn", value, constant(-0.0, "float32", lanes)
        )

    @contextmanager
    def launch(self, extent: Expr, tag: str) -> Iterator[Expr]:
        """Append what the block appends for each block or thread of an axis, such as ``threadIdx.x``."""
        index = tirx.Var(tag.replace(".", "_"), "int32")
        axis = tirx.IterVar(None, index, tirx.IterVar.ThreadIndex, tag)
        self._open.append([])
        yield index
        body = sequence(self._open.pop())
        self.run(tirx.For(index, 0, extent, tirx.ForKind.THREAD_BINDING, body, thread_binding=axis))

    @contextmanager
    def unrolled(self, extent: int) -> Iterator[Expr]:
        """Append a loop that the CUDA compiler unrolls."""
        if extent == 1:
            yield 0
            return
        with self._loop(extent, 0, tirx.ForKind.UNROLLED) as index:
            yield index

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """Append what the block appends where a condition holds."""
        if condition is True:
            yield
            return
        self._open.append([])
        yield
        self.run(tirx.IfThenElse(condition, sequence(self._open.pop()), None))

    def function(self) -> Any:
        """Return the finished PrimFunc; loops stay loops in CUDA's source."""
        zero = tirx.const(0, "int32")
        self._open[0] = [tirx.AttrStmt(zero, "pragma_unroll_explicit", zero, sequence(self._open[0]))]
        return super().function().with_attr({"tirx.is_scheduled": True})


def parts(total: Expr, size: int) -> Expr:
    """Return how many parts of a size cover what there is."""
    return (total + (size - 1)) // size


def below(at: Expr, total: Expr, size: int) -> Expr:
    """Return whether ``at`` is one of what there is, where ``parts`` of a size are counted."""
    return True if isinstance(total, int) and total % size == 0 else at < total


def every(*conditions: Expr) -> Expr:
    """Return the conjunction of what is not known to hold."""
    unknown = [one for one in conditions if one is not True]
    return True if not unknown else unknown[0] if len(unknown) == 1 else tirx.all(*unknown)
