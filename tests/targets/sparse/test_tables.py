"""Published tables of sparse machines: within the bounds that docs/accelerator.md states."""

import sys

import pytest

rows = sys.modules["sparse_rows"]  # which conftest.py loads

BOUNDS = {
    # table: mean error, largest error
    "Eyeriss active elements": (0, 0),
    "Eyeriss processing time, ms": (0.05, 0.06),
    "Eyeriss buffer traffic, MB": (0.005, 0.005),
    "Eyeriss DRAM traffic, MB": (0.05, 0.05),
    "Eyeriss DRAM compression": (0.05, 0.05),
    "Eyeriss power, mW": (0.03, 0.07),
    "Eyeriss on VGG-16, processing time, ms": (0.04, 0.18),
    "EIE time given the work, us": (0.04, 0.13),
    "EIE time from rounded densities, us": (0.08, 0.28),
    "SCNN speed-up over its dense twin": (0.06, 0.08),
    "Dual-side tensor core, relative time": (0.061, 0.12),
    "AlexNet energy relative to dense": (0.13, 0.15),
    "AlexNet energy, multiply-accumulates": (0.12, 0.19),
    "GoogLeNet energy, multiply-accumulates": (0.03, 0.03),
}


@pytest.mark.parametrize("source", ["eyeriss", "vgg", "eie", "scnn", "dual_side", "energy_aware", "energy_googlenet"])
def test_errors_are_within_the_stated_bounds(source):
    found = rows.summary(getattr(rows, source)())
    assert set(found) & set(BOUNDS)
    for table, (mean, largest) in found.items():
        if table in BOUNDS:
            assert (mean <= BOUNDS[table][0], largest <= BOUNDS[table][1]) == (True, True), (table, mean, largest)
