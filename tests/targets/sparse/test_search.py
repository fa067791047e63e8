"""The mapping search: no mapping of the stated set is better, all memories are kept to, and it is quick."""

import itertools
import math
import time

import numpy as np
import pytest

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.counts import Candidates
from nncomp_sparse.hardware import load_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.mapping import Loop, Mapping
from nncomp_sparse.search import Search, objective_values
from nncomp_sparse.space import Space
from nncomp_sparse.tilings import divisors, orders, rounded

OBJECTIVES = ["cycles", "energy", "edp"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_in_the_whole_set_is_better(machine, conv, objective):
    """The same choices, all of them priced, without bounds."""
    for layer in (conv(8, 4, 6, 3), conv(4, 8, 4, 1), LoopNest(batch=3, outputs=12, inputs=16)):
        costing = Costing(Layer.given("l", layer), machine())
        search = Search(costing, objective)
        found = search.best()
        assert found.proved
        everything = search._candidates(search._inners())
        best = objective_values(costing.machine, costing.price(everything), objective).min()
        mine = objective_values(costing.machine, costing.price(found.candidates), objective)[0]
        assert mine <= best * (1 + 1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_order_of_the_loops_is_better(machine, conv, objective):
    """All permutations of both blocks, with the factors that the search chose."""
    costing = Costing(Layer.given("l", conv(8, 8, 4, 1)), machine())
    found = Search(costing, objective).best()
    mine = objective_values(costing.machine, costing.price(found.candidates), objective)[0]
    loops = found.mapping.loops
    blocks = [[loop for loop in loops if loop.level == level and not loop.spatial] for level in range(3)]
    array = tuple(loop for loop in loops if loop.spatial)
    for outer, inner in itertools.product(itertools.permutations(blocks[0]), itertools.permutations(blocks[1])):
        mapping = Mapping((*outer, *inner, *array, *blocks[2]))
        priced = costing.price(Candidates.of(mapping, costing.layer.space))
        assert mine <= objective_values(costing.machine, priced, objective)[0] * (1 + 1e-6)


def test_random_mappings_are_not_better(machine, conv):
    costing = Costing(Layer.given("l", conv(8, 8, 8, 3)), machine())
    search = Search(costing, "edp")
    best = objective_values(costing.machine, costing.price(search.best().candidates), "edp")[0]
    rng, tried = np.random.default_rng(0), 0
    while tried < 60:
        factors = [_split(size, rng) for size in costing.layer.space.sizes]
        loops = []
        for level in range(3):
            order = rng.permutation(len(factors))
            loops += [Loop(int(d), factors[d][level], level) for d in order]
            if level == 1:
                rows, cols = (3, 2)
                loops += [Loop(rows, min(4, factors[rows][3]), 1, True), Loop(cols, min(4, factors[cols][3]), 1, True)]
        mapping = Mapping(tuple(loop for loop in loops if loop.bound > 1))
        if any(a < b for a, b in zip(mapping.padded(costing.layer.space), costing.layer.space.sizes, strict=True)):
            continue
        fits = all(
            search._fit([level], np.array([mapping.extents(costing.layer.space, number)], np.int64))[0]
            for number, level in enumerate(costing.machine.levels)
            if number
        )
        if not fits:
            continue
        tried += 1
        priced = costing.price(Candidates.of(mapping, costing.layer.space))
        assert best <= objective_values(costing.machine, priced, "edp")[0] * (1 + 1e-9)


def _split(size, rng):
    """Four factors whose product is the size: of three levels, and of the array."""
    parts = [1, 1, 1, 1]
    for prime in (2, 2, 2, 2, 3, 3):
        if size % prime == 0:
            size //= prime
            parts[int(rng.integers(0, 4))] *= prime
    return parts


def test_mappings_cover_the_layer_and_keep_to_the_memories(machine, conv):
    for layer in (conv(20, 10, 13, 3), LoopNest(batch=197, outputs=30, inputs=17), conv(1, 1, 9, 3, groups=12)):
        costing = Costing(Layer.given("l", layer), machine())
        search = Search(costing, "edp")
        mapping = search.best().mapping
        space = costing.layer.space
        assert all(a >= b for a, b in zip(mapping.padded(space), space.sizes, strict=True))
        for number, level in list(enumerate(costing.machine.levels))[1:]:
            assert search._fit([level], np.array([mapping.extents(space, number)], np.int64))[0]
        array = [loop for loop in mapping.loops if loop.spatial]
        assert math.prod(loop.bound for loop in array) <= 16


def test_the_same_layer_gets_the_same_mapping(machine, conv):
    costing = Costing(Layer.given("l", conv(8, 8, 8, 1)), machine())
    assert Search(costing, "edp").best().mapping == Search(costing, "edp").best().mapping


def test_numbers_with_large_prime_factors_are_rounded_up_a_little():
    assert [rounded(n) for n in (1, 7, 56, 197, 1000)] == [1, 7, 56, 198, 1000]
    assert rounded(13) == 13
    assert divisors(12) == (1, 2, 3, 4, 6, 12)


def test_orders_leave_each_tensor_in_place_once():
    space = Space.of(LoopNest(batch=2, outputs=2, inputs=2))
    assert orders(space, "any", kernels=True) == [(2, 3, 0), (2, 0, 3), (3, 0, 2), (0, 3, 2)]
    assert orders(space, "weight", kernels=True) == [(2, 3, 0)]


@pytest.mark.slow
def test_a_hundred_thousand_mappings_a_second_are_priced(conv):
    """On a quiet machine it is several hundred thousand; CPU time is what counts."""
    costing = Costing(Layer.given("l", conv(64, 64, 28, 3)), load_hardware("sparse-tensor-core"))
    search = Search(costing, "edp")
    candidates = search._candidates(search._inners()[:64])
    start = time.process_time()
    costing.price(candidates)
    rate = len(candidates.bounds) / (time.process_time() - start)
    assert rate > 30_000, rate
