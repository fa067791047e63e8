"""The oracle: walks every iteration of every loop with sets of elements, and knows no formula."""

import itertools
from collections import defaultdict

import numpy as np

from nncomp_sparse.hardware import TENSORS


def elements(space, tensor, point_ranges):
    """The set of elements that a box touches; ``point_ranges`` holds the coordinates of each dim."""
    axes = []
    for axis in space.tensors[tensor]:
        places = {0}
        for dim, coefficient in axis:
            places = {place + coefficient * x for place in places for x in point_ranges[dim]}
        axes.append(places)
    return frozenset(itertools.product(*axes))


def walk(space, mapping, machine, *, first_touch=True):
    """Count as ``nncomp_sparse.counts.count`` does, by walking: {(level, tensor): (reads, fills, updates, drains)}."""
    loops, depth = mapping.loops, len(machine.levels)
    steps = []
    for place, loop in enumerate(loops):
        step = 1
        for other in loops[place + 1 :]:
            step *= other.bound if other.dim == loop.dim else 1
        steps.append(step)
    counts = {
        (number, tensor): [0, 0, 0, 0]
        for tensor in TENSORS
        for number, level in enumerate(machine.levels)
        if tensor in level.keeps
    }
    for tensor in TENSORS:
        keepers = [number for number, level in enumerate(machine.levels) if tensor in level.keeps]
        for parent, child in zip(keepers, [*keepers[1:], depth], strict=True):
            _between(space, loops, steps, machine, tensor, parent, child, counts, first_touch)
    return {key: tuple(value) for key, value in counts.items()}


def _between(space, loops, steps, machine, tensor, parent, child, counts, first_touch):
    depth = len(machine.levels)
    time = [place for place, loop in enumerate(loops) if loop.level < child and not loop.spatial]
    space_ = [place for place, loop in enumerate(loops) if loop.level < child and loop.spatial]
    inside = [place for place, loop in enumerate(loops) if loop.level >= child]
    relevant = space.relevant(tensor)
    policy = machine.multicast.output if tensor == "output" else getattr(machine.multicast, tensor)
    seen_by_parent, seen_by_child = defaultdict(set), defaultdict(set)
    held = {}
    last_union = defaultdict(frozenset)
    for now in itertools.product(*(range(loops[place].bound) for place in time)):
        deliveries = defaultdict(dict)  # parent instance -> key of those who share -> words
        unions = defaultdict(set)
        for here in itertools.product(*(range(loops[place].bound) for place in space_)):
            offset = [0] * len(space.dims)
            for place, index in [*zip(time, now, strict=True), *zip(space_, here, strict=True)]:
                offset[loops[place].dim] += index * steps[place]
            ranges = [{start} for start in offset]
            for place in inside:
                dim = loops[place].dim
                ranges[dim] = {x + i * steps[place] for x in ranges[dim] for i in range(loops[place].bound)}
            tile = elements(space, tensor, ranges)
            owner = tuple(i for place, i in zip(space_, here, strict=True) if loops[place].level < parent)
            share = tuple(
                i
                for place, i in zip(space_, here, strict=True)
                if loops[place].level >= parent and loops[place].dim in relevant
            )
            before = held.get(here, frozenset())
            new = tile if child == depth else tile - before
            held[here] = tile
            unions[owner] |= tile
            key = here if policy == "none" else share
            deliveries[owner].setdefault(key, []).append((here, new))
        for owner, shared in deliveries.items():
            for group in shared.values():
                here, new = group[0]
                assert all(other == new for _, other in group)
                if tensor == "output":
                    counts[parent, tensor][2] += len(new)
                    counts[parent, tensor][0] += len(new & seen_by_parent[owner])
                    seen_by_parent[owner] |= new
                elif policy != "union":
                    counts[parent, tensor][0] += len(new)
                if child < depth:
                    for here, new in group:
                        if tensor == "output":
                            counts[child, tensor][3] += len(new)
                            counts[child, tensor][1] += len(new if first_touch else new & seen_by_child[here])
                            seen_by_child[here] |= new
                        else:
                            counts[child, tensor][1] += len(new)
            if policy == "union":
                union = frozenset(unions[owner])
                fresh = union if child == depth else union - last_union[owner]
                counts[parent, tensor][0] += len(fresh)
                last_union[owner] = union
    return counts


def random_case(rng, make_machine, *, points=1500):
    """A random nest, machine and mapping whose walk is small."""
    from nncomp.ops import LoopNest
    from nncomp_sparse.mapping import Loop, Mapping
    from nncomp_sparse.space import Space

    while True:
        rank = int(rng.integers(0, 3))
        depth = int(rng.integers(2, 5))
        machine = make_machine(rng, depth)
        loops = []
        dims = 4 + 2 * rank
        for level in range(depth):
            here = [int(d) for d in rng.permutation(dims)[: rng.integers(0, 4)]]
            loops += [Loop(d, int(rng.integers(2, 4)), level) for d in here]
            if level < depth - 1 or rng.random() < 0.3:
                there = [int(d) for d in rng.permutation(dims)[: rng.integers(0, 3)]]
                loops += [Loop(d, int(rng.integers(2, 4)), level, spatial=True) for d in there]
        size = int(np.prod([loop.bound for loop in loops])) if loops else 1
        if size > points:
            continue
        mapping = Mapping(tuple(loops))
        sizes = [1] * dims
        for loop in loops:
            sizes[loop.dim] *= loop.bound
        nest = LoopNest(
            batch=sizes[0],
            groups=sizes[1],
            outputs=sizes[2],
            inputs=sizes[3],
            spatial=tuple(sizes[4::2]),
            kernel=tuple(sizes[5::2]),
            strides=tuple(int(s) for s in rng.integers(1, 5, rank)),
            dilations=tuple(int(s) for s in rng.integers(1, 4, rank)),
        )
        return Space.of(nest), mapping, machine
