"""Removal: what is left computes what the masked network computes."""

import numpy as np
import pytest

from nncomp.axes import analyse, check_removal, masked, remove, remove_checked
from nncomp.errors import GateError, UnsupportedError
from nncomp.testing import assert_same_function, graph

TWO_CONVS = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w1, float[4] s, float[4] b, float[4] mean, float[4] var, float[6,4,1,1] w2, float[5,6] w3, float[5] b3>
{
   c1 = Conv (x, w1)
   n1 = BatchNormalization (c1, s, b, mean, var)
   r1 = Relu (n1)
   c2 = Conv (r1, w2)
   p = GlobalAveragePool (c2)
   f = Flatten (p)
   y = Gemm <transB = 1> (f, w3, b3)
}
"""


def test_the_channels_between_two_layers_are_one_dimension() -> None:
    found = analyse(graph(TWO_CONVS))
    assert [(one.name, len(one)) for one in found.dimensions] == [("c1[1]", 4), ("c2[1]", 6)]
    assert [(member.value.name, member.axis) for member in found.dimensions[0].constants] == [
        ("w1", 0), ("s", 0), ("b", 0), ("mean", 0), ("var", 0), ("w2", 1),
    ]  # fmt: skip


def test_removed_channels_leave_every_tensor() -> None:
    model = graph(TWO_CONVS)
    found = analyse(model)
    atoms = np.concatenate([found.dimensions[0].atoms[[0, 2]], found.dimensions[1].atoms[:3]])
    reference = masked(found, atoms)
    params, macs = found.params(atoms), found.macs(atoms)
    remove(found, atoms)
    assert model.find("w2").shape == (3, 2, 1, 1)
    assert_same_function(reference, model, rtol=1e-6, atol=1e-6)
    after = analyse(model)
    assert (after.params(), after.macs()) == (params, macs)


def test_the_gate_accepts_an_exact_removal() -> None:
    found = analyse(graph(TWO_CONVS))
    deviation = remove_checked(found, found.dimensions[1].atoms[:2])
    assert deviation is not None and deviation.relative < 1e-6


def test_nothing_may_become_empty() -> None:
    found = analyse(graph(TWO_CONVS))
    with pytest.raises(UnsupportedError, match=r"^nothing would be left of axis 0 of 'w1'$"):
        remove(found, found.dimensions[0].atoms)


LSTM = """
g (float[3,2,4] x) => (float[2,5] z)
<float[1,24,4] w, float[1,24,6] r, float[6,5] v, int64[1] last = {-1}, int64[1] axis = {0}, int64[2] rows = {2, 6}>
{
   y, h = LSTM <hidden_size = 6> (x, w, r)
   m = Reshape (h, rows)
   z = MatMul (m, v)
}
"""


def test_a_recurrent_layer_is_two_products() -> None:
    model = graph(LSTM)
    found = analyse(model)
    atoms = found.dimensions[0].atoms[:2]
    predicted = found.params(atoms), found.macs(atoms)
    assert remove_checked(found, atoms) is not None
    after = analyse(model)
    assert (after.params(), after.macs()) == predicted
    assert model.find("h").producer is not None and model.find("h").producer.attr("hidden_size") == 4


SHARED_BIAS = """
g (float[2,3,4,4] x) => (float[2,3,4,4] y) <float[4,3,1,1] w1, float[4,4,1,1] w2, float[3,4,1,1] w3, float[4] b>
{ a = Conv (x, w1, b) c = Conv (a, w2, b) y = Conv (c, w3) }
"""


def test_layers_that_share_a_bias_are_pruned_apart() -> None:
    model = graph(SHARED_BIAS)
    found = analyse(model)
    assert [len(one) for one in found.dimensions] == [4, 4]
    atoms = np.concatenate([found.dimensions[0].atoms[:1], found.dimensions[1].atoms[2:]])
    assert remove_checked(found, atoms) is not None
    assert model.find("w2").shape == (2, 3, 1, 1)


def test_the_masked_network_is_another_one() -> None:
    model = graph(TWO_CONVS)
    found = analyse(model)
    with pytest.raises(AssertionError, match="results differ"):
        assert_same_function(model, masked(found, found.dimensions[0].atoms[:1]))


def test_a_graph_that_changed_is_analysed_again() -> None:
    model = graph(TWO_CONVS)
    found = analyse(model)
    model.set_name(model.ops()[0], "other")
    with pytest.raises(UnsupportedError) as caught:
        remove(found, found.dimensions[0].atoms[:1])
    assert caught.value.message == "the graph has changed since its axes were analysed"
    with pytest.raises(UnsupportedError) as caught:
        found.params([0])
    assert caught.value.message == f"atoms to remove must lie in 1 ... {found.count}"


def test_a_wrong_removal_is_caught() -> None:
    model = graph(TWO_CONVS)
    found = analyse(model)
    reference = masked(found, found.dimensions[0].atoms[:1])
    remove(found, found.dimensions[0].atoms[1:2])
    with pytest.raises(GateError, match="the pruned network differs from its masked reference by"):
        check_removal(reference, model)
