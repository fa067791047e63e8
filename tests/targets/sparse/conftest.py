"""What the tests of target ``sparse`` share: published tables, and machines made up for a test."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from nncomp_sparse.hardware import parse_hardware

_spec = importlib.util.spec_from_file_location("sparse_rows", Path(__file__).with_name("rows.py"))
rows = importlib.util.module_from_spec(_spec)
sys.modules["sparse_rows"] = rows
_spec.loader.exec_module(rows)

TABLES = Path(__file__).parent / "tables"
TENSORS = ["weight", "input", "output"]


@pytest.fixture(scope="session")
def table():
    """Return a published table by name."""
    return lambda name: json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def machine():
    """Return a small machine with some fields changed."""

    def make(**changes):
        plain = {
            "name": "small",
            "clock_mhz": 100.0,
            "array": {"rows": 4, "cols": 4},
            "levels": [
                {"name": "dram", "off_chip": True, "gb_per_s": 1.0},
                {"name": "glb", "kb": 8.0},
                {"name": "rf", "per_pe": True, "words": {"weight": 16, "input": 8, "output": 8}},
            ],
        }
        return parse_hardware(plain | changes)

    return make


@pytest.fixture(scope="session")
def conv():
    """Return the nest of a square convolution; ``padded`` is the size of its input, padding included."""

    def make(outputs, inputs, size, kernel, *, stride=1, batch=1, groups=1, padded=None):
        return rows.square(groups, outputs, inputs, padded or size * stride, size, kernel, stride, batch=batch)

    return make
