"""ONNX files and messages, and graphs."""

from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.files import PROTOBUF_LIMIT, fits_one_message, from_bytes, load, save, to_bytes, write_atomically
from nncomp.onnx_io.reader import graph_from_proto, normal_domain
from nncomp.onnx_io.settled import load_parts, save_parts, settled
from nncomp.onnx_io.writer import graph_to_proto, needed_ir_version

__all__ = [
    "PROTOBUF_LIMIT",
    "ExternalFiles",
    "fits_one_message",
    "from_bytes",
    "graph_from_proto",
    "graph_to_proto",
    "load",
    "load_parts",
    "needed_ir_version",
    "normal_domain",
    "save",
    "save_parts",
    "settled",
    "to_bytes",
    "write_atomically",
]
