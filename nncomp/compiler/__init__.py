"""The driver that the command line and Python share: a request in, files and a report out."""

from nncomp.compiler.api import Compiled, compile
from nncomp.compiler.driver import compile_model, saved
from nncomp.compiler.loading import freeze_defaults, model_files, total_bytes
from nncomp.compiler.request import BudgetMissedError, CompilePlan, CompileRequest, CompileResult, PlannedPass

__all__ = [
    "BudgetMissedError",
    "CompilePlan",
    "CompileRequest",
    "CompileResult",
    "Compiled",
    "PlannedPass",
    "compile",
    "compile_model",
    "freeze_defaults",
    "model_files",
    "saved",
    "total_bytes",
]
