from __future__ import annotations

import numpy as np
import pytest

from nncomp.errors import UsageError
from nncomp.testing import feeds, graph

TEXT = """
g (float[N,3] x, int64[2,M] i, bool b, float16[1] h, float[3] d = {1, 2, 3}) => (float[N,4] y)
<float[4,3] w, float[4] var, float[4] bn_var_1, int32[9] n, bool[64] flags, string[2] s, int2[8] j,
 bfloat16[4] scale, complex64[2] z>
{ y = Foo (x, w, var, bn_var_1, n, flags, s, j, scale, z) }
"""


def data(name: str, **kwargs: int) -> np.ndarray:
    g = graph(TEXT, **kwargs)
    array = g.array(g.find(name))
    assert array is not None
    return array


def test_constants_without_data_are_random_and_always_the_same() -> None:
    assert np.array_equal(data("w"), data("w"))
    assert not np.array_equal(data("w"), data("w", seed=1))
    assert 0 < np.abs(data("w")).max() < 3


def test_data_depends_on_the_name_only() -> None:
    other = graph("g () => (w) <float[2] first, float[4,3] w> { }")
    assert np.array_equal(data("w"), other.array(other.find("w")))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["var", "bn_var_1", "scale"])
def test_variances_and_scales_are_positive(name: str) -> None:
    assert (data(name).astype(np.float32) >= 0.5).all()


def test_integers_are_small_and_booleans_mixed() -> None:
    assert set(data("n").tolist()) <= {0, 1, 2}
    assert set(data("j").astype(int).tolist()) <= {0, 1}
    assert set(data("flags").tolist()) == {True, False}
    assert all(item in (b"s0", b"s1", b"s2") for item in data("s").tolist())
    assert data("z").dtype == np.complex64


def test_given_constants_are_taken() -> None:
    g = graph("g () => (w) <float[2] w> { }", constants={"w": np.array([1, 2], np.float32)})
    assert g.array(g.find("w")).tolist() == [1, 2]  # type: ignore[union-attr]


def test_a_header_is_added_when_there_is_none() -> None:
    g = graph("# a comment\ng (x) => (y) { y = my.domain.Foo (x) }", opset=13)
    assert g.info.ir_version == 10
    assert dict(g.opsets) == {"": 13, "my.domain": 1}
    g = graph('<ir_version: 9, opset_import: ["": 18]> g (x) => (y) { y = Foo (x) }', opset=13)
    assert g.info.ir_version == 9
    assert dict(g.opsets) == {"": 18}


def test_places_in_errors_are_those_of_the_text() -> None:
    with pytest.raises(UsageError) as caught:
        graph("g (x) => (y)\n{\n  y = Foo (x]\n}")
    assert str(caught.value) == "graph text, line 3, column 13: expected character ) not found"


def test_feeds_fit_the_inputs() -> None:
    found = feeds(graph(TEXT), dims={"M": 5}, batch=3)
    assert {name: (str(array.dtype), array.shape) for name, array in found.items()} == {
        "x": ("float32", (3, 3)),
        "i": ("int64", (2, 5)),
        "b": ("bool", ()),
        "h": ("float16", (1,)),
    }
    assert set(found["i"].reshape(-1).tolist()) <= {0, 1}
    assert all(np.array_equal(array, feeds(graph(TEXT), dims={"M": 5}, batch=3)[name]) for name, array in found.items())
    assert feeds(graph(TEXT))["x"].shape == (2, 3)
