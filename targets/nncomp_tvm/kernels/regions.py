"""Cut a function into kernels: each anchor takes the elementwise operators behind it, as far as one value leaves.

A region grows in the order of the bindings, over every reader of its values, so it also takes diamonds (x sigmoid(x)).
What it may end at is any state in which all but its newest value are read only inside. Operands from outside are read
where they are used; dequantized ones as integers, so that real numbers between two kernels are never stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors import Anchor, Device, Matcher, elementwise, match
from nncomp_tvm.kernels.extents import Extent, Symbol, product, symbols_of
from nncomp_tvm.kernels.graph import array_of, bindings, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.program import OPERATIONS, OWN, Leaf, Program, Step, broadcasts
from nncomp_tvm.kernels.requantize import finished
from nncomp_tvm.library import relax, tvm

_LONGEST: Final = 32  # operators in a region

_STORED: Final = frozenset({"float32", "int8", "uint8"})


class _Declined(Exception):  # noqa: N818 - a decision, not an error
    """An operator does not fit into the region."""


@dataclass
class Region:
    """A kernel under construction: an anchor, and the program behind it.

    Values are numbered: the anchor is 0, leaves count from 1 up, steps from -1 down.
    """

    anchor: Anchor
    leaves: list[Leaf] = field(default_factory=list)
    operands: list[Any] = field(default_factory=list)  # of leaves without a literal
    steps: list[Step] = field(default_factory=list)
    values: dict[Any, int] = field(default_factory=dict)  # variable -> value of the program

    def step(self, op: str, inputs: tuple[int, ...], dtype: str = "float32", attrs: tuple[float, ...] = ()) -> int:
        """Append a step and return its number."""
        self.steps.append(Step(op, inputs, dtype, attrs))
        return -len(self.steps)

    def leaf(self, leaf: Leaf, operand: Any) -> int:
        """Append an operand and return its number."""
        self.leaves.append(leaf)
        if leaf.literal is None:
            self.operands.append(operand)
        return len(self.leaves)

    def number(self, value: float) -> int:
        """Append a number."""
        return self.leaf(Leaf((), "float32", literal=value), None)

    def column_factor(self, array: NDArray[np.float32], op: str, value: int) -> int:
        """Apply one number a column, or one for all, to a value."""
        shape = (array.size,)
        leaf = Leaf.of(shape, "float32", self.anchor.output)
        return self.step(op, (value, self.leaf(leaf, relax.const(np.asarray(array, np.float32).reshape(shape)))))


@dataclass(frozen=True)
class Cut:
    """A region as it is emitted: at ``variable``, which is its result; ``inner`` bindings are not emitted any more."""

    variable: Any
    anchor: Anchor
    program: Program
    operands: tuple[Any, ...]
    inner: frozenset[Any]
    ops: tuple[str, ...]

    def symbols(self, operands: Sequence[Any]) -> list[Symbol]:
        """Return the open sizes that its kernel is handed behind ``operands``, all that it reads."""
        return symbols_of([*(shape_of(operand) or () for operand in operands), self.anchor.output])


def cut(main: Any, device: Device) -> dict[Any, Cut]:
    """Return the regions of a function, by the variable of their result."""
    return _Cutter(main, device).run()


class _Cutter:
    def __init__(self, main: Any, device: Device) -> None:
        self.bindings = bindings(main)
        self.position = {binding.var: i for i, binding in enumerate(self.bindings)}
        self.definitions = {binding.var: binding.value for binding in self.bindings}
        self.readers: dict[Any, list[int]] = defaultdict(list)
        for i, binding in enumerate(self.bindings):
            for variable in _variables(binding.value):
                self.readers[variable].append(i)
        for variable in _variables(main.body.body):
            self.readers[variable].append(len(self.bindings))
        self.matcher = Matcher(self.definitions, device)
        self.taken: set[Any] = set()

    def run(self) -> dict[Any, Cut]:
        found = [self._anchored(binding) for binding in self.bindings]
        cuts = {cut.variable: cut for cut in found if cut is not None}
        last = sorted(self.bindings, key=self._is_narrow)
        for binding in last:  # dequantized values are stored for those who are left and cannot read integers
            if binding.var not in self.taken and (alone := self._alone(binding)) is not None:
                cuts[alone.variable] = alone
        return cuts

    def _anchored(self, binding: Any) -> Cut | None:
        anchor = match(self.matcher, binding.var, binding.value)
        if anchor is None:
            return None
        region = Region(anchor)
        value = 0
        if anchor.shift is not None:
            zero, sums = anchor.shift
            read = (
                region.leaf(Leaf.of(shape_of(zero) or (), dtype_of(zero), anchor.output), zero),
                region.leaf(Leaf.of(sums.shape, "int32", anchor.output), relax.const(sums)),
            )
            value = region.step("shift", (0, *read), "int32")
        if anchor.source != "float32" and anchor.scale is not None:
            value = region.step("cast", (value,))
        if anchor.scale is not None:
            value = region.column_factor(anchor.scale * np.float32(1.0 / anchor.divisor), "multiply", value)
        if anchor.offset is not None:
            value = region.column_factor(anchor.offset, "add", value)
        region.values[binding.var] = value
        return self._grow(region, binding)

    def _alone(self, binding: Any) -> Cut | None:
        """Start a region at an elementwise operator that no anchor has taken."""
        if name_of(binding.value) not in _ELEMENTWISE:
            return None
        anchor = elementwise(self.matcher, binding.var)
        if anchor is None:
            return None
        region = Region(anchor)
        try:
            self._append(region, binding)
        except _Declined:
            return None
        if self._is_narrow(binding) and not self._must_store(binding.var):
            return None
        return self._grow(region, binding)

    def _is_narrow(self, binding: Any) -> bool:
        """Whether a value has a narrower form that is stored instead, for kernels to read."""
        return name_of(binding.value) == "dequantize" or self.matcher.is_widened(binding.var)

    def _must_store(self, variable: Any) -> bool:
        """Whether somebody reads a dequantized value who cannot read its integers: who is not in a region."""
        return any(i >= len(self.bindings) or self.bindings[i].var not in self.taken for i in self.readers[variable])

    def _grow(self, region: Region, first: Any) -> Cut:
        """Take readers, one by one, and return the longest state that one value leaves."""
        members = [self.position[first.var]]
        best = self._state(region, members)
        while len(members) < _LONGEST:
            waiting = {i for member in members for i in self._readers(member)} - set(members)
            if not waiting or min(waiting) >= len(self.bindings):
                break
            binding = self.bindings[min(waiting)]
            if binding.var in self.taken or name_of(binding.value) not in _FOLLOWING:
                break
            try:
                self._append(region, binding)
            except _Declined:
                break
            members.append(min(waiting))
            ends = not self._is_narrow(binding)  # else integers are stored: who reads them dequantizes them
            if ends and all(i in members for member in members[:-1] for i in self._readers(member)):
                best = self._state(region, members)
        self.taken |= best.inner | {best.variable}
        return best

    def _readers(self, position: int) -> list[int]:
        return self.readers[self.bindings[position].var]

    def _state(self, region: Region, members: list[int]) -> Cut:
        chosen = [self.bindings[member] for member in members]
        names = (name_of(binding.value) for binding in chosen)
        inner = frozenset(binding.var for binding in chosen[:-1])
        ops = tuple(name for name in names if name != "reshape")
        result = region.values[chosen[-1].var]
        program, operands = finished(region.anchor, region.leaves, region.operands, region.steps, result)
        return Cut(chosen[-1].var, region.anchor, program, operands, inner, ops)

    def _append(self, region: Region, binding: Any) -> None:
        """Translate one binding.

        Raises:
            _Declined: it does not fit, and the region is as before.
        """
        call, name = binding.value, name_of(binding.value)
        shape = shape_of(binding.var)
        output = region.anchor.output
        if not shape or not output or shape[-1] != output[-1] or product(shape) != product(output):
            raise _Declined
        kept = len(region.leaves), len(region.operands), len(region.steps)
        try:
            region.values[binding.var] = self._translate(region, name, call, binding.var, shape)
        except _Declined:
            del region.leaves[kept[0] :], region.operands[kept[1] :], region.steps[kept[2] :]
            raise

    def _translate(self, region: Region, name: str, call: Any, variable: Any, shape: tuple[Extent, ...]) -> int:
        if name == "reshape":
            value = region.values.get(call.args[0])
            if value is None:
                raise _Declined
            return value
        if name == "quantize":
            return self._quantize(region, call, variable, shape)
        if name == "dequantize":
            return self._dequantized(region, variable, shape)
        if name == "astype" and dtype_of(variable) == "float16" and self.matcher.device.halves:
            return region.step("half", (self._operand(region, call.args[0], shape),), "float16")
        if dtype_of(variable) != "float32":
            raise _Declined
        if name == "astype":
            value = self._operand(region, call.args[0], shape)
            return value if dtype_of(call.args[0]) == "float32" else region.step("cast", (value,))
        attrs = [self._attribute(call, what) for what in _ATTRIBUTES.get(name, ())]
        count = 1 if name in _ATTRIBUTES else len(call.args)
        inputs = tuple(self._operand(region, argument, shape) for argument in call.args[:count])
        return region.step(name, inputs, attrs=tuple(attrs))

    def _attribute(self, call: Any, what: str | int) -> float:
        value = call.args[what] if isinstance(what, int) else getattr(call.attrs, what)
        value = getattr(value, "value", value)
        if not isinstance(value, int | float):
            raise _Declined
        return float(value)

    def _operand(self, region: Region, expression: Any, shape: tuple[Extent, ...]) -> int:
        """Return the number of an operand of a step that gives ``shape``."""
        if expression in region.values:
            return region.values[expression]
        array = array_of(expression)
        if array is not None and array.size == 1 and array.dtype == np.float32:
            return region.number(float(array.reshape(-1)[0]))
        own = shape_of(expression)
        if own is None or not broadcasts(own, shape):
            raise _Declined
        if name_of(self.definitions.get(expression)) == "dequantize" and array is None:
            return self._dequantized(region, expression, shape)
        kind = dtype_of(expression)
        if kind not in _STORED:
            raise _Declined
        number = region.leaf(Leaf.of(own, kind, shape), expression)
        return number if kind == "float32" else region.step("cast", (number,))

    def _dequantized(self, region: Region, variable: Any, shape: tuple[Extent, ...]) -> int:
        stored = self.matcher.quantized(variable)
        own = shape_of(variable)
        if (
            stored is None
            or own is None
            or not broadcasts(own, shape)
            or stored.scale.size != 1
            or dtype_of(stored.value) not in _STORED
        ):
            raise _Declined
        number = region.values.get(stored.value)
        if number is None:
            number = region.leaf(Leaf.of(own, dtype_of(stored.value), shape), stored.value)
        scale = region.leaf(Leaf.of((1,), "float32", shape), relax.const(stored.scale))
        return region.step("dequantize", (number, scale), attrs=(float(stored.zero_point),))

    def _quantize(self, region: Region, call: Any, variable: Any, shape: tuple[Extent, ...]) -> int:
        scale, zero, kind = array_of(call.args[1]), array_of(call.args[2]), dtype_of(variable)
        if kind not in {"int8", "uint8"} or shape_of(call.args[1]) not in {(), (1,)}:
            raise _Declined
        value = self._operand(region, call.args[0], shape)
        low, high = (0.0, 255.0) if kind == "uint8" else (-128.0, 127.0)
        if scale is None or zero is None:
            read = [
                region.leaf(Leaf.of(shape_of(operand) or (), dtype_of(operand), shape), operand)
                for operand in call.args[1:]
            ]
            return region.step("quantize_by", (value, *read), kind, (low, high))
        divisor = region.leaf(Leaf.of((1,), "float32", shape), relax.const(scale.astype(np.float32).reshape(1)))
        attrs = (float(zero.reshape(-1)[0]), low, high, float(kind == "uint8"))
        return region.step("quantize", (value, divisor), kind, attrs)


_ATTRIBUTES: Final[Mapping[str, tuple[str | int, ...]]] = {"clip": (1, 2), "nn.leakyrelu": ("alpha",)}
"""Numbers of an operator: names of attributes, or positions of arguments."""

_ELEMENTWISE: Final = frozenset((*OPERATIONS, "astype")) - OWN

_FOLLOWING: Final = _ELEMENTWISE | {"reshape"}
"""What a region grows by."""


def _variables(expression: Any) -> list[Any]:
    """Return the variables that an expression reads."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Var) and not isinstance(node, tvm.ir.GlobalVar):
            found.append(node)

    relax.analysis.post_order_visit(expression, visit)
    return found
