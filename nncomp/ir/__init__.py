"""The intermediate representation: a graph of frozen Ops and Values on networkx."""

from nncomp.ir.attributes import Attribute, attribute
from nncomp.ir.dtypes import AttributeType, DataType
from nncomp.ir.graph import Graph, Node
from nncomp.ir.mapped import MappedTensor, Scratch, raw_bytes
from nncomp.ir.model import ModelInfo
from nncomp.ir.nodes import CaptureKey, Op, Use, Value
from nncomp.ir.tensors import ArrayTensor, Tensor, string_tensor, tensor
from nncomp.ir.types import (
    Dim,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)

__all__ = [
    "ArrayTensor",
    "Attribute",
    "AttributeType",
    "CaptureKey",
    "DataType",
    "Dim",
    "Graph",
    "MapType",
    "MappedTensor",
    "ModelInfo",
    "Node",
    "Op",
    "OpaqueType",
    "OptionalType",
    "Scratch",
    "SequenceType",
    "Shape",
    "SparseTensorType",
    "Tensor",
    "TensorType",
    "Type",
    "Use",
    "Value",
    "attribute",
    "raw_bytes",
    "string_tensor",
    "tensor",
]
