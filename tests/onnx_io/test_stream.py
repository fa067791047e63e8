"""Messages that are written piece by piece are what protobuf would have written."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.ir import ArrayTensor, DataType, Scratch
from nncomp.onnx_io import load, save, to_bytes
from nncomp.testing import graph


@given(st.lists(st.integers(0, 3000), max_size=6), st.booleans())
def test_the_bytes_are_protobuf_s_own(tmp_path_factory, sizes, documented):
    g = graph("g (float[2] x) => (float[2] y) { y = Identity (x) }")
    for size in sizes:
        tensor = ArrayTensor(np.arange(size, dtype=np.float32), name="inner", doc="what it is" * documented)
        g.add_constant("w", tensor)
    g.set_outputs([*g.outputs, *g.constants()])
    path = tmp_path_factory.mktemp("stream") / "model.onnx"
    assert save(g, path) == (path,)
    assert path.read_bytes() == to_bytes(g)


def test_weights_of_bodies_inputs_and_bits_are_written_too(tmp_path):
    g = graph(
        """
        g (bool c, float[1000] d) => (float[1000] y)
        { y = If (c) <
             then_branch = then () => (float[1000] a) <float[1000] v> { a = Identity (v) },
             else_branch = else () => (float[1000] b) { b = Identity (d) }
          > }
        """
    )
    packed = g.add_constant("packed", ArrayTensor(np.arange(5000, dtype=np.uint8) & 15, DataType.UINT4))
    g.set_outputs([*g.outputs, packed])
    save(g, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == to_bytes(g)


@pytest.mark.parametrize("limit", [1 << 20, 1 << 31], ids=["external", "one message"])
def test_saving_costs_no_copy_of_a_weight(tmp_path, limit):
    g = graph("g (float[2] x) => (float[2] y) { y = Identity (x) }")
    scratch = Scratch()
    outputs = [g.add_constant("w", scratch.keep(np.full(1 << 21, i, np.float32))) for i in range(4)]
    g.set_outputs([*g.outputs, *outputs])
    tracemalloc.start()
    files = save(g, tmp_path / "model.onnx", protobuf_limit=limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == (2 if limit == 1 << 20 else 1)
    assert peak < 1 << 20  # a weight has 8 MiB
    again = load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(again.array(again.outputs[3]), np.full(1 << 21, 2, np.float32))
