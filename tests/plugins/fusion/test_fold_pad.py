"""fold-pad: into Conv and pools, in all forms of Pad."""

import numpy as np
import pytest

import nncomp
from nncomp.testing import graph
from nncomp_fusion.pads import FoldPad

CONV = """
g (float[1,3,8,8] x) => (float[1,4,9,8] y)
<float[4,3,3,3] w{constants}>
{{
   p = Pad {pad}
   y = Conv {attrs}(p, w)
}}
"""
FOLDED = """
g (float[1,3,8,8] x) => (float[1,4,9,8] y)
<float[4,3,3,3] w>
{
   y = Conv <pads = [1, 0, 2, 2]> (x, w)
}
"""
AMOUNTS = ", int64[8] pads = {0, 0, 1, 0, 0, 0, 2, 2}"


@pytest.mark.parametrize(
    ("opset", "constants", "pad"),
    [
        (10, "", "<pads = [0, 0, 1, 0, 0, 0, 2, 2]> (x)"),
        (10, "", '<mode = "constant", value = 0.0, pads = [0, 0, 1, 0, 0, 0, 2, 2]> (x)'),
        (13, AMOUNTS, "(x, pads)"),
        (13, AMOUNTS + ", float zero = {0}", "(x, pads, zero)"),
        (18, ", int64[4] pads = {1, 0, 2, 2}, int64[2] axes = {2, 3}", "(x, pads, , axes)"),
        (18, ", int64[4] pads = {0, 1, 2, 2}, int64[2] axes = {-1, -2}", "(x, pads, , axes)"),
    ],
)
def test_zeros_go_into_the_padding_of_a_conv(check, opset, constants, pad):
    outcome = check(FoldPad(), CONV.format(constants=constants, pad=pad, attrs=""), FOLDED, opset=opset)
    assert outcome.fired == ["fold-pad-into-conv"]


def test_they_add_to_the_padding_that_is_there(check):
    before = CONV.format(constants=AMOUNTS, pad="(x, pads)", attrs="<strides = [2, 2], pads = [1, 1, 0, 1]> ")
    expected = """
    g (float[1,3,8,8] x) => (float[1,4,5,5] y)
    <float[4,3,3,3] w>
    {
       y = Conv <strides = [2, 2], pads = [2, 1, 2, 3]> (x, w)
    }
    """
    check(FoldPad(), before.replace("[1,4,9,8]", "[1,4,5,5]"), expected)


def test_automatic_padding_becomes_explicit(check):
    before = CONV.format(constants=AMOUNTS, pad="(x, pads)", attrs='<auto_pad = "SAME_UPPER"> ')
    expected = """
    g (float[1,3,8,8] x) => (float[1,4,11,10] y)
    <float[4,3,3,3] w>
    {
       y = Conv <pads = [2, 1, 3, 3]> (x, w)
    }
    """
    check(FoldPad(), before.replace("[1,4,9,8]", "[1,4,11,10]"), expected)


@pytest.mark.parametrize(
    ("constants", "pad", "reason"),
    [
        (AMOUNTS + ", float value = {1.5}", "(x, pads, value)", "it pads with 1.5, Conv pads with 0"),
        (AMOUNTS, '<mode = "edge"> (x, pads)', "Pad has mode 'edge'"),
        (", int64[8] pads = {0, 0, 2, 2, 0, 0, 1, -2}", "(x, pads)", "it crops: an amount is negative"),
    ],
)
def test_other_paddings_stay(check, constants, pad, reason):
    assert check(FoldPad(), CONV.format(constants=constants, pad=pad, attrs=""), None).declined == [reason]


def test_padded_channels_stay(check):
    before = CONV.format(constants=", int64[8] pads = {0, 0, 1, 0, 0, 1, 2, 2}", pad="(x, pads)", attrs="")
    before = before.replace("float[1,3,8,8]", "float[1,2,8,8]")
    assert check(FoldPad(), before, None).declined == ["it pads the batch or channels"]


def test_amounts_that_are_computed_stay():
    before = CONV.format(constants="", pad="(x, pads)", attrs="").replace("x) =>", "x, int64[8] pads) =>")
    ctx = nncomp.Context()
    FoldPad().run(graph(before), ctx)
    assert [note.reason for note in ctx.notes] == ["Pad's amount is not constant"]


