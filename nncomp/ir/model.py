"""What an ONNX model holds beside its graph, kept whole and written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


def _no_items() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Model-level fields.

    Attributes:
        ir_version: as read; the writer may lower or raise it.
        opsets: version by domain ("" is ONNX's own).
        functions: model-local functions by (domain, name, overload), each a serialized ``FunctionProto``.
        training_info, configuration: serialized messages, in order.
    """

    ir_version: int = 10
    opsets: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"": 21}))
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc: str = ""
    metadata: Mapping[str, str] = field(default_factory=_no_items)
    functions: Mapping[tuple[str, str, str], bytes] = field(default_factory=lambda: MappingProxyType({}))
    training_info: tuple[bytes, ...] = ()
    configuration: tuple[bytes, ...] = ()
