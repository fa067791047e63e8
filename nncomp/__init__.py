"""nncomp: an optimization compiler for neural networks, made of plugins.

Names are imported on first use, so that ``nncomp --help`` loads neither onnxruntime nor networkx.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than Ctrl-C may take to be heard: see nncomp.cli
if TYPE_CHECKING:
    from typing import Any, Final

    from nncomp.compiler import Compiled as Compiled
    from nncomp.compiler import CompileRequest as CompileRequest
    from nncomp.compiler import CompileResult as CompileResult
    from nncomp.compiler import compile as compile
    from nncomp.compiler import compile_model as compile_model
    from nncomp.data import DataSource as DataSource
    from nncomp.hookspecs import API_VERSION as API_VERSION
    from nncomp.hookspecs import hookimpl as hookimpl
    from nncomp.ir import Attribute as Attribute
    from nncomp.ir import DataType as DataType
    from nncomp.ir import Graph as Graph
    from nncomp.ir import Op as Op
    from nncomp.ir import TensorType as TensorType
    from nncomp.ir import Value as Value
    from nncomp.onnx_io import load as load
    from nncomp.onnx_io import save as save
    from nncomp.ops import OpSemantics as OpSemantics
    from nncomp.ops import QuantRole as QuantRole
    from nncomp.ops import Role as Role
    from nncomp.options import option as option
    from nncomp.passes import Context as Context
    from nncomp.passes import Effect as Effect
    from nncomp.passes import Pass as Pass
    from nncomp.pipeline import Instrument as Instrument
    from nncomp.pipeline import Pipeline as Pipeline
    from nncomp.plugins import Registry as Registry
    from nncomp.targets import Artifact as Artifact
    from nncomp.targets import Capabilities as Capabilities
    from nncomp.targets import Measurement as Measurement
    from nncomp.targets import Target as Target
    from nncomp.targets import TargetOptions as TargetOptions
    from nncomp.text import parse_graph as parse_graph
    from nncomp.text import print_graph as print_graph

__version__: Final = "0.1.0"

_HOMES: Final[dict[str, str]] = {
    **dict.fromkeys(("Attribute", "DataType", "Graph", "Op", "TensorType", "Value"), "nncomp.ir"),
    **dict.fromkeys(("load", "save"), "nncomp.onnx_io"),
    **dict.fromkeys(("OpSemantics", "QuantRole", "Role"), "nncomp.ops"),
    **dict.fromkeys(("Context", "Effect", "Pass"), "nncomp.passes"),
    **dict.fromkeys(("Instrument", "Pipeline"), "nncomp.pipeline"),
    **dict.fromkeys(("API_VERSION", "hookimpl"), "nncomp.hookspecs"),
    **dict.fromkeys(("Artifact", "Capabilities", "Measurement", "Target", "TargetOptions"), "nncomp.targets"),
    **dict.fromkeys(("parse_graph", "print_graph"), "nncomp.text"),
    **dict.fromkeys(("CompileRequest", "CompileResult", "Compiled", "compile", "compile_model"), "nncomp.compiler"),
    "DataSource": "nncomp.data",
    "option": "nncomp.options",
    "Registry": "nncomp.plugins",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  the names above, all strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nncomp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