def test_a_pad_that_others_read_stays_for_them(check):
    before = CONV.format(constants=AMOUNTS, pad="(x, pads)", attrs="").replace("=> (", "=> (float[1,3,11,10] p, ")
    expected = """
    g (float[1,3,8,8] x) => (float[1,3,11,10] p, float[1,4,9,8] y)
    <float[4,3,3,3] w, int64[8] pads = {0, 0, 1, 0, 0, 0, 2, 2}>
    {
       p = Pad (x, pads)
       y = Conv <pads = [1, 0, 2, 2]> (x, w)
    }
    """
    check(FoldPad(), before, expected)


POOL = """
g (float[1,3,8,8] x) => (float[1,3,{size}] y)
<int64[8] pads = {{0, 0, 1, 0, 0, 0, 1, 2}}{constants}>
{{
   {before}
   y = {pool}
}}
"""
PLAIN = "p = Pad (x, pads)"


def test_an_average_counts_the_zeros_that_it_takes_over(check):
    before = POOL.format(constants="", before=PLAIN, pool="AveragePool <kernel_shape = [3, 3]> (p)", size="8,8")
    expected = """
    g (float[1,3,8,8] x) => (float[1,3,8,8] y)
    {
       y = AveragePool <kernel_shape = [3, 3], pads = [1, 0, 1, 2], count_include_pad = 1> (x)
    }
    """
    assert check(FoldPad(), before, expected).fired == ["fold-pad-into-average-pool"]


def test_an_average_that_does_not_count_its_own_padding_keeps_the_pad(check):
    pool = "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p)"
    assert check(FoldPad(), POOL.format(constants="", before=PLAIN, pool=pool, size="10,10"), None).declined == [
        "AveragePool does not count its own padding, but it counts the Pad's zeros"
    ]
    pool = "AveragePool <kernel_shape = [4, 4], pads = [1, 1, 1, 1], count_include_pad = 1> (p)"
    assert check(FoldPad(), POOL.format(constants="", before=PLAIN, pool=pool, size="9,9")).fired == [
        "fold-pad-into-average-pool"
    ]


def test_a_pool_takes_no_padding_as_wide_as_its_window(check):
    pool = "AveragePool <kernel_shape = [2, 2]> (p)"
    assert check(FoldPad(), POOL.format(constants="", before=PLAIN, pool=pool, size="9,9"), None).declined == [
        "padding of [1, 0, 1, 2] would be as wide as the window [2, 2]"
    ]


def test_a_pool_that_rounds_up_keeps_the_pad(check):
    pool = "AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (p)"
    assert check(FoldPad(), POOL.format(constants="", before=PLAIN, pool=pool, size="5,5"), None).declined == [
        "the pool rounds its size up (ceil_mode=1)"
    ]


MAX = "MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)"


def test_a_maximum_takes_minus_infinity(check):
    before = POOL.format(constants=", float low", before="p = Pad (x, pads, low)", pool=MAX, size="4,4")
    expected = """
    g (float[1,3,8,8] x) => (float[1,3,4,4] y)
    {
       y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 2]> (x)
    }
    """
    constants = {"low": np.array(-np.inf, np.float32)}
    assert check(FoldPad(), before, expected, constants=constants, exact=True).fired == ["fold-pad-into-max-pool"]


def test_a_maximum_does_not_take_zeros(check):
    before = POOL.format(constants="", before=PLAIN, pool=MAX, size="4,4")
    assert check(FoldPad(), before, None).declined == ["it pads with 0, which may win: MaxPool pads with -inf"]


def test_a_maximum_of_what_is_not_negative_takes_zeros(check):
    before = POOL.format(constants="", before="r = Relu (x)\n   p = Pad (r, pads)", pool=MAX, size="4,4")
    expected = """
    g (float[1,3,8,8] x) => (float[1,3,4,4] y)
    {
       r = Relu (x)
       y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 2]> (r)
    }
    """
    check(FoldPad(), before, expected, exact=True)


def test_indices_of_a_maximum_count_the_padding(check):
    before = POOL.format(constants="", before="r = Relu (x)\n   p = Pad (r, pads)", pool=MAX, size="4,4")
    before = before.replace("   y = MaxPool", "   y, i = MaxPool").replace("4,4] y)", "4,4] y, int64[1,3,4,4] i)")
    assert check(FoldPad(), before, None).declined == ["MaxPool's indices count the padding"]


def test_a_dilated_maximum_keeps_the_pad(check):
    pool = "MaxPool <kernel_shape = [3, 3], dilations = [2, 2]> (p)"
    before = POOL.format(constants="", before="r = Relu (x)\n   p = Pad (r, pads)", pool=pool, size="6,6")
    assert check(FoldPad(), before, None).declined == ["a dilated window may hit nothing but padding"]
