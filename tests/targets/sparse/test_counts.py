"""Access counts in closed form against an oracle that walks all loops, and against another simulator's counts.

``NNCOMP_ORACLE=6000 pytest tests/targets/sparse/test_counts.py`` walks as many random mappings.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from nncomp.ops import LoopNest
from nncomp_sparse.counts import Candidates, count
from nncomp_sparse.hardware import parse_hardware
from nncomp_sparse.mapping import Loop, Mapping
from nncomp_sparse.space import Space

_spec = importlib.util.spec_from_file_location("sparse_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

TENSORS = ["weight", "input", "output"]
NUMBER = int(os.environ.get("NNCOMP_ORACLE", "400"))
SHARES = 4


def random_machine(rng, depth):
    keeps = [[t for t in TENSORS if rng.random() < 0.75] or TENSORS for _ in range(1, depth)]
    levels = [{"name": "dram"}, *({"name": f"l{n}", "keeps": kept} for n, kept in enumerate(keeps))]
    everywhere = all(len(level.get("keeps", TENSORS)) == 3 for level in levels)
    policies = ["none", "broadcast", *(["union"] if everywhere else [])]
    multicast = {"weight": str(rng.choice(policies)), "input": str(rng.choice(policies))}
    return parse_hardware(
        {
            "name": "random",
            "clock_mhz": 1.0,
            "array": {"rows": 1, "cols": 1},
            "levels": levels,
            "multicast": {**multicast, "output": str(rng.choice(["none", "reduce"]))},
        }
    )


def plain(found):
    return {
        key: tuple(int(part[0]) for part in (one.reads, one.fills, one.updates, one.drains))
        for key, one in found.items()
    }


@pytest.mark.parametrize("share", range(SHARES))
def test_counts_are_those_of_walking_all_loops(share):
    for seed in range(share, NUMBER, SHARES):
        rng = np.random.default_rng(seed)
        space, mapping, machine = oracle.random_case(rng, random_machine, points=400)
        first_touch = bool(rng.random() < 0.5)
        found = count(space, Candidates.of(mapping, space), machine, first_touch=first_touch)
        assert plain(found) == oracle.walk(space, mapping, machine, first_touch=first_touch), (seed, mapping)


def test_many_mappings_at_once_are_counted_as_one_by_one():
    rng = np.random.default_rng(0)
    nest = LoopNest(outputs=8, inputs=4, spatial=(8, 8), kernel=(3, 3), strides=(2, 1), dilations=(1, 2))
    space, machine = Space.of(nest), random_machine(np.random.default_rng(3), 3)
    levels, spatial = (0, 0, 0, 1, 1, 1, 2, 2), (False, False, False, False, False, True, False, False)
    dims, bounds = rng.integers(0, 8, (50, 8)), rng.integers(1, 4, (50, 8))
    found = Candidates(levels, spatial, dims, bounds, len(space.dims))
    together = count(space, found, machine)
    for row in range(50):
        alone = count(space, Candidates.of(found.mapping(row), space), machine)
        assert {key: int(one.reads[row]) for key, one in together.items()} == {
            key: int(one.reads[0]) for key, one in alone.items()
        }


LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5"]


@pytest.mark.parametrize("layer", LAYERS)
def test_counts_of_eyeriss_on_alexnet_are_those_of_timeloop(layer, table):
    published = table("timeloop_eyeriss")
    levels = [
        {"name": "dram"},
        {"name": "glb", "keeps": ["input", "output"]},
        {"name": "ifmap", "keeps": ["input"], "per_pe": True},
        {"name": "weights", "keeps": ["weight"], "per_pe": True},
        {"name": "psum", "keeps": ["output"], "per_pe": True},
    ]
    machine = parse_hardware(
        {"name": "eyeriss", "clock_mhz": 200.0, "array": {"rows": 12, "cols": 14}, "levels": levels}
    )
    names = ["n", "g", "m", "c", "p0", "r0", "p1", "r1"]
    loops, sizes = [], [1] * len(names)
    for text in published["layers"][layer]["loops"]:
        level, _, rest = text.partition(":")
        where = max(rest.find("x"), rest.find(" "))
        dim, bound = names.index(rest[:where]), int(rest[where + 1 :])
        loops.append(Loop(dim, bound, int(level), spatial=rest[where] == "x"))
        sizes[dim] *= bound
    stride = published["stride"].get(layer, 1)
    space = Space.of(
        LoopNest(
            batch=sizes[0],
            outputs=sizes[2],
            inputs=sizes[3],
            spatial=(sizes[4], sizes[6]),
            kernel=(sizes[5], sizes[7]),
            strides=(stride, stride),
            dilations=(1, 1),
        )
    )
    mapping = Mapping(tuple(loops))
    found = count(space, Candidates.of(mapping, space), machine)
    for where, wanted in published["layers"][layer]["counts"].items():
        level, tensor = int(where.split()[0]), where.split()[1]
        one = found[level, tensor]
        mine = {name: int(getattr(one, name)[0]) // mapping.instances(level) for name in wanted}
        assert mine == wanted, where
