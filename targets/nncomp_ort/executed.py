"""The graph that ONNX Runtime really executes: read back after all its rewriting, and told apart by arithmetic."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.onnx_io import fits_one_message, save, to_bytes
from nncomp.runtime import import_onnxruntime, session_options

INTEGER_COMPUTE: Final = frozenset(
    {
        "QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger",
        "ConvInteger", "QAttention", "DynamicQuantizeLSTM", "MatMulNBits",
    }
)  # fmt: skip
"""Kernels with integer multiply-accumulates (MatMulNBits: integer weights)."""

FLOAT_COMPUTE: Final = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "LSTM", "GRU",
     "RNN", "Attention", "MultiHeadAttention"}
)  # fmt: skip
"""Kernels with float multiply-accumulates."""

_GLUE: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"})
_FLOAT_RESULT: Final = frozenset({"DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"})
_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QGemm"})
_QGEMM_SCALE: Final = 7
"""Input of QGemm that holds the scale of its output."""

_SHAPES: Final = frozenset({"Shape", "Size"})

_SMALL: Final = 1 << 26
"""Bytes of a model whose copies do not matter."""


@dataclass(frozen=True, slots=True)
class Island:
    """A float kernel that multiplies and accumulates in a graph that should be integer.

    Attributes:
        node: what the model calls its op; the kernel's own name where no op is known.
        kind: kernel.
        cause: why it is float.
    """

    node: str
    kind: str
    cause: str


@dataclass(frozen=True, slots=True)
class Executed:
    """What ONNX Runtime executes.

    Attributes:
        kernels: count by kind, bodies included.
        integer: compute kernels in integers.
        islands: compute kernels in float.
        other_float: float kernels beside them that work on activations, by kind.
    """

    kernels: Mapping[str, int]
    integer: int
    islands: tuple[Island, ...]
    other_float: Mapping[str, int]

    @property
    def coverage(self) -> float:
        """Share of the compute kernels that are integer, 0 to 1; 1 when there is none."""
        total = self.integer + len(self.islands)
        return self.integer / total if total else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "int8_coverage": round(self.coverage, 4),
            "integer_kernels": self.integer,
            "float_islands": [
                {"node": island.node, "kind": island.kind, "cause": island.cause} for island in self.islands
            ],
            "other_float_kernels": dict(self.other_float),
            "kernels": dict(self.kernels),
        }


def executed_graph(model: bytes | Path, *, threads: int = 1) -> ModelProto:
    """Load a model with all of ONNX Runtime's rewriting and return the graph it ends with, without weights.

    Raises:
        UnsupportedError: ONNX Runtime refuses the model (NNC-T002).
    """
    ort = import_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="nncomp-") as folder:
        path = Path(folder) / "executed.onnx"
        options = session_options(threads=threads)
        options.optimized_model_filepath = str(path)
        # Weights go to a file of their own, which is never read back.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
        source = model if isinstance(model, bytes) else str(model)
        try:
            ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise UnsupportedError(f"onnxruntime refuses the model: {str(error).strip().splitlines()[0]}") from error
        return onnx.load(str(path), load_external_data=False)


def executed_of(graph: Graph) -> ModelProto:
    """Return :func:`executed_graph` of a graph.

    Raises:
        UnsupportedError: ONNX Runtime refuses it (NNC-T002).
    """
    with tempfile.TemporaryDirectory(prefix="nncomp-") as folder:
        return executed_graph(loadable(graph, Path(folder)))


def loadable(graph: Graph, folder: Path) -> bytes | Path:
    """Return what ONNX Runtime loads: a message, or a file in ``folder`` with weights beside it, which are mapped.

    A message would be in memory twice beside the weights, as bytes and parsed.
    """
    if fits_one_message(graph, _SMALL):
        return to_bytes(graph)
    return save(graph, folder / "model.onnx", protobuf_limit=_SMALL)[0]


def read_executed(
    model: ModelProto, causes: Mapping[str, str], kinds: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> Executed:
    """Sort the kernels of an executed graph.

    Args:
        model: From :func:`executed_graph`.
        causes: Why an op was left float, by node name or by first output's name.
        kinds: Why ops of a kind have no integer kernel.
        labels: What the model calls an op, by the same names.
    """
    nodes = list(_all_nodes(model.graph))
    islands = []
    others: Counter[str] = Counter()
    integer = 0
    not_float = values_that_are_not_float(model.graph)
    for node in nodes:
        if node.op_type in INTEGER_COMPUTE:
            integer += 1
        elif node.op_type in FLOAT_COMPUTE:
            own = (labels[name] for name in _names(node) if labels and name in labels)
            label = next(own, node.name or node.output[0])
            islands.append(Island(label, node.op_type, _cause(node, causes, kinds)))
        elif node.op_type not in _GLUE and not node.op_type.startswith("QLinear"):
            others[node.op_type] += not set(node.output) <= not_float
    counts = Counter(node.op_type for node in nodes)
    return Executed(dict(counts.most_common()), integer, tuple(islands), dict((+others).most_common()))


def values_that_are_not_float(graph: GraphProto) -> set[str]:
    """Follow integers (and shapes) through the ops that keep their element type, from where they arise."""
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    typed = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.value_info)}
    typed |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = {name for name, dtype in typed.items() if dtype not in floats}
    for node in graph.node:
        if node.op_type in _FLOAT_RESULT:
            continue
        casts = next((attr.i for attr in node.attribute if attr.name == "to"), None) if node.op_type == "Cast" else None
        keeps = bool(node.input) and node.input[0] in found and casts is None
        arises = node.op_type in _QUANTIZERS | _SHAPES or node.op_type.startswith("QLinear")
        if node.op_type == "QGemm" and not any(node.input[_QGEMM_SCALE : _QGEMM_SCALE + 1]):
            continue  # without the scale of its output it gives floats
        if keeps or arises or (casts is not None and casts not in floats):
            found.update(node.output)
    return found


def _cause(node: NodeProto, causes: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    for name in _names(node):
        if name and name in causes:
            return causes[name]
    return kinds.get(node.op_type, "onnxruntime chose the float kernel: no integer pattern matched")


def _names(node: NodeProto) -> tuple[str, ...]:
    """Return what a kernel may be known by: ONNX Runtime adds to names when it fuses, or changes the layout."""
    plain = node.name.removeprefix("fused ").removesuffix("_nchwc").partition("/MatMul")[0]
    return (node.name, plain, *node.output)


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attr.g)
