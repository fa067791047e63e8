"""reducemean-to-pool: all spellings of a mean over pixels."""

import pytest

import nncomp
from nncomp.testing import graph
from nncomp_fusion.pools import ReducemeanToPool


@pytest.mark.parametrize(
    ("opset", "call"),
    [
        (13, "<axes = [2, 3]> (x)"),
        (13, "<axes = [-1, -2], keepdims = 1> (x)"),
        (18, "(x, axes)"),
        (18, "<keepdims = 1> (x, axes)"),
    ],
)
def test_a_mean_over_pixels_is_a_global_average_pool(check, opset, call):
    constants = "<int64[2] axes = {-1, 2}>" if opset == 18 else ""
    before = f"g (float[N,3,H,W] x) => (float[N,3,1,1] y) {constants} {{ y = ReduceMean {call} }}"
    expected = "g (float[N,3,H,W] x) => (float[N,3,1,1] y) { y = GlobalAveragePool (x) }"
    outcome = check(ReducemeanToPool(), before, expected, opset=opset)
    assert outcome.fired == ["mean-of-pixels-to-global-average-pool"]


def test_without_the_axes_that_were_reduced_it_is_flattened(check):
    before = "g (float[N,3,H,W] x) => (float[N,3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
    expected = """
    g (float[N,3,H,W] x) => (float[N,3] y)
    {
       y_globalaveragepool = GlobalAveragePool (x)
       y = Flatten <axis = 1> (y_globalaveragepool)
    }
    """
    check(ReducemeanToPool(), before, expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "g (float[N,8,8,3] x) => (float[N,1,1,3] y) { y = ReduceMean <axes = [1, 2]> (x) }",
            "it takes the mean of axes [1, 2], GlobalAveragePool of [2, 3]",
        ),
        (
            "g (float[N,S,4] x) => (float[N,S,1] y) { y = ReduceMean <axes = [-1]> (x) }",
            "its input has rank 3, expected images of rank 4",
        ),
        (
            "g (double[N,3,8,8] x) => (double[N,3,1,1] y) { y = ReduceMean <axes = [2, 3]> (x) }",
            "its input is double, which runtimes have no GlobalAveragePool for",
        ),
        (
            "g (float[1,3,8,8] x) => (float[1,3,7,7] y) { y = AveragePool <kernel_shape = [2, 2]> (x) }",
            "its window does not cover the image",
        ),
        (
            "g (float[1,3,H,W] x) => (float[1,3,P,Q] y) { y = AveragePool <kernel_shape = [2, 2]> (x) }",
            "its window does not cover the image",
        ),
        (
            """g (float[1,3,4,4] x) => (float[1,3,2,2] y)
            { y = AveragePool <kernel_shape = [4, 4], pads = [1, 0, 0, 1]> (x) }""",
            "it pads the image",
        ),
    ],
)
def test_other_means_stay(check, text, reason):
    assert check(ReducemeanToPool(), text, None).declined == [reason]


def test_axes_that_are_fed_stay():
    ctx = nncomp.Context()
    text = "g (float[1,3,8,8] x, int64[2] axes) => (float[1,3,1,1] y) { y = ReduceMean (x, axes) }"
    ReducemeanToPool().run(graph(text, opset=18), ctx)
    assert [note.reason for note in ctx.notes] == ["its axes are computed at run time"]


def test_a_window_as_large_as_the_image_is_a_global_average_pool(check):
    before = "g (float[N,3,7,5] x) => (float[N,3,1,1] y) { y = AveragePool <kernel_shape = [7, 5]> (x) }"
    expected = "g (float[N,3,7,5] x) => (float[N,3,1,1] y) { y = GlobalAveragePool (x) }"
    assert check(ReducemeanToPool(), before, expected).fired == ["average-pool-to-global-average-pool"]
