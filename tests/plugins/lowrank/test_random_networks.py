"""decompose on random small networks: the interface stays, budgets hold, and full ranks would have changed nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType, TensorType
from nncomp.passes import Context
from nncomp.runtime import run
from nncomp.verify import verify
from nncomp_lowrank.decompose import Decompose


@st.composite
def networks(draw):
    """Draw a chain of convolutions, some with a residual around them, and a product at the end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    net = nncomp.Graph("random")
    net.set_info(opsets={"": 17})
    channels = draw(st.sampled_from([4, 6, 8]))
    value = net.add_input("x", TensorType(DataType.FLOAT, ("N", channels, 8, 8)))

    def constant(*shape):
        return net.add_constant("k", rng.normal(0, 0.5, shape).astype(np.float32))

    for _ in range(draw(st.integers(1, 3))):
        group = draw(st.sampled_from([1, 1, 2]))
        out = draw(st.sampled_from([channels, 8]))
        kernel = draw(st.sampled_from([1, 3]))
        before, bias = value, [constant(out)] if draw(st.booleans()) else []
        weight = constant(out, channels // group, kernel, kernel)
        attrs = {"group": group, "pads": [kernel // 2] * 4}
        value = net.add_op("Conv", [value, weight, *bias], attrs=attrs).output
        if out == channels and draw(st.booleans()):
            value = net.add_op("Add", [value, before]).output
        if draw(st.booleans()):
            value = net.add_op("Relu", [value]).output
        channels = out
    value = net.add_op("GlobalAveragePool", [value]).output
    value = net.add_op("Flatten", [value]).output
    value = net.add_op("MatMul", [value, constant(channels, 6)]).output
    if draw(st.booleans()):
        value = net.add_op("Add", [value, constant(6)]).output
    net.set_outputs([value])
    return net


def macs(model):
    table, sized = Context().ops, model.clone()
    sized.set_type(sized.inputs[0], TensorType(DataType.FLOAT, (1, *sized.inputs[0].shape[1:])))
    infer_types(sized)
    return sum(table.cost(op, sized).macs for op in sized.ops() if op.kind in ("Conv", "MatMul"))


@given(networks(), st.sampled_from([0.9, 0.7]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_networks_keep_their_interface_and_meet_the_budget(before, share, with_data):
    infer_types(before)
    size = before.inputs[0].shape[1]
    feeds = [{"x": np.random.default_rng(k).normal(size=(1, size, 8, 8)).astype(np.float32)} for k in range(3)]
    after = before.clone()
    ctx = Context(data=FeedSource(feeds, after) if with_data else None)
    try:
        Decompose(macs=share, align=1, sensitivity=2, sweeps=1, forms=("svd", "svd-in", "spatial", "tucker")).run(
            after, ctx
        )
    except UnsupportedError as error:
        assert error.code == "NNC-M052"
        return
    verify(after)
    infer_types(after)
    assert [value.name for value in after.outputs] == [value.name for value in before.outputs]
    assert macs(after) <= share * macs(before) + 1
    found = run(after, feeds[0])
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in run(before, feeds[0]).items()
    }
    assert all(np.isfinite(array).all() for array in found.values())
