"""Programs between integers as ONNX Runtime's integer kernels compute them: one factor, one rounding, no real numbers.

A quantized graph says quantize(relu(dequantize(x) w + b)); ONNX Runtime's kernels (QLinearConv, QGemm, QLinearAdd, ...)
compute it with the bias in the sum of integers and with one float32 factor, scale_x scale_w / scale_y, and what bounds
the real number bounds the code instead. The same is done here, so that codes are equal, bit by bit, not only where no
sum falls between two codes. It also is less work.

======================  ===========================================================================
sums of products        round(float(sum + bias) ((s_x s_w) / s_y)) + z_y, bounded before it is rounded
averages of images      the same with s_x / (s_y n); of windows, z_y is added before it is rounded
a + b                   round(fma(a, s_a/s_y, fma(b, s_b/s_y, z_y - (s_a/s_y z_a + s_b/s_y z_b))))
a b                     round(float((a - z_a) (b - z_b)) (s_a s_b / s_y) + z_y)
everything else         round(x / s_y) + z_y, as QuantizeLinear
======================  ===========================================================================

Half-way cases are rounded to even. A bias is an integer here if it is one in units of s_x s_w, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors import Anchor, exact
from nncomp_tvm.kernels.graph import array_of
from nncomp_tvm.kernels.program import Leaf, Program, Step
from nncomp_tvm.library import relax

Floats: TypeAlias = NDArray[np.float32]


def finished(
    anchor: Anchor, leaves: Sequence[Leaf], operands: Sequence[Any], steps: Sequence[Step], result: int
) -> tuple[Program, tuple[Any, ...]]:
    """Return the program of a region, and its operands.

    Args:
        anchor: What it begins with, value 0.
        leaves: Values from 1 up.
        operands: Those of leaves without a literal.
        steps: Values from -1 down.
        result: The value that it gives.
    """
    return _Rewriter(anchor, leaves, operands, steps).run(result)


@dataclass(frozen=True)
class _Sum:
    """Integers: as float32 below ``bound``, as int32 if it is 0."""

    value: int
    bound: int


@dataclass(frozen=True)
class _Codes:
    """Codes and what they stand for: an old value."""

    value: int
    scale: np.float32
    zero: float


@dataclass(frozen=True)
class _Target:
    """What codes are written: ``range`` is the lowest, the highest, and whether they are unsigned."""

    scale: np.float32
    zero: float
    range: tuple[float, float, float]
    dtype: str


class _Rewriter:
    def __init__(self, anchor: Anchor, leaves: Sequence[Leaf], operands: Sequence[Any], steps: Sequence[Step]) -> None:
        self._anchor, self._old = anchor, steps
        self._leaves = list(leaves)
        rest = iter(operands)
        self._operands = {i: next(rest) for i, leaf in enumerate(leaves, 1) if leaf.literal is None}
        self._new: list[Step] = []
        self._moved: dict[int, int] = {}  # old step -> new one

    def run(self, result: int) -> tuple[Program, tuple[Any, ...]]:
        for number, step in enumerate(self._old, 1):
            found = None
            if step.op == "quantize":
                found = self._code(step)
            elif step.op == "add":
                found = self._biased(step)
            if found is None:
                inputs = tuple(self._at(value) for value in step.inputs)
                found = self._emit(step.op, inputs, step.dtype, step.attrs)
            self._moved[-number] = found
        return self._pruned(result)

    def _pruned(self, result: int) -> tuple[Program, tuple[Any, ...]]:
        """Leave what nothing reads, and number leaves and steps in one row."""
        used = {self._at(result)}
        for number in range(len(self._new), 0, -1):
            if -number in used:
                used.update(self._new[number - 1].inputs)
        leaves = [i for i in range(1, len(self._leaves) + 1) if i in used]
        steps = [-number for number in range(1, len(self._new) + 1) if -number in used]
        names = {0: 0} | {value: i for i, value in enumerate((*leaves, *steps), 1)}
        chosen = [self._new[-number - 1] for number in steps]
        program = Program(
            self._anchor.source,
            tuple(self._leaves[i - 1] for i in leaves),
            tuple(Step(s.op, tuple(names[i] for i in s.inputs), s.dtype, s.attrs) for s in chosen),
        )
        return program, tuple(self._operands[i] for i in leaves if i in self._operands)

    # -- what is there

    def _at(self, value: int) -> int:
        return self._moved[value] if value < 0 else value

    def _step(self, value: int) -> Step | None:
        return self._old[-value - 1] if value < 0 else None

    def _constant(self, value: int) -> Floats | None:
        """Return the numbers of a leaf that has one a column, or one for all."""
        if value < 1:
            return None
        leaf = self._leaves[value - 1]
        if leaf.literal is not None:
            return np.array([leaf.literal], np.float32)
        array = array_of(self._operands[value])
        if array is None or array.dtype != np.float32 or any(stride for _, stride in leaf.rows):
            return None
        return array.reshape(-1)

    def _exact(self, value: int) -> _Sum | None:
        """Return integers, as int32, or as float32 where that holds them exactly."""
        step = self._step(value)
        if step is not None and step.op == "cast":
            return self._exact(step.inputs[0])
        if step is not None and step.op == "shift":
            return _Sum(self._at(value), 0)
        if value == 0 and (self._anchor.source == "int32" or self._anchor.bound):
            return _Sum(0, self._anchor.bound if self._anchor.source == "float32" else 0)
        return None

    def _scaled(self, value: int) -> tuple[_Sum, Floats] | None:
        """Return integers and the factor that makes real numbers of them."""
        step = self._step(value)
        if step is None or step.op != "multiply":
            return None
        for one, other in (step.inputs, step.inputs[::-1]):
            total, factor = self._exact(one), self._constant(other)
            if total is not None and factor is not None:
                return total, factor
        return None

    def _is_product(self, value: int) -> bool:
        """Whether it is an integer times something."""
        step = self._step(value)
        return step is not None and step.op == "multiply" and any(self._exact(one) is not None for one in step.inputs)

    def _bounded(self, value: int) -> tuple[int, list[tuple[float, float]]]:
        """Return what Relu and Clip bound, and by what."""
        bounds = []
        while (step := self._step(value)) is not None and step.op in ("nn.relu", "clip"):
            bounds.append((0.0, np.inf) if step.op == "nn.relu" else (step.attrs[0], step.attrs[1]))
            value = step.inputs[0]
        return value, bounds

    def _dequantized(self, value: int) -> _Codes | None:
        step = self._step(value)
        if step is None or step.op != "dequantize":
            return None
        scale = self._constant(step.inputs[1])
        return None if scale is None or scale.size > 1 else _Codes(step.inputs[0], scale[0], step.attrs[0])

    # -- what is written

    def _emit(self, op: str, inputs: Sequence[int], dtype: str = "float32", attrs: Sequence[float] = ()) -> int:
        self._new.append(Step(op, tuple(inputs), dtype, tuple(attrs)))
        return -len(self._new)

    def _numbers(self, array: NDArray[Any]) -> int:
        """Add one number a column, or one for all."""
        shape = (array.size,)
        self._leaves.append(Leaf.of(shape, str(array.dtype), self._anchor.output))
        self._operands[len(self._leaves)] = relax.const(np.ascontiguousarray(array).reshape(shape))
        return len(self._leaves)

    def _code(self, step: Step) -> int | None:
        """Quantize what is integers, or made of integers."""
        scale = self._constant(step.inputs[1])
        if scale is None or scale.size > 1:
            return None
        value, bounds = self._bounded(step.inputs[0])
        zero, low, high, unsigned = step.attrs
        for least, most in bounds:
            with np.errstate(over="ignore"):
                ends = np.rint(np.array([least, most], np.float32) / scale) + np.float32(zero)
            low, high = (float(end) for end in np.clip(ends, low, high))
        target = _Target(scale[0], zero, (low, high, unsigned), step.dtype)
        return self._requantized(value, target) or self._combined(value, target)

    def _requantized(self, value: int, target: _Target) -> int | None:
        """A sum of products, or of pixels, with its bias."""
        bias, inner = self._split(value)
        found = self._scaled(inner)
        if found is None:
            return None
        total, factor = found
        divisor, scale = self._anchor.divisor, factor
        if divisor > 1 and self._anchor.scale is not None:
            scale = self._anchor.scale
        factors = scale / (target.scale * np.float32(divisor))
        whole = None if bias is None else _in_units(bias, factor)
        number = total.value
        if whole is not None:
            number = self._sum(total, whole)
        real = self._emit("multiply", (self._real(number, total), self._numbers(factors)))
        if bias is not None and whole is None:
            real = self._emit("add", (real, self._numbers(bias / target.scale)))
        op = "code_of_shifted" if self._anchor.shifts else "code"
        return self._emit(op, (real,), target.dtype, (target.zero, *target.range))

    def _split(self, value: int) -> tuple[Floats | None, int]:
        """Return the bias that is added last, and what it is added to."""
        step = self._step(value)
        if step is None or step.op != "add":
            return None, value
        for one, other in (step.inputs, step.inputs[::-1]):
            bias = self._constant(other)
            if bias is not None:
                return bias, one
        return None, value

    def _sum(self, total: _Sum, bias: NDArray[np.int32]) -> int:
        """Add a bias to integers."""
        if not total.bound:
            return self._emit("add", (total.value, self._numbers(bias)), "int32")
        if exact(total.bound + int(np.abs(bias.astype(np.int64)).max())):
            return self._emit("add", (total.value, self._numbers(bias.astype(np.float32))))
        wide = self._emit("whole", (total.value,), "int32")
        return self._emit("cast", (self._emit("add", (wide, self._numbers(bias)), "int32"),))

    def _real(self, number: int, total: _Sum) -> int:
        return number if total.bound else self._emit("cast", (number,))

    def _biased(self, step: Step) -> int | None:
        """float(sum) s + b as QGemm has it, float(sum + b / s) s, where b / s is whole; else rounded after each."""
        for one, other in (step.inputs, step.inputs[::-1]):
            if not self._is_product(one):
                continue
            bias, found = self._constant(other), self._scaled(one)
            whole = None if bias is None or found is None else _in_units(bias, found[1])
            if found is None or whole is None:
                return self._emit("add_rounded", (self._at(one), self._at(other)))
            total, factor = found
            return self._emit("multiply", (self._real(self._sum(total, whole), total), self._numbers(factor)))
        return None

    def _combined(self, value: int, target: _Target) -> int | None:
        """A sum or a product of two tensors of codes."""
        step = self._step(value)
        if step is None or step.op not in ("add", "multiply"):
            return None
        left, right = (self._dequantized(one) for one in step.inputs)
        if left is None or right is None:
            return None
        a, b = (self._emit("cast", (self._at(one.value),)) for one in (left, right))
        if step.op == "add":
            first, second = left.scale / target.scale, right.scale / target.scale
            fixed = np.float32(target.zero) - (first * np.float32(left.zero) + second * np.float32(right.zero))
            inner = self._emit(
                "sum_of_products", (a, self._number(first), b, self._number(second), self._number(fixed))
            )
            return self._emit("code", (inner,), target.dtype, (0.0, *target.range))
        a, b = (
            self._emit("subtract", (x, self._number(one.zero))) if one.zero else x for x, one in ((a, left), (b, right))
        )
        factor = left.scale * right.scale / target.scale
        real = self._emit("multiply", (self._emit("multiply", (a, b)), self._number(factor)))
        return self._emit("code_of_shifted", (real,), target.dtype, (target.zero, *target.range))

    def _number(self, value: float | np.float32) -> int:
        self._leaves.append(Leaf((), "float32", literal=float(value)))
        return len(self._leaves)


def _in_units(bias: Floats, unit: Floats) -> NDArray[np.int32] | None:
    """Return a bias as whole numbers of units, if it is that exactly."""
    with np.errstate(all="ignore"):
        whole = np.rint(bias.astype(np.float64) / unit)
        fits = (np.abs(whole) < 1 << 31) & (whole.astype(np.float32) * unit == bias)
    return whole.astype(np.int32) if fits.all() else None
