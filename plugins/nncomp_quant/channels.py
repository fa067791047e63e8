"""Channels that must share one factor: classes of values along axis 1, and who reads and writes them.

A positive factor per channel can be pushed through a network: into the weights that write a channel, out of the weights
that read it, and through every op that does not mind (``OpSemantics.scaling``). Values that such ops tie together form
a class with one factor per channel. Whatever an op of unknown meaning touches is pinned: its factors are 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nncomp.ir import DataType, Graph, Op, Value
from nncomp.ops import OpTable, Scaling
from nncomp.ops.accessors import clip_bounds


@dataclass
class ChannelClass:
    """Values whose channels share their factors.

    Attributes:
        values: members, in topological order.
        writers: linear ops whose output is a member.
        readers: linear ops whose input is a member.
        ceilings: upper bound of each member that a Clip writes.
        pinned: the factors must be 1.
    """

    values: list[Value] = field(default_factory=list)
    writers: list[Op] = field(default_factory=list)
    readers: list[Op] = field(default_factory=list)
    ceilings: dict[Value, float] = field(default_factory=dict)
    pinned: bool = False

    @property
    def channels(self) -> int | None:
        """Number of channels, None when it is not known."""
        sizes = {value.shape[1] for value in self.values if value.shape is not None and len(value.shape) > 1}
        size = sizes.pop() if len(sizes) == 1 else None
        return size if isinstance(size, int) else None


def channel_classes(graph: Graph, ops: OpTable) -> list[ChannelClass]:
    """Return the classes of a model's own graph that can be scaled, in topological order. Linear in ops."""
    finder = _Finder(graph, ops)
    for op in graph.ops():
        finder.visit(op)
    return finder.classes()


class _Finder:
    def __init__(self, graph: Graph, ops: OpTable) -> None:
        self.graph, self.ops = graph, ops
        self.parent: dict[Value, Value] = {}
        self.pinned: set[Value] = set()
        self.ceilings: dict[Value, float] = {}
        self.writers: dict[Value, Op] = {}
        self.readers: list[tuple[Value, Op]] = []
        for value in (*graph.inputs, *graph.outputs):
            self._pin(value)

    def visit(self, op: Op) -> None:
        row = self.ops.row(op, self.graph.opsets)
        scaling = row.scaling if row is not None else None
        data = op.inputs[0] if op.inputs else None
        if scaling is Scaling.LINEAR and data is not None and self._has_own_weight(op):
            self._find(data)
            self.readers.append((data, op))
            self._find(op.output)
            self.writers[op.output] = op
        elif scaling is Scaling.SUM and all(self._full_activation(value, op.output) for value in op.inputs):
            for value in op.inputs:
                assert value is not None
                self._tie(value, op.output)
        elif data is not None and self._passes_through(op, scaling):
            self._tie(data, op.output)
            for value in op.inputs[1:]:  # such as a slope that is computed, and whose channels are its own
                if value is not None and value.const is None:
                    self._pin(value)
        else:
            self._pin_all(op)

    def classes(self) -> list[ChannelClass]:
        found: dict[Value, ChannelClass] = {}
        for value in list(self.parent):
            found.setdefault(self._find(value), ChannelClass()).values.append(value)
        for value in self.pinned:
            found[self._find(value)].pinned = True
        for value, op in self.writers.items():
            found[self._find(value)].writers.append(op)
        for value, op in self.readers:
            found[self._find(value)].readers.append(op)
        for value, ceiling in self.ceilings.items():
            found[self._find(value)].ceilings[value] = ceiling
        return [one for one in found.values() if not one.pinned and one.writers and one.readers and one.channels]

    def _has_own_weight(self, op: Op) -> bool:
        """True for constant float weights that no other op reads, and a constant bias."""
        role = self.ops.quant(op, self.graph.opsets)
        slots = [slot for slot in (role.weight, role.bias) if slot is not None and op.input(slot) is not None]
        tensors = [self.graph.constant(op.input(slot)) for slot in slots]
        plain = op.attr("alpha", 1.0) == 1.0 and op.attr("beta", 1.0) == 1.0 and not op.attr("transA", 0)
        weight = op.input(role.weight) if role.weight is not None else None
        return (
            plain
            and weight is not None
            and len(self.graph.uses(weight)) == 1
            and all(tensor is not None and tensor.dtype == DataType.FLOAT for tensor in tensors)
        )

    def _full_activation(self, value: Value | None, output: Value) -> bool:
        return (
            value is not None
            and self.graph.constant(value) is None
            and value.shape is not None
            and output.shape is not None
            and value.shape[1:2] == output.shape[1:2]
            and len(value.shape) == len(output.shape)
        )

    def _passes_through(self, op: Op, scaling: Scaling | None) -> bool:
        if scaling is Scaling.CLIP:
            return self._clips_above_zero(op)
        return scaling is Scaling.CHANNELWISE or self._only_flattens(op)

    def _clips_above_zero(self, op: Op) -> bool:
        bounds = clip_bounds(op, self.graph)
        if bounds is None or bounds[0] != 0:
            return False
        if bounds[1] is not None and np.isfinite(bounds[1]):
            self.ceilings[op.output] = float(bounds[1])
        return True

    def _only_flattens(self, op: Op) -> bool:
        """True for (N, C, 1, 1) -> (N, C): channels stay channels."""
        source = op.inputs[0].shape if op.inputs and op.inputs[0] is not None else None
        result = op.outputs[0].shape if op.outputs else None
        return (
            op.kind in ("Flatten", "Reshape", "Squeeze")
            and source is not None
            and result is not None
            and len(result) == 2
            and len(source) > 2
            and all(dim == 1 for dim in source[2:])
            and source[1] == result[1]
            and isinstance(source[1], int)
        )

    def _pin_all(self, op: Op) -> None:
        for value in (*op.inputs, *op.outputs):
            if value is not None and value.const is None:
                self._pin(value)
        for body in op.bodies.values():
            for outer in body.captures.values():
                self._pin(outer)

    def _pin(self, value: Value) -> None:
        self._find(value)
        self.pinned.add(value)

    def _tie(self, a: Value, b: Value) -> None:
        self.parent[self._find(b)] = self._find(a)

    def _find(self, value: Value) -> Value:
        self.parent.setdefault(value, value)
        root = value
        while self.parent[root] is not root:
            root = self.parent[root]
        while self.parent[value] is not root:
            self.parent[value], value = root, self.parent[value]
        return root
