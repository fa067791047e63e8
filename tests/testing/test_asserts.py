from __future__ import annotations

import numpy as np
import pytest

from nncomp.testing import assert_same_function, assert_text, graph

TEXT = "g (float[N,3] x) => (float[N,3] y, float[N,3] z) <float[3] k = {1, 2, 3}> { y = Add (x, k) z = Log (x) }"


def test_a_graph_does_what_its_clone_does_and_nan_equals_nan() -> None:
    g = graph(TEXT)
    feeds = {"x": np.array([[-1, 0, 1]], np.float32)}  # the logarithm gives nan, -inf, 0
    assert_same_function(g, g.clone(), exact=True, feeds=feeds)
    assert_same_function(g, g.clone())


def test_results_within_tolerance_are_the_same_but_not_exactly() -> None:
    a, b = graph(TEXT), graph(TEXT.replace("{1, 2, 3}", "{1, 2.00001, 3}"))
    feeds = {"x": np.zeros((1, 3), np.float32)}
    assert_same_function(a, b, feeds=feeds)
    with pytest.raises(AssertionError) as caught:
        assert_same_function(a, b, feeds=feeds, exact=True)
    assert str(caught.value) == (
        "results differ:\n"
        "output 'y': 1 of 3 elements differ by up to 1e-05; the first at [0, 1]: 2.0000100135803223, expected 2.0"
    )


def test_zeros_of_different_sign_are_not_exactly_the_same() -> None:
    a = graph("g (float[1] x) => (float[1] y) <float[1] k = {0}> { y = Mul (x, k) }")
    b = graph("g (float[1] x) => (float[1] y) <float[1] k = {-0.0}> { y = Mul (x, k) }")
    feeds = {"x": np.ones(1, np.float32)}
    assert_same_function(a, b, feeds=feeds)
    with pytest.raises(AssertionError) as caught:
        assert_same_function(a, b, feeds=feeds, exact=True)
    assert str(caught.value) == (
        "results differ:\noutput 'y': 1 of 1 elements differ by up to 0; the first at [0]: -0.0, expected 0.0"
    )


def test_other_shapes_and_types_are_named() -> None:
    a = graph("g (float[2,3] x) => (y, z) { y = Identity (x) z = Identity (x) }")
    b = graph("g (float[2,3] x) => (y, z) { y = Transpose (x) z = Cast <to = 11> (x) }")
    with pytest.raises(AssertionError) as caught:
        assert_same_function(a, b)
    assert str(caught.value) == (
        "results differ:\n"
        "output 'y' is float32[3, 2], expected float32[2, 3]\n"
        "output 'z' is float64[2, 3], expected float32[2, 3]"
    )


def test_sequences_are_compared_by_element() -> None:
    text = "g (float[2] x) => (seq(float[2]) s) { n = Neg (x) s = SequenceConstruct (x, n) }"
    feeds = {"x": np.ones(2, np.float32)}
    assert_same_function(graph(text), graph(text), feeds=feeds)
    with pytest.raises(AssertionError) as caught:
        assert_same_function(graph(text), graph(text.replace("Neg", "Identity")), feeds=feeds)
    assert str(caught.value) == (
        "results differ:\noutput 's'[1]: 2 of 2 elements differ by up to 2; the first at [0]: 1.0, expected -1.0"
    )
    with pytest.raises(AssertionError) as caught:
        assert_same_function(graph(text), graph(text.replace("(x, n)", "(x)")), feeds=feeds)
    assert str(caught.value) == "results differ:\noutput 's' has 1 elements, expected 2"


def test_another_interface_is_refused_before_anything_runs() -> None:
    a = graph(TEXT)
    b = graph(TEXT.replace("float[N,3] x", "float[M,3] x").replace("float[N,3] y", "float[N,4] y"))
    with pytest.raises(AssertionError) as caught:
        assert_same_function(a, b)
    assert str(caught.value) == (
        "interfaces differ:\n"
        "input 'x' is float[M,3], expected float[N,3]\n"
        "output 'y' is float[N,4], expected float[N,3]"
    )
    with pytest.raises(AssertionError) as caught:
        assert_same_function(a, graph("g (float[N,3] x) => (float[N,3] y) { y = Neg (x) }"))
    assert str(caught.value) == "interfaces differ:\noutputs are ['y'], expected ['y', 'z']"


def test_an_output_may_have_a_type_that_says_less() -> None:
    assert_same_function(graph(TEXT), graph(TEXT.replace("float[N,3] y", "float[] y").replace("float[N,3] z", "z")))


def test_text_is_compared_without_white_space_comments_and_header() -> None:
    g = graph(TEXT)
    assert_text(g, TEXT)
    assert_text(g, "# why\n" + TEXT.replace(" ", "\n"))
    assert_text(g, f'<ir_version: 3, opset_import: ["": 1]> {TEXT}')


def test_a_constant_declared_without_data_may_have_any() -> None:
    assert_text(graph(TEXT), TEXT.replace(" = {1, 2, 3}", ""))
    with pytest.raises(AssertionError):
        assert_text(graph(TEXT), TEXT.replace("{1, 2, 3}", "{1, 2, 4}"))


def test_other_text_is_shown_as_a_diff() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_text(
            graph("g (float[2] x) => (float[2] y) { y = Neg (x) }"),
            """
            g (float[2] x) => (float[2] y)
            {
               y = Abs (x)
            }
            """,
        )
    assert str(caught.value) == (
        "graph text differs:\n--- expected\n+++ found\n@@ -1,4 +1,4 @@\n g (float[2] x) => (float[2] y)\n {\n"
        "-   y = Abs (x)\n+   y = Neg (x)\n }"
    )
