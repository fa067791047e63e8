"""Types behind ops of other domains: a row's rule, then onnx's rules for what reads its result."""

import pytest

from nncomp.infer import infer_types
from nncomp.ops import OpSemantics, builtin_table
from nncomp.testing import graph

CHAIN = """
g (float[{batch},8] x, bool c) => (float[{batch},16] y)
<int64[2] shape = {{0, 16}}>
{{
    a = com.example.Twice (x)
    b = Relu (a)
    d = com.example.Twice (b)
    e = Concat <axis = 1> (d, d)
    f = Reshape (e, shape)
    y = If (c) <
        then_branch = t () => (float[{batch},16] p) {{ q = Neg (f)  p = Abs (q) }},
        else_branch = n () => (float[{batch},16] r) {{ r = Identity (f) }}
    >
}}
"""


@pytest.fixture
def ops():
    row = OpSemantics("Twice", domain="com.example", infer=lambda op: (op.inputs[0].type,))
    return builtin_table().extended([row])


def types(net):
    return {value.name: str(value.type) for part, op in net.walk() for value in op.outputs}


def test_types_are_found_behind_ops_of_other_domains_and_inside_bodies(ops):
    net = graph(CHAIN.format(batch=2))
    infer_types(net, ops)
    assert types(net) == {
        **dict.fromkeys("abd", "float[2,8]"),
        **dict.fromkeys("efypqr", "float[2,16]"),
    }


def test_types_with_symbols_are_refined_once_more_is_known(ops):
    net = graph(CHAIN.format(batch="N"))
    infer_types(net, ops)
    assert types(net)["e"] == "float[N,16]"
    net.set_type(net.find("x"), graph(CHAIN.format(batch=4)).find("x").type)
    infer_types(net, ops)
    assert types(net)["d"] == "float[4,8]"
    assert types(net)["e"] == "float[4,16]"


def test_without_a_row_nothing_is_known_behind_the_op():
    net = graph(CHAIN.format(batch=2))
    infer_types(net, builtin_table())
    assert types(net)["b"] == "None"


def test_what_contradicts_a_schema_is_left_open(ops):
    net = graph("g (float[2,8] x) => (y) <int64[1] shape = {3}> { a = com.example.Twice (x)  y = Reshape (a, shape) }")
    infer_types(net, ops)
    assert types(net) == {"a": "float[2,8]", "y": "float[3]"}
