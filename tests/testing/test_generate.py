"""Generated graphs: ONNX Runtime can load them, whatever the version and the element type."""

from hypothesis import given, settings

from nncomp.ir import DataType
from nncomp.runtime import Session
from nncomp.testing.generate import graphs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(graphs(opsets=(10, 11, 12), dtypes=(DataType.DOUBLE,)))
def test_float64_is_drawn_only_where_onnx_runtime_has_it(graph):
    Session(graph)  # it raises where there is no kernel
