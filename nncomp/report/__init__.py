"""The before/after report: facts about graphs, accuracy against the original, and their JSON form."""

from nncomp.report.accuracy import Accuracy, OutputAccuracy, compare_runs
from nncomp.report.facts import ModelFacts, kind_name, model_facts, parameter_count, peak_activation_bytes, with_shapes
from nncomp.report.report import SCHEMA, NoteGroup, Report, Resources, Warned, grouped, plain
from nncomp.report.search import Candidate, SearchReport, Trial, with_frontier

__all__ = [
    "SCHEMA",
    "Accuracy",
    "Candidate",
    "ModelFacts",
    "NoteGroup",
    "OutputAccuracy",
    "Report",
    "Resources",
    "SearchReport",
    "Trial",
    "Warned",
    "compare_runs",
    "grouped",
    "kind_name",
    "model_facts",
    "parameter_count",
    "peak_activation_bytes",
    "plain",
    "with_frontier",
    "with_shapes",
]
