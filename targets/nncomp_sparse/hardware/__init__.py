"""Machines: their schema, and presets that come with nncomp."""

from nncomp_sparse.hardware.loading import PRESETS, load_hardware, parse_hardware, preset_names
from nncomp_sparse.hardware.schema import TENSORS, Format, Hardware, Level

__all__ = ["PRESETS", "TENSORS", "Format", "Hardware", "Level", "load_hardware", "parse_hardware", "preset_names"]
