"""Sizes that ops compute from shapes, as numbers and symbols."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp.testing import graph
from nncomp_tvm.kernels.extents import Open, Symbol, product, quotient
from nncomp_tvm.lowering.sizes import as_objects, computed_sizes

N, M = (Open(1, (Symbol(name, None),)) for name in "nm")


def computed(call, *inputs):
    """Return what ``call``, of inputs a, b, ..., makes of arrays of sizes, as a list or a number."""
    names = ", ".join(f"int64[] {letter}" for letter in "abcde"[: len(inputs)])
    op = graph(f"g ({names}) => (int64[] y) {{ y = {call} }}", opset=18).ops()[0]
    found = computed_sizes(op, [None if one is None else as_objects(np.asarray(one, object)) for one in inputs])
    return None if found is None else found.tolist()


def test_sizes_are_picked_joined_and_cut():
    assert computed("Gather (a, b)", [N, 3, M], 2) == M
    assert computed("Gather (a, b)", [N, 3, M], [0, -2]) == [N, 3]
    assert computed("Concat <axis = 0> (a, b)", [N], [4, M]) == [N, 4, M]
    assert computed("Slice (a, b, c)", [N, 3, M], [1], [9]) == [3, M]
    assert computed("Slice (a, b, c, d, e)", [N, 3, M], [0], [3], [0], [2]) == [N, M]
    assert computed("Unsqueeze (a, b)", N, [0]) == [N]
    assert computed("Squeeze (a, b)", [N], [0]) == N
    assert computed("Reshape (a, b)", N, [-1]) == [N]


def test_sizes_are_calculated_with():
    assert computed("Mul (a, b)", [N, 3], [M, 2]) == [N * M, 6]
    assert computed("Div (a, b)", N * 12, 4) == N * 3
    assert computed("Div (a, b)", -7, 2) == -3  # towards zero
    assert computed("ReduceProd <keepdims = 0> (a)", [N, 3, M]) == N * M * 3
    assert computed("Cast <to = 7> (a)", [N]) == [N]


def test_sizes_are_no_negative_numbers_so_they_differ_from_those():
    assert computed("Equal (a, b)", [N, -1], [-1, -1]) == [0, 1]
    assert computed("Where (a, b, c)", [0, 1], [7, 7], [N, M]) == [N, 7]


def test_what_is_not_certain_is_not_known():
    assert computed("Div (a, b)", N, 2) is None
    assert computed("Equal (a, b)", [N], [3]) is None
    assert computed("Equal (a, b)", [N], [M]) is None
    assert computed("Cast <to = 1> (a)", [N]) is None
    assert computed("Gather (a, b)", [N, 3], N) is None
    assert computed("Concat <axis = 0> (a, b)", [N], None) is None
    assert computed("Relu (a)", [N]) is None


def test_quotients_are_exact():
    assert quotient(product([N, 12, M]), N * 4) == M * 3
    assert quotient(N * 6, N * 2) == 3
    assert quotient(N, M) is None and quotient(N * 3, 2) is None and quotient(6, N) is None and quotient(N, 0) is None
