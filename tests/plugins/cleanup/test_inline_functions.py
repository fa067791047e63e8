"""inline-functions: calls become what the functions say, wholly or not at all."""

import pytest

import nncomp
from nncomp.testing import graph
from nncomp_cleanup.inline_functions import InlineFunctions

HEADER = '<ir_version: 10, opset_import: ["": 17, "local": 1]>'


def test_a_call_becomes_the_body(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ a = local.f (x, x)  y = Neg (a) }}
        <opset_import: ["": 17], domain: "local"> f (p, q) => (r) {{ t = Exp (p)  r = Add (t, q) }}
        """,
    )
    assert found.kinds == ["Exp", "Add", "Neg"]
    assert not found.graph.info.functions


def test_two_calls_get_names_of_their_own(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x, float[2] t) => (float[2] y) {{ a = local.f (x)  b = local.f (a)  y = Add (b, t) }}
        <opset_import: ["": 17], domain: "local"> f (p) => (r) {{ t = Exp (p)  r = Neg (t) }}
        """,
    )
    assert [op.output.name for op in found.graph.ops()] == ["t_1", "r", "t_2", "r_1", "y"]


@pytest.mark.parametrize(("call", "alpha"), [("f <slope = 0.5> (x)", 0.5), ("f (x)", 0.25)])
def test_attributes_are_filled_in_from_the_call_or_the_defaults(check, call, alpha):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ y = local.{call} }}
        <opset_import: ["": 17], domain: "local"> f <slope: float = 0.25> (p) => (r)
        {{ r = LeakyRelu <alpha: float = @slope> (p) }}
        """,
    )
    assert found.graph.ops()[0].attr("alpha") == alpha


def test_an_attribute_that_nobody_gives_is_left_out(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ y = local.f (x) }}
        <opset_import: ["": 17], domain: "local"> f <slope> (p) => (r) {{ r = LeakyRelu <alpha: float = @slope> (p) }}
        """,
    )
    assert not found.graph.ops()[0].attrs


def test_functions_within_functions_get_what_was_given_outside(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ y = local.outer <slope = 0.5> (x) }}
        <opset_import: ["": 17, "local": 1], domain: "local"> outer <slope> (p) => (r)
        {{ t = local.inner <steep: float = @slope> (p)  r = Neg (t) }}
        <opset_import: ["": 17], domain: "local"> inner <steep> (p) => (r)
        {{ r = LeakyRelu <alpha: float = @steep> (p) }}
        """,
    )
    assert found.kinds == ["LeakyRelu", "Neg"]
    assert found.graph.ops()[0].attr("alpha") == 0.5
    assert not found.graph.info.functions


def test_an_input_that_is_not_given_is_not_given_inside(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) <float hi = {{0.5}}> {{ y = local.f (x, , hi) }}
        <opset_import: ["": 17], domain: "local"> f (p, low, high, more) => (r) {{ r = Clip (p, low, high) }}
        """,
    )
    assert [value and value.name for value in found.graph.ops()[0].inputs] == ["x", None, "hi"]


def test_bodies_in_functions_are_filled_in_too(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (bool b, float[2] x) => (float[2] y) {{ y = local.f <slope = 0.5> (b, x) }}
        <opset_import: ["": 17], domain: "local"> f <slope> (c, p) => (r)
        {{
           r = If (c) <
              then_branch = t () => (u) {{ u = LeakyRelu <alpha: float = @slope> (p) }},
              else_branch = e () => (v) {{ v = Neg (p) }}
           >
        }}
        """,
    )
    assert found.kinds == ["If", "LeakyRelu", "Neg"]


def test_calls_in_bodies_are_inlined(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (bool b, float[2] x) => (float[2] y)
        {{ y = If (b) <then_branch = t () => (u) {{ u = local.f (x) }}, else_branch = e () => (v) {{ v = Neg (x) }}> }}
        <opset_import: ["": 17], domain: "local"> f (p) => (r) {{ t = Exp (p)  r = Neg (t) }}
        """,
    )
    assert found.kinds == ["If", "Exp", "Neg", "Neg"]


