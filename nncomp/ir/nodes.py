"""Value and Op: the two kinds of node of the bipartite graph. Frozen for all but :class:`~nncomp.ir.graph.Graph`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from nncomp.ir.attributes import Attribute, AttributeValue
from nncomp.ir.tensors import Tensor
from nncomp.ir.types import Shape, TensorType, Type

if TYPE_CHECKING:
    from nncomp.ir.graph import Graph

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

set_field = object.__setattr__
"""How Graph, the one mutator, changes a frozen node. Not for anybody else."""


class _Frozen:
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} is changed through Graph only")


class Value(_Frozen):
    """One tensor, sequence or optional: a graph input, a constant, a capture, or an output of exactly one op.

    Compared by identity. Attributes:
        name: unique in its graph.
        type: None when unknown.
        const: the data of a constant, lazily read and never written to; None for anything computed or fed.
        default: for a graph input that the caller may leave out (an initializer that is also an input), its data.
        producer, index: the op that computes it and at which output, (None, 0) otherwise.
        doc, metadata: as in the file.
    """

    __slots__ = ("const", "default", "doc", "index", "metadata", "name", "producer", "type")

    name: str
    type: Type | None
    const: Tensor | None
    default: Tensor | None
    producer: Op | None
    index: int
    doc: str
    metadata: Mapping[str, str]

    def __init__(
        self,
        name: str,
        type: Type | None = None,
        *,
        const: Tensor | None = None,
        default: Tensor | None = None,
        doc: str = "",
        metadata: Mapping[str, str] = _EMPTY,
    ) -> None:
        set_field(self, "name", name)
        set_field(self, "type", type)
        set_field(self, "const", const)
        set_field(self, "default", default)
        set_field(self, "producer", None)
        set_field(self, "index", 0)
        set_field(self, "doc", doc)
        set_field(self, "metadata", metadata)

    @property
    def is_constant(self) -> bool:
        """True for an initializer that no caller can override."""
        return self.const is not None

    @property
    def tensor_type(self) -> TensorType | None:
        """The type, when it is known and a dense tensor's."""
        return self.type if isinstance(self.type, TensorType) else None

    @property
    def shape(self) -> Shape | None:
        """The tensor's shape; None when unknown, or no tensor."""
        return self.type.shape if isinstance(self.type, TensorType) else None

    def __repr__(self) -> str:
        return f"<Value {self.name}: {self.type}>"


class Op(_Frozen):
    """One operation. Compared by identity; optional inputs that are not given are None.

    Attributes:
        kind, domain, overload: which operator (``domain`` is "" for ONNX's own).
        inputs, outputs: values by slot.
        attrs: attributes by name, without subgraphs.
        bodies: subgraphs (of If, Loop, Scan, SequenceMap) by attribute name.
        name: may be empty, need not be unique.
        doc, metadata, devices: as in the file; ``devices`` are the node's device configurations, serialized.
    """

    __slots__ = (
        "attrs",
        "bodies",
        "devices",
        "doc",
        "domain",
        "inputs",
        "kind",
        "metadata",
        "name",
        "outputs",
        "overload",
    )

    kind: str
    domain: str
    overload: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Attribute]
    bodies: Mapping[str, Graph]
    name: str
    doc: str
    metadata: Mapping[str, str]
    devices: tuple[bytes, ...]

    def __init__(
        self,
        kind: str,
        inputs: tuple[Value | None, ...],
        outputs: tuple[Value, ...],
        *,
        attrs: Mapping[str, Attribute] = _EMPTY,
        bodies: Mapping[str, Graph] = _EMPTY,
        domain: str = "",
        overload: str = "",
        name: str = "",
        doc: str = "",
        metadata: Mapping[str, str] = _EMPTY,
        devices: tuple[bytes, ...] = (),
    ) -> None:
        set_field(self, "kind", kind)
        set_field(self, "inputs", inputs)
        set_field(self, "outputs", outputs)
        set_field(self, "attrs", attrs)
        set_field(self, "bodies", bodies)
        set_field(self, "domain", domain)
        set_field(self, "overload", overload)
        set_field(self, "name", name)
        set_field(self, "doc", doc)
        set_field(self, "metadata", metadata)
        set_field(self, "devices", devices)

    @property
    def output(self) -> Value:
        """The first output, which for most ops is the only one."""
        return self.outputs[0]

    @property
    def label(self) -> str:
        """What to call this op in a message: its name, else ``Kind(first output)``."""
        if self.name:
            return self.name
        return f"{self.kind}({self.outputs[0].name if self.outputs else ''})"

    def input(self, slot: int) -> Value | None:
        """The input at ``slot``, None when it is not given."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def attr(self, name: str, default: AttributeValue = None) -> Any:
        """The value of an attribute, ``default`` when it is not given."""
        found = self.attrs.get(name)
        return default if found is None else found.value

    def is_a(self, kind: str, domain: str = "") -> bool:
        """True for operator ``kind`` of ``domain``."""
        return self.kind == kind and self.domain == domain

    def __repr__(self) -> str:
        return f"<Op {self.label}: {self.domain + '.' if self.domain else ''}{self.kind}>"


class CaptureKey(NamedTuple):
    """Edge key of a value that a body of an op reads: the body's name, and the value that stands for it inside."""

    body: str
    inner: Value


class Use(NamedTuple):
    """One reading of a value: input ``slot`` of ``op``, or a capture by one of its bodies."""

    op: Op
    slot: int | CaptureKey
