"""Which ops become integer, which values get a scale: decided from roles and capabilities, each refusal with a reason.

An op with weights whose kernel the target has is an *anchor*. Integers then spread forward from anchors through
elementwise and pass-through ops that have kernels. Whatever stays float is in ``left`` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar, cast

import numpy as np

from nncomp.ir import DataType, Graph, Node, Op, Value
from nncomp.ops import OpTable, QuantRole, Role
from nncomp.ops.accessors import clip_bounds
from nncomp.statistics import watchable
from nncomp.targets import Int8Form, Int8Kernel, Int8Support

T = TypeVar("T")

MIN_TABLE_BYTES = 1 << 16
"""A float embedding table smaller than this is not worth two more ops."""


@dataclass
class QuantPlan:
    """What to quantize in one graph.

    Attributes:
        static: ops that get DequantizeLinear on their operands, in topological order.
        dynamic: matrix products whose activations are quantized at run time.
        recurrent: layers whose activations, state included, are quantized at run time.
        tables: Gathers from a constant float table.
        scaled: values that get QuantizeLinear and DequantizeLinear, in topological order.
        follows: values among ``scaled`` that share another value's scale.
        integer: values among ``scaled`` that an integer kernel writes: all their readers read the dequantized form.
        wide: constants among operands, and values with a scale of their own, whose codes have 16 bits: their type.
        clips: of values that a clipping activation in front of their quantizer bounds: lowest and highest value.
        left: why an op that could matter stays float.
    """

    static: list[Op] = field(default_factory=list)
    dynamic: list[Op] = field(default_factory=list)
    recurrent: list[Op] = field(default_factory=list)
    tables: list[Op] = field(default_factory=list)
    scaled: dict[Value, None] = field(default_factory=dict)
    follows: dict[Value, Value] = field(default_factory=dict)
    integer: set[Value] = field(default_factory=set)
    wide: dict[Value, DataType] = field(default_factory=dict)
    clips: dict[Value, tuple[float | None, float | None]] = field(default_factory=dict)
    left: dict[Op, str] = field(default_factory=dict)

    def leader(self, value: Value) -> Value:
        """Return the value whose scale ``value`` has."""
        while value in self.follows:
            value = self.follows[value]
        return value

    def code_type(self, value: Value) -> DataType:
        """Return the type of the codes of ``value``."""
        return self.wide.get(self.leader(value), DataType.UINT8)

    @property
    def leaders(self) -> list[Value]:
        """The values that have a scale of their own, in topological order."""
        return [value for value in self.scaled if value not in self.follows]

    @property
    def empty(self) -> bool:
        """True when nothing would be quantized."""
        return not (self.static or self.dynamic or self.recurrent or self.tables)

    def mapped(self, nodes: Mapping[Node, Node]) -> QuantPlan:
        """Return this plan for a copy of the graph, given where each node went."""

        def ops(found: Iterable[Op]) -> list[Op]:
            return [cast(Op, nodes[op]) for op in found]

        def values(found: Mapping[Value, T]) -> dict[Value, T]:
            return {cast(Value, nodes[value]): other for value, other in found.items()}

        return QuantPlan(
            ops(self.static),
            ops(self.dynamic),
            ops(self.recurrent),
            ops(self.tables),
            values(self.scaled),
            {value: cast(Value, nodes[leader]) for value, leader in values(self.follows).items()},
            {cast(Value, nodes[value]) for value in self.integer},
            values(self.wide),
            values(self.clips),
            {cast(Op, nodes[op]): reason for op, reason in self.left.items()},
        )

    def give_up_static(self, reason: str) -> None:
        """Leave float what needs scales of activations."""
        self.left |= dict.fromkeys(self.static, reason)
        self.static = []
        self.scaled, self.follows, self.integer, self.wide, self.clips = {}, {}, set(), {}, {}


def plan_quantization(
    graph: Graph,
    ops: OpTable,
    int8: Int8Support,
    *,
    skip: Set[Op] = frozenset(),
    only: Set[Op] | None = None,
    wide: Set[Op] = frozenset(),
    forms: Mapping[Op, Int8Form] = MappingProxyType({}),
    embeddings: bool = True,
) -> QuantPlan:
    """Decide what to quantize in a model's own graph, or in a body; what is in bodies of its ops has plans of its own.

    Args:
        graph: Typed (``infer_types``), constants lifted.
        ops: Roles.
        int8: What the target runs in integers.
        skip: Ops to leave float.
        only: The only ops to quantize, those among them, too, that pay only beside others; None for all that pay.
        wide: Ops whose activations get 16 bits, on a target that takes them. Scales come from calibration: there is no
            quantizer of 16 bits for run time.
        forms: Of some ops, the form to take; where it is not the target's first, results do not spread integers.
        embeddings: Store embedding tables as INT8.
    """
    return _Planner(graph, ops, int8, skip=skip, only=only, wide=wide, forms=forms, embeddings=embeddings).plan()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        ops: OpTable,
        int8: Int8Support,
        *,
        skip: Set[Op],
        only: Set[Op] | None,
        wide: Set[Op],
        forms: Mapping[Op, Int8Form],
        embeddings: bool,
    ) -> None:
        self.graph, self.ops, self.int8, self.skip, self.only = graph, ops, int8, skip, only
        self.wide, self.forms, self.embeddings = wide, forms, embeddings
        self.watched = watchable(graph)
        self.result = QuantPlan()
        self.members: dict[Op, None] = {}
        # Behind an integer op, a clipping activation that the quantizer absorbs: op output -> activation output.
        self.boundary: dict[Value, Value] = {}
        self.ends: set[Value] = set()

    def plan(self) -> QuantPlan:
        absorbed: set[Op] = set()
        for op in self.graph.ops():
            if op in absorbed:
                continue
            reason = self._place(op)
            if reason:
                self.result.left.setdefault(op, reason)
            if op in self.members:
                absorbed |= self._absorb(op)
        self._drop_useless_movers()
        self._choose_values()
        self._widen_values()
        self.result.static = list(self.members)
        return self.result

    def _place(self, op: Op) -> str:
        """Put ``op`` where it belongs; return why it stays float, "" if it does not or nobody would ask."""
        role = self.ops.quant(op, self.graph.opsets)
        kernel = self._kernel(op)
        if role.role is Role.SENSITIVE and role.weight is not None:
            return self._place_recurrent(op, role, kernel)
        if role.role is Role.COMPUTE:
            return self._place_compute(op, role, kernel)
        if self.embeddings and is_table(op, self.graph):
            left = self._left_out(op)
            if not left:
                self.result.tables.append(op)
            return left
        if not self._reads_integers(op) and not (self.only and op in self.only):
            return ""
        if role.role not in (Role.ELEMENTWISE, Role.PASSTHROUGH):
            return self._float_cause(op, role)
        left = self._left_out(op)
        if left:
            return left
        if kernel is None or (kernel.same_scale and role.role is Role.ELEMENTWISE):  # such as Resize that averages
            return self._float_cause(op, role)
        if kernel.same_scale and any(value.name for value in op.outputs if not self._is_float(value)):
            return "its second output is used: the integer kernel has one"
        if any(not self._is_float(value) for value in self._activations(op, role)):
            return "its operands are not float32"
        if any(not self._finite(op.inputs[slot]) for slot in _slots(op, role)):
            return "a constant operand holds NaN or infinity"
        self.members[op] = None
        return ""

    def _place_compute(self, op: Op, role: QuantRole, kernel: Int8Kernel | None) -> str:
        left = self._left_out(op)
        if left:
            return left
        if kernel is None:
            return self._float_cause(op, role)
        weight = self.graph.constant(op.input(role.weight if role.weight is not None else 1))
        if weight is None:
            return self._why_no_weight(op, role)
        if not weight.size:
            return "its weight has no elements"
        if weight.dtype != DataType.FLOAT or not self._is_float(op.inputs[0]):
            return f"its weight is {weight.dtype.name.lower()}, not float32"
        if op.attr("alpha", 1.0) != 1.0 or op.attr("beta", 1.0) != 1.0 or op.attr("transA", 0):
            return "alpha, beta or transA is set: the integer kernel has none"
        if kernel.form is Int8Form.DYNAMIC:
            if len(weight.shape) != 2:
                return f"its weight has {len(weight.shape)} axes, the dynamic kernel takes 2"
            self.result.dynamic.append(op)
            return ""
        if not self.watched:
            return "what this body computes cannot be watched in calibration"
        bias = op.input(role.bias) if role.bias is not None else None
        if bias is not None and self.graph.constant(bias) is None:
            return "its bias is computed" if bias.default is None else "its bias is an input that a caller may override"
        if bias is not None and bias.shape is not None and sum(dim != 1 for dim in bias.shape) > 1:
            return "its bias is not one number a channel"
        self.members[op] = None
        return ""

    def _place_recurrent(self, op: Op, role: QuantRole, kernel: Int8Kernel | None) -> str:
        left = self._left_out(op)
        if left:
            return left
        if kernel is not None and op in self.wide:
            return "its activations are quantized at run time, to 8 bits only"
        if kernel is None or kernel.form is not Int8Form.DYNAMIC:
            return self._float_cause(op, role)
        weights = [self.graph.constant(op.input(slot)) for slot in (1, 2)]
        if any(weight is None for weight in weights):
            return "its weight is computed"
        if any(weight is not None and weight.dtype != DataType.FLOAT for weight in weights):
            return "its weights are not float32"
        if op.attr("layout", 0):
            return "it keeps the batch first: the integer kernel has the sequence first"
        self.result.recurrent.append(op)
        return ""

    def _left_out(self, op: Op) -> str:
        if op in self.skip:
            return "skipped by option"
        return "" if self.only is None or op in self.only else "not among those asked for"

    def _why_no_weight(self, op: Op, role: QuantRole) -> str:
        weight = op.input(role.weight if role.weight is not None else 1)
        if weight is not None and weight.default is not None:
            return "its weight is an input that a caller may override"
        if role.weight not in role.data:
            return "its weight is computed"
        if self.graph.constant(op.inputs[0]) is not None:
            return "its first operand is the constant one: the integer kernel takes weights second"
        return "both operands are computed: float is as fast and more accurate"

    def _absorb(self, op: Op) -> set[Op]:
        """Follow the clipping activations that vanish into the quantizer behind ``op``."""
        kernel = self._kernel(op)
        absorbed: set[Op] = set()
        end = op.output
        low: float | None = None
        high: float | None = None
        while kernel is not None and kernel.absorbs and self.graph.single_use(end):
            user = self.graph.users(end)[0]
            if user in self.skip or user.domain or user.kind not in kernel.absorbs or user.inputs[0] is not end:
                break
            bounds = clip_bounds(user, self.graph)
            if bounds is None or (bounds[0] or 0) > 0 or (bounds[1] or 0) < 0:
                self.result.left[user] = "its bounds are computed, or leave out zero"
                break
            absorbed.add(user)
            end = user.output
            low = max((bound for bound in (low, bounds[0]) if bound is not None), default=None)
            high = min((bound for bound in (high, bounds[1]) if bound is not None), default=None)
            self.result.clips[end] = low, high
        self.boundary[op.output] = end
        if kernel == self.int8.kernels.get(op.kind):
            self.ends |= {end, *op.outputs[1:]}
        return absorbed

    def _drop_useless_movers(self) -> None:
        """Take out ops that only move values, when no integer op reads what they move."""
        for op in reversed(list(self.members)):
            if self.ops.quant(op, self.graph.opsets).role is not Role.PASSTHROUGH:
                continue
            ends = [self.boundary.get(value, value) for value in op.outputs if value.name]
            if not any(user in self.members for end in ends for user in self.graph.users(end)):
                del self.members[op]

    def _choose_values(self) -> None:
        result = self.result
        for op in self.members:
            role = self.ops.quant(op, self.graph.opsets)
            kernel = self._kernel(op)
            assert kernel is not None
            for slot in _slots(op, role):
                value = op.inputs[slot]
                if value is not None and self.graph.constant(value) is None:
                    result.scaled.setdefault(value)
            for value in op.outputs:
                end = self.boundary.get(value, value)
                if not value.name or kernel.form is Int8Form.QDQ_FLOAT_OUT:
                    continue
                result.scaled.setdefault(end)
                result.integer.add(end)
                if kernel.same_scale:
                    source = op.inputs[role.data[0]]
                    assert source is not None
                    result.follows[end] = source

    def _widen_values(self) -> None:
        """Give 16 bits to all that an op among ``wide`` reads or writes: two types at one op suit no kernel."""
        if self.int8.wide is None:
            return
        result = self.result
        for op in self.members:
            role = self.ops.quant(op, self.graph.opsets)
            ends = [self.boundary.get(value, value) for value in op.outputs]
            for value in (*self._activations(op, role), *ends) if op in self.wide else ():
                if value is not None and (value in result.scaled or self.graph.constant(value) is not None):
                    result.wide[result.leader(value)] = self.int8.wide.dtype

    def _kernel(self, op: Op) -> Int8Kernel | None:
        kernel = None if op.domain else self.int8.kernels.get(op.kind)
        if kernel is not None and op in self.wide and kernel.form is Int8Form.DYNAMIC:
            return replace(kernel, form=Int8Form.QDQ_FLOAT_OUT)
        return replace(kernel, form=self.forms[op]) if kernel is not None and op in self.forms else kernel

    def _reads_integers(self, op: Op) -> bool:
        return any(value in self.ends for value in op.inputs)

    def _activations(self, op: Op, role: QuantRole) -> list[Value | None]:
        return [op.inputs[slot] for slot in _slots(op, role)]

    def _is_float(self, value: Value | None) -> bool:
        tensor = self.graph.constant(value)
        if tensor is not None:
            return tensor.dtype == DataType.FLOAT
        type_ = value.tensor_type if value is not None else None
        return type_ is None or type_.dtype == DataType.FLOAT

    def _finite(self, value: Value | None) -> bool:
        array = self.graph.array(value)
        return array is None or array.dtype.kind != "f" or bool(np.isfinite(array).all())

    def _float_cause(self, op: Op, role: QuantRole) -> str:
        known: Mapping[str, str] = self.int8.float_causes
        if not op.domain and op.kind in known:
            return known[op.kind]
        return role.reason or "the target has no integer kernel for it"


def _slots(op: Op, role: QuantRole) -> tuple[int, ...]:
    if role.variadic:
        return tuple(range(len(op.inputs)))
    return tuple(slot for slot in role.data if slot < len(op.inputs) and op.inputs[slot] is not None)


def is_table(op: Op, graph: Graph) -> bool:
    """Tell whether ``op`` looks rows up in a constant float table that is large enough to be worth two more ops."""
    if not op.is_a("Gather") or op.attr("axis", 0) != 0:
        return False
    table = graph.constant(op.inputs[0])
    return (
        table is not None
        and table.dtype == DataType.FLOAT
        and len(table.shape) == 2
        and (table.nbytes >= MIN_TABLE_BYTES)
    )