def test_a_function_may_give_back_its_input_and_have_unused_outputs(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ a, b, c = local.f (x)  y = Neg (a) }}
        <opset_import: ["": 17], domain: "local"> f (p) => (p, r, s) {{ r = Exp (p)  s = Neg (p) }}
        """,
        feeds=[],  # ONNX Runtime refuses functions that give back an input
    )
    assert found.graph.find("y").producer.inputs[0].name == "x"


def test_a_function_for_another_opset_is_kept_whole(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ a = local.f (x)  y = local.h (a) }}
        <opset_import: ["": 13], domain: "local"> f (p) => (r) {{ r = Exp (p) }}
        <opset_import: ["": 17], domain: "local"> h (p) => (r) {{ r = Neg (p) }}
        """,
    )
    assert found.kinds == ["f", "Neg"]
    assert [key[1] for key in found.graph.info.functions] == ["f"]
    assert found.declined == ["it is written for opset 13 of ai.onnx, the model imports 17"]


def test_a_function_that_the_user_keeps_keeps_what_it_calls(check):
    text = f"""{HEADER}
    g (float[2] x) => (float[2] y) {{ a = local.f (x)  y = local.h (a) }}
    <opset_import: ["": 17, "local": 1], domain: "local"> f (p) => (r) {{ r = local.h (p) }}
    <opset_import: ["": 17], domain: "local"> h (p) => (r) {{ r = Neg (p) }}
    """
    found = check(InlineFunctions(skip=("f",)), text)
    assert found.kinds == ["f", "Neg"]
    assert sorted(key[1] for key in found.graph.info.functions) == ["f", "h"]


def test_functions_that_double_do_not_explode():
    functions = "".join(
        f"""<opset_import: ["": 17, "local": 1], domain: "local"> f{i} (p) => (r)
        {{ t = local.f{i - 1} (p)  r = local.f{i - 1} (t) }}
        """
        for i in range(1, 60)
    )
    before = graph(f"""{HEADER}
    g (float[2] x) => (float[2] y) {{ y = local.f59 (x) }}
    <opset_import: ["": 17], domain: "local"> f0 (p) => (r) {{ r = Neg (p) }}
    {functions}""")
    version, ctx = before.version, nncomp.Context()
    InlineFunctions().run(before, ctx)
    assert before.version == version
    assert [note.reason for note in ctx.notes] == [f"the model would hold {2**59} ops, max_ops allows 1000000"]


def test_a_domain_that_only_a_function_imports_is_imported(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ y = local.f (x) }}
        <opset_import: ["com.microsoft": 1], domain: "local"> f (p) => (r) {{ r = com.microsoft.FastGelu (p) }}
        """,
    )
    assert found.graph.opsets["com.microsoft"] == 1


def test_metadata_and_docs_of_nodes_survive(check):
    from onnx import FunctionProto

    before = graph(f"""{HEADER}
    g (float[2] x) => (float[2] y) {{ y = local.f (x) }}
    <opset_import: ["": 17], domain: "local"> f (p) => (r) {{ r = Neg (p) }}
    """)
    key, data = next(iter(before.info.functions.items()))
    function = FunctionProto.FromString(data)
    function.node[0].name, function.node[0].doc_string = "negate", "why"
    function.node[0].metadata_props.add(key="source", value="here")
    before.set_info(functions={key: function.SerializeToString()})
    (op,) = check(InlineFunctions(), before).graph.ops()
    assert (op.name, op.doc, dict(op.metadata)) == ("negate", "why", {"source": "here"})


def test_functions_that_import_one_domain_twice_do_not_mix(check):
    found = check(
        InlineFunctions(),
        f"""{HEADER}
        g (float[2] x) => (float[2] y) {{ a = local.f (x)  y = local.h (a) }}
        <opset_import: ["acme": 1], domain: "local"> f (p) => (r) {{ r = acme.Foo (p) }}
        <opset_import: ["acme": 2], domain: "local"> h (p) => (r) {{ r = acme.Foo (p) }}
        """,
        feeds=[],
    )
    assert found.kinds == ["Foo", "h"]
    assert found.graph.opsets["acme"] == 1
    assert found.declined == ["it is written for opset 2 of acme, the model imports 1"]
