"""Published tables of sparse machines: within the bounds that docs/accelerator.md states."""

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("sparse_rows", Path(__file__).with_name("rows.py"))
rows = importlib.util.module_from_spec(_spec)
sys.modules["sparse_rows"] = rows
_spec.loader.exec_module(rows)

BOUNDS = {
    # table: mean error, largest error
    "Eyeriss active elements": (0, 0),
    "Eyeriss processing time, ms": (0.05, 0.06),
    "Eyeriss buffer traffic, MB": (0.005, 0.005),
    "Eyeriss DRAM traffic, MB": (0.05, 0.05),
    "Eyeriss DRAM compression": (0.05, 0.05),
    "Eyeriss power, mW": (0.03, 0.07),
    "EIE time given the work, us": (0.04, 0.13),
    "EIE time from rounded densities, us": (0.09, 0.28),
    "SCNN speed-up over its dense twin": (0.06, 0.08),
    "Dual-side tensor core, relative time": (0.061, 0.12),
    "AlexNet energy relative to dense": (0.05, 0.12),
}


@pytest.mark.parametrize("source", ["eyeriss", "eie", "scnn", "dual_side", "energy_aware"])
def test_errors_are_within_the_stated_bounds(source):
    found = rows.summary(getattr(rows, source)())
    assert set(found) & set(BOUNDS)
    for table, (mean, largest) in found.items():
        if table in BOUNDS:
            assert (mean <= BOUNDS[table][0], largest <= BOUNDS[table][1]) == (True, True), (table, mean, largest)
