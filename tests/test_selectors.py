"""Selectors: globs over names, kinds and outputs; bounded regular expressions; nothing found is an error."""

import time

import pytest

from nncomp.errors import RecipeError
from nncomp.selectors import select, selector
from nncomp.testing import graph

NET = """
g (float[2,4] x, bool c) => (float[2,4] y)
{
    [head_0] a = Relu (x)
    [head_1] b = Sigmoid (a)
    ["layer[0]"] d = Relu (b)
    e = Tanh (d)
    y = If (c) <
        then_branch = t () => (float[2,4] p) { [inner] p = Relu (e) },
        else_branch = f () => (float[2,4] q) { q = Identity (e) }
    >
}
"""


@pytest.fixture
def net():
    return graph(NET)


def labels(ops):
    return sorted(op.label for op in ops)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("head_0", ["head_0"]),
        ("head_?", ["head_0", "head_1"]),
        ("head_[01]", ["head_0", "head_1"]),
        ("layer[0]", ["layer[0]"]),
        ("Tanh(e)", ["Tanh(e)"]),
        ("kind:Relu", ["head_0", "inner", "layer[0]"]),
        ("kind:Sig*", ["head_1"]),
        ("output:b", ["head_1"]),
        ("output:[de]", ["Tanh(e)", "layer[0]"]),
        ("re:head_\\d+", ["head_0", "head_1"]),
        ("re:(head_0|inner)", ["head_0", "inner"]),
    ],
)
def test_a_pattern_selects_ops_by_name_kind_or_output(net, pattern, expected):
    assert labels(select(net, [pattern])) == expected


def test_several_patterns_add_up(net):
    assert labels(select(net, ["head_0", "kind:Tanh", "head_*"])) == ["Tanh(e)", "head_0", "head_1"]


def test_no_patterns_select_nothing(net):
    assert select(net, []) == set()


def test_a_regular_expression_must_match_the_whole_name(net):
    with pytest.raises(RecipeError, match="matches no op"):
        select(net, ["re:head"])


@pytest.mark.row(76)
@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("head_9", "quantize.skip: selector 'head_9' matches no op", "near: 'head_1', 'head_0'"),
        ("Relu", "quantize.skip: selector 'Relu' matches no op", "did you mean 'kind:Relu'?"),
        ("kind:Rel", "quantize.skip: selector 'kind:Rel' matches no op", "did you mean 'kind:Relu'?"),
        ("output:zz", "quantize.skip: selector 'output:zz' matches no op", ""),
        ("", "quantize.skip: a selector is empty", "'*' selects every op"),
        (
            "re:(",
            "quantize.skip: selector 're:(' is not a regular expression: "
            "missing ), unterminated subpattern at position 0",
            "without 're:' it is a glob",
        ),
    ],
)
def test_a_pattern_that_selects_nothing_or_is_malformed_is_refused_with_a_hint(net, pattern, message, hint):
    with pytest.raises(RecipeError) as caught:
        select(net, [pattern], option="quantize.skip")
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("NNC-R011", message, hint)


@pytest.mark.row(76)
@pytest.mark.parametrize(
    "pattern",
    [
        "re:(a+)+$",
        "re:(a*)*b",
        "re:(a|aa)+$",
        "re:([a-z]+x)*",
        "re:(?:a?){30}a{30}",
        "re:" + "a?" * 40 + "a" * 40,
        "re:" + ".*" * 20 + "b",
        "re:" + "(a|a)" * 30 + "b",
        "re:(.*)\\1",
        "re:(?=(a+)+)b",
        "re:" + "a" * 500,
        "re:(?:(?:(?:a{999}){999}){999}){999}",
    ],
)
def test_an_expression_that_could_run_for_ever_is_refused_before_it_runs(pattern):
    started = time.process_time()
    try:
        matches = selector(pattern)
    except RecipeError as error:
        assert error.code == "NNC-R011"
    else:
        op = next(iter(graph("g (float[1] x) => (float[1] y) { y = Relu (x) }").ops()))
        matches(op)
    assert time.process_time() - started < 2


def test_the_worst_expression_that_is_allowed_ends_soon():
    name = "a" * 200
    op = next(iter(graph(f"g (float[1] x) => (float[1] y) {{ [{name}] y = Relu (x) }}").ops()))
    started = time.process_time()
    assert not selector("re:a*a*a*b")(op)
    assert time.process_time() - started < 1


def test_a_name_that_is_too_long_for_expressions_still_fits_globs():
    name = "a" * 300
    net = graph(f"g (float[1] x) => (float[1] y) {{ [{name}] y = Relu (x) }}")
    assert len(select(net, ["a*"])) == 1
    with pytest.raises(RecipeError, match="matches no op"):
        select(net, ["re:a+"])
