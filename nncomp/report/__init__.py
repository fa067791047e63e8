"""The before/after report: facts about graphs, accuracy against the original, and their JSON form."""

from nncomp.report.accuracy import Accuracy, OutputAccuracy, compare_runs
from nncomp.report.facts import (
    ModelFacts,
    kind_name,
    model_facts,
    parameter_count,
    peak_activation_bytes,
    sized_facts,
    with_shapes,
)
from nncomp.report.layers import Layer, LayerReport, Layers, LayerTime, find_layers, stored_weight
from nncomp.report.report import SCHEMA, NoteGroup, Report, Resources, Warned, grouped, plain
from nncomp.report.search import Candidate, SearchReport, Trial, with_frontier
from nncomp.report.spread import Spread, spread_of

__all__ = [
    "SCHEMA",
    "Accuracy",
    "Candidate",
    "Layer",
    "LayerReport",
    "LayerTime",
    "Layers",
    "ModelFacts",
    "NoteGroup",
    "OutputAccuracy",
    "Report",
    "Resources",
    "SearchReport",
    "Spread",
    "Trial",
    "Warned",
    "compare_runs",
    "find_layers",
    "grouped",
    "kind_name",
    "model_facts",
    "parameter_count",
    "peak_activation_bytes",
    "plain",
    "sized_facts",
    "spread_of",
    "stored_weight",
    "with_frontier",
    "with_shapes",
]
