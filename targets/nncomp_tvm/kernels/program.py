"""The elementwise work that is fused behind a kernel: a short program over one vector, and how its operands are read.

The output of every kernel is seen as a matrix: its last axis is the columns, along which vectors lie, and all others
are the rows. An operand that broadcasts is read with strides: (extent, stride) for the row, outermost first, and a
stride for the column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from nncomp_tvm.kernels.emit import Buffer, Code, Expr, constant, load, splat, vector_type
from nncomp_tvm.kernels.extents import Extent, Open, product
from nncomp_tvm.kernels.vector_math import VectorMath
from nncomp_tvm.library import tirx


@dataclass(frozen=True)
class Leaf:
    """An operand that comes from memory, or, with a ``literal``, a number in the code.

    Attributes:
        shape: As the tensor is declared.
        dtype: Its elements.
        rows: (extent, stride) of the row index, outermost first, in elements.
        column: Stride of the column index: 1 along columns, 0 for one value a row.
        literal: The value, if it is a number.
    """

    shape: tuple[Extent, ...]
    dtype: str
    rows: tuple[tuple[Extent, Extent], ...] = ()
    column: int = 0
    literal: float | None = None

    @classmethod
    def of(cls, shape: tuple[Extent, ...], dtype: str, output: tuple[Extent, ...]) -> Leaf:
        """Return how a tensor that broadcasts to ``output`` is read; see :func:`broadcasts`."""
        aligned = (1,) * (len(output) - len(shape)) + shape
        strides = [product(aligned[axis + 1 :]) if extent != 1 else 0 for axis, extent in enumerate(aligned)]
        column = int(aligned[-1] != 1) if output else 0
        return cls(shape, dtype, _merged(output[:-1], strides[:-1]), column)

    def index(self, code: Code, row: Expr, column: Expr) -> Expr:
        """Return the flat index of an element."""
        total: Expr = column * self.column
        for position, (extent, stride) in enumerate(self.rows):
            if stride != 0:
                inner = product(later for later, _ in self.rows[position + 1 :])
                coordinate = row if inner == 1 else row // code.size(inner)
                total = total + (coordinate if position == 0 else coordinate % code.size(extent)) * code.size(stride)
        return total

    def read(self, code: Code, buffer: Buffer, row: Expr, column: Expr, lanes: int) -> Expr:
        """Return a vector of it."""
        if self.column == 0:
            return splat(load(buffer, self.index(code, row, 0)), lanes)
        return load(buffer, self.index(code, row, column), lanes)


def broadcasts(shape: Sequence[Extent], output: Sequence[Extent]) -> bool:
    """Whether a tensor broadcasts to ``output`` whatever its open sizes are."""
    if len(shape) > len(output):
        return False
    pairs = zip(shape, output[len(output) - len(shape) :], strict=True)
    return all(one in (1, other) for one, other in pairs if isinstance(one, Open) or isinstance(other, Open))


def _merged(extents: Sequence[Extent], strides: Sequence[Extent]) -> tuple[tuple[Extent, Extent], ...]:
    """Join neighbouring axes that step evenly, drop those of extent 1."""
    rows: list[tuple[Extent, Extent]] = []
    for extent, stride in zip(extents, strides, strict=True):
        if extent == 1:
            continue
        if rows and rows[-1][1] == extent * stride:
            rows[-1] = (rows[-1][0] * extent, stride)
        else:
            rows.append((extent, stride))
    return tuple(rows)


@dataclass(frozen=True)
class Step:
    """One operation: ``op`` on earlier values; ``attrs`` are its numbers, ``dtype`` what it gives."""

    op: str
    inputs: tuple[int, ...]
    dtype: str
    attrs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Program:
    """Leaves, then steps. Value 0 is what the kernel computed (``source``), then come the leaves, then the steps.

    Hashable: two kernels with equal programs are one.
    """

    source: str
    leaves: tuple[Leaf, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def dtype(self) -> str:
        """Element type of the result, the last value."""
        return self.steps[-1].dtype if self.steps else self.source


class Epilogue:
    """A program with its operands declared as parameters of a function."""

    def __init__(self, program: Program, code: Code) -> None:
        self._program, self._code = program, code
        self._buffers = [
            None if leaf.literal is not None else code.parameter(leaf.shape, leaf.dtype) for leaf in program.leaves
        ]

    def apply(self, value: Expr, row: Expr, column: Expr, lanes: int) -> Expr:
        """Append the steps for the vector at (row, column ...) and return the result."""
        values = [value]
        for leaf, buffer in zip(self._program.leaves, self._buffers, strict=True):
            if leaf.literal is not None:
                values.append(constant(leaf.literal, leaf.dtype, lanes))
            else:
                values.append(leaf.read(self._code, buffer, row, column, lanes))
        math = VectorMath(self._code, lanes)
        for step in self._program.steps:
            result = OPERATIONS[step.op](math, [values[i] for i in step.inputs], step.attrs)
            values.append(self._code.let(result, step.dtype, lanes))
        return values[-1]


Operation = Callable[[VectorMath, Sequence[Expr], Sequence[float]], Expr]


def _clip(math: VectorMath, x: Expr, low: float, high: float) -> Expr:
    return tirx.min(math.number(high), tirx.max(math.number(low), x))


def _code(math: VectorMath, x: Expr, attrs: Sequence[float]) -> Expr:
    """saturate(round_half_even(x) + zero point); attrs: zero point, lowest, highest code, whether they are unsigned."""
    zero, low, high, unsigned = attrs
    codes = _rounded(math, _clip(math, x, low - zero, high - zero))
    return _cast(math, codes + constant(int(zero), "int32", math.lanes), "uint8" if unsigned else "int8")


def _code_of_shifted(math: VectorMath, x: Expr, attrs: Sequence[float]) -> Expr:
    """saturate(round_half_even(x + zero point)); attrs as those of ``code``. Bounds also keep x + zero one rounding."""
    zero, low, high, unsigned = attrs
    codes = _rounded(math, _clip(math, x, low - zero, high - zero) + math.number(zero))
    return _cast(math, codes, "uint8" if unsigned else "int8")


def _rounded(math: VectorMath, x: Expr) -> Expr:
    """Return an int32 whose low byte is x, |x| < 2^21, rounded half to even: 1.5 2^23 + x has it in its last bits."""
    return tirx.reinterpret(vector_type("int32", math.lanes), x + math.number(12582912.0))


def _quantize_by(math: VectorMath, x: Expr, scale: Expr, zero: Expr, attrs: Sequence[float]) -> Expr:
    """Quantize with a scale and a zero point that come from memory; attrs: low, high."""
    low, high = attrs
    rounded = tirx.nearbyint(x / scale) + _cast(math, zero, "float32")
    return _cast(math, _cast(math, _clip(math, rounded, low, high), "int32"), "uint8" if low == 0 else "int8")


def _cast(math: VectorMath, x: Expr, dtype: str) -> Expr:
    return tirx.Cast(vector_type(dtype, math.lanes), x)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "add": lambda m, v, a: v[0] + v[1],
        "subtract": lambda m, v, a: v[0] - v[1],
        "multiply": lambda m, v, a: v[0] * v[1],
        "divide": lambda m, v, a: v[0] / v[1],
        "maximum": lambda m, v, a: tirx.max(v[0], v[1]),
        "minimum": lambda m, v, a: tirx.min(v[0], v[1]),
        "negative": lambda m, v, a: m.number(0.0) - v[0],
        "abs": lambda m, v, a: tirx.max(v[0], m.number(0.0) - v[0]),
        "square": lambda m, v, a: v[0] * v[0],
        "sqrt": lambda m, v, a: tirx.sqrt(v[0]),
        "rsqrt": lambda m, v, a: m.number(1.0) / tirx.sqrt(v[0]),
        "exp": lambda m, v, a: m.exp(v[0]),
        "erf": lambda m, v, a: m.erf(v[0]),
        "tanh": lambda m, v, a: m.tanh(v[0]),
        "sigmoid": lambda m, v, a: m.sigmoid(v[0]),
        "nn.silu": lambda m, v, a: v[0] * m.sigmoid(v[0]),
        "nn.gelu": lambda m, v, a: v[0] * m.number(0.5) * (m.erf(v[0] * m.number(0.5**0.5)) + m.number(1.0)),
        "nn.relu": lambda m, v, a: tirx.max(m.number(0.0), v[0]),
        "nn.leakyrelu": lambda m, v, a: tirx.max(m.number(0.0), v[0]) + m.number(a[0]) * tirx.min(m.number(0.0), v[0]),
        "clip": lambda m, v, a: _clip(m, v[0], a[0], a[1]),
        "cast": lambda m, v, a: _cast(m, v[0], "float32"),
        "quantize": lambda m, v, a: _code(m, v[0] / v[1], a),
        "code": lambda m, v, a: _code(m, v[0], a),
        "code_of_shifted": lambda m, v, a: _code_of_shifted(m, v[0], a),
        "half": lambda m, v, a: _cast(m, v[0], "float16"),
        "whole": lambda m, v, a: _cast(m, v[0], "int32"),
        "add_rounded": lambda m, v, a: m.rounded(v[0]) + v[1],
        "sum_of_products": lambda m, v, a: v[0] * v[1] + (v[2] * v[3] + v[4]),
        "quantize_by": lambda m, v, a: _quantize_by(m, v[0], v[1], v[2], a),
        "shift": lambda m, v, a: v[0] - _cast(m, v[1], "int32") * v[2],
        "dequantize": lambda m, v, a: (_cast(m, v[0], "float32") - m.number(a[0])) * v[1],
    }
)
"""What can be fused: operations on vectors, by name of the Relax operator, and those of OWN."""

OWN: Final = frozenset({"add_rounded", "cast", "code", "code_of_shifted", "half", "quantize_by", "shift", "square"}) | {
    "sum_of_products",
    "whole",
}
"""Operations that no Relax operator is named by; ``shift`` is sum - zero point x (sum of the weights)."""
