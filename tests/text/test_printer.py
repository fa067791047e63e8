from __future__ import annotations

import hashlib
import re
import time
from types import MappingProxyType

import numpy as np
import onnx
import pytest
from onnx import helper

from nncomp.ir import Attribute, AttributeType, DataType, Graph, OpaqueType, TensorType
from nncomp.ir.nodes import set_field
from nncomp.onnx_io import graph_from_proto
from nncomp.testing import graph
from nncomp.text import inexpressible, op_line, parse_graph, print_graph

FLOAT = DataType.FLOAT


def lines(text: str) -> list[str]:
    """The text without model header."""
    return text.splitlines()[1:]


def sha(array: np.ndarray) -> str:
    """What stands for the data of ``array``."""
    return f"sha256:{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"


def one_op(attrs: dict[str, object], kind: str = "Foo", **fields: str) -> Graph:
    g = Graph("g")
    x = g.add_input("x", TensorType(FLOAT, (2,)))
    g.set_outputs([g.add_op(kind, [x], ["y"], attrs=attrs, **fields).output])  # type: ignore[arg-type]
    return g


def test_a_graph_prints_one_op_a_line_with_the_result_first() -> None:
    g = graph("""
        g (float[1,3,8,8] x) => (float[1,4,6,6] y)
        <float[4,3,3,3] w, float[4] s = {1, 2, 3, 4}, float[4] b = {0, 0.5, -1e-3, 1e20},
         float[4] mean = {0, 0, 0, 0}, float[4] var = {1, 1, 1, 1}>
        {
           c = Conv <pads = [0, 0, 0, 0]> (x, w)
           [bn] y = BatchNormalization <epsilon = 1e-5> (c, s, b, mean, var)
        }
        """)
    assert print_graph(g) == (
        '<ir_version: 10, opset_import: ["": 17]>\n'
        "g (float[1,3,8,8] x) => (float[1,4,6,6] y)\n"
        "<\n"
        "   float[4,3,3,3] w,  # sha256:8d938d405895 range [-1.2, 1.05]\n"
        "   float[4] s = {1, 2, 3, 4},\n"
        "   float[4] b = {0, 0.5, -0.001, 1e+20},\n"
        "   float[4] mean = {0, 0, 0, 0},\n"
        "   float[4] var = {1, 1, 1, 1}\n"
        ">\n"
        "{\n"
        "   c = Conv <pads = [0, 0, 0, 0]> (x, w)\n"
        "   [bn] y = BatchNormalization <epsilon = 1e-05> (c, s, b, mean, var)\n"
        "}\n"
    )


def test_few_small_constants_stand_on_one_line() -> None:
    g = graph("g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, int64 n = {3}> { y = Foo (x, a, n) }")
    assert lines(print_graph(g))[1] == "<float[2] a = {1, 2}, int64 n = {3}>"


def test_max_elements_decides_what_is_elided() -> None:
    g = graph("g () => (w) <float[3] w = {1, 2, nan}> { }")
    assert "float[3] w = {1, 2, nan}" in print_graph(g, max_elements=3)
    digest = sha(np.array([1, 2, np.nan], np.float32))
    assert f"float[3] w  # {digest} range [1, 2], 1 not finite" in print_graph(g, max_elements=2)


def test_types_without_literals_are_written_as_bits_and_numbers_stand_beside() -> None:
    g = graph("""
        g () => ()
        <float16[2] h = {15360, 14336}, bfloat16 b = {16256}, int4[3] i = {33, 15}, float8e4m3fn[1] e = {56},
         float6e2m3[2] f = {8, 16}>
        { y = Foo (h, b, i, e, f) }
        """)
    assert lines(print_graph(g))[1:8] == [
        "<",
        "   float16[2] h = {15360, 14336},  # 1, 0.5",
        "   bfloat16 b = {16256},  # 1",
        "   int4[3] i = {33, 15},  # 1, 2, -1",
        "   float8e4m3fn[1] e = {56},  # 1",
        "   float6e2m3[2] f = {8, 16}  # 1, 2",
        ">",
    ]


def test_bodies_are_indented_under_their_op() -> None:
    g = graph("""
        g (bool c, float[2] x) => (float[2] y)
        {
           y = If (c) <else_branch = e () => (float[2] a) { a = Neg (x) },
                       then_branch = t () => (float[2] b) <float[2] k = {1, 2}> { b = Add (x, k) }>
        }
        """)
    assert lines(print_graph(g)) == [
        "g (bool c, float[2] x) => (float[2] y)",
        "{",
        "   y = If (c) <",
        "      else_branch = e () => (float[2] a)",
        "      {",
        "         a = Neg (x)",
        "      },",
        "      then_branch = t () => (float[2] b)",
        "      <float[2] k = {1, 2}>",
        "      {",
        "         b = Add (x, k)",
        "      }",
        "   >",
        "}",
    ]


def test_attributes_and_bodies_of_one_op_share_a_list() -> None:
    text = """
        g (float[2] s, float[3,2] x) => (float[2] t)
        {
           t = Scan <num_scan_inputs = 1, body = b (float[2] i, float[2] e) => (float[2] o) { o = Add (i, e) }> (s, x)
        }
        """
    assert lines(print_graph(graph(text)))[2:4] == [
        "   t = Scan (s, x) <num_scan_inputs = 1,",
        "      body = b (float[2] i, float[2] e) => (float[2] o)",
    ]


def test_skipped_inputs_and_outputs_print_as_empty_names() -> None:
    g = graph('g (float[2] x) => (float[2] y) { "", y = Foo ("", x, "") }')
    assert lines(print_graph(g))[2] == '   "", y = Foo ("", x)'


def test_an_op_without_outputs_prints() -> None:
    assert lines(print_graph(graph("g (float[2] x) => () { = Foo (x) }")))[2] == "   = Foo (x)"


def test_defaults_of_inputs_stand_among_the_constants() -> None:
    data = np.arange(20, dtype=np.float32)
    g = graph(
        "g (float[N] x, float[2] a = {1, 2}) => (float[2] y) <float[20] x = {}> { y = Add (x, a) }",
        constants={"x": data},
    )
    assert lines(print_graph(g))[:5] == [
        "g (float[N] x, float[2] a) => (float[2] y)",
        "<",
        f"   float[20] x = {{}},  # {sha(data)} range [0, 19]",
        "   float[2] a = {1, 2}",
        ">",
    ]


def test_intermediate_types_are_printed_when_asked_for() -> None:
    g = graph("g (float[2] x) => (float[2] y) <float[2] t> { t = Neg (x) y = Neg (t) }")
    assert "float[2] t" not in print_graph(g)
    assert lines(print_graph(g, types=True))[1] == "<float[2] t>"


def test_notes_stand_under_what_they_speak_of() -> None:
    data = np.arange(20, dtype=np.float32)
    g = graph(
        """
        g (float[2] x) => (float[2] y) <float[20] w = {}, float[2] k = {1, 2}>
        { t = Neg (x) y = If (k) <then_branch = b () => (z) { z = Neg (t) }> }
        """,
        constants={"w": data},
    )
    notes = {
        g.inputs[0]: "input",
        g.find("w"): "constant",
        g.find("t"): "value",
        g.ops()[0]: "op\nof two lines",
        g.ops()[1].bodies["then_branch"].ops()[0]: "inner op",
        g.ops()[1]: "owner",
    }
    assert lines(print_graph(g, notes=notes)) == [
        "g (float[2] x) => (float[2] y)",
        "# ^ x: input",
        "<",
        f"   float[20] w,  # {sha(data)} range [0, 19]",
        "   # ^ w: constant",
        "   float[2] k = {1, 2}",
        ">",
        "{",
        "   t = Neg (x)",
        "   # ^ op",
        "   # of two lines",
        "   # ^ t: value",
        "   y = If (k) <",
        "      then_branch = b () => (z)",
        "      {",
        "         z = Neg (t)",
        "         # ^ inner op",
        "      }",
        "   >",
        "   # ^ owner",
        "}",
    ]
    assert print_graph(parse_graph(print_graph(g, notes=notes), constants={"w": data})) == print_graph(g)


def test_a_graph_with_a_cycle_prints_in_order_of_insertion() -> None:
    g = Graph("g")
    x = g.add_input("x", None)
    first = g.add_op("A", [x, x], ["a"])
    second = g.add_op("B", [first.output], ["b"])
    g.set_input(first, 1, second.output)
    g.set_outputs([second.output])
    assert lines(print_graph(g)) == ["g (x) => (b)", "{", "   a = A (x, b)", "   b = B (a)", "}"]


def test_a_value_of_another_graph_still_prints() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    stranger = graph("h (float[2] z) => (float[2] z) { }").inputs[0]
    set_field(g.ops()[0], "inputs", (stranger,))
    g.set_outputs([stranger])
    assert lines(print_graph(g)) == ["g (float[2] x) => (float[2] z)", "{", "   y = Neg (z)", "}"]


def test_an_attribute_whose_value_is_not_of_its_type_is_named_in_a_comment() -> None:
    g = one_op({"a": Attribute(AttributeType.INTS, 3), "b": Attribute(AttributeType.TENSOR, None)})
    assert print_graph(g).splitlines()[0] == "# not in this text: attribute (2)"
    assert lines(print_graph(g))[3:6] == [
        "   y = Foo (x)",
        "   # not in this text: attribute 'a' of type INTS",
        "   # not in this text: attribute 'b' of type TENSOR",
    ]


def test_long_lists_are_wrapped() -> None:
    g = one_op({"axes": list(range(60)), "mode": "m"})
    assert lines(print_graph(g))[2:5] == [
        "   y = Foo <axes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,",
        "         25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,",
        '         50, 51, 52, 53, 54, 55, 56, 57, 58, 59], mode = "m"> (x)',
    ]


def test_a_body_constant_does_not_shadow_a_name_that_a_pass_took_outside() -> None:
    g = graph("g (bool c) => (y) { y = If (c) <then_branch = t () => (z) <float[1] k = {1}> { z = Neg (k) }> }")
    g.add_constant("k", np.ones(1, np.float32))
    assert "         z = Neg (k_1)" in print_graph(g).splitlines()
    assert print_graph(parse_graph(print_graph(g))) == print_graph(g)


def test_op_line_is_one_line_without_bodies() -> None:
    g = graph("g (bool c) => (y) { y = If (c) <then_branch = t () => (z) <float[1] k = {1}> { z = Neg (k) }> }")
    assert op_line(g.ops()[0]) == "y = If (c) <"
    g = one_op({"axes": list(range(60)), "value": np.zeros(20, np.float32)})
    assert op_line(g.ops()[0]) == (
        f"y = Foo <axes = [{', '.join(map(str, range(60)))}], value = float[20] {{}}> (x)"
        f"  # value: {sha(np.zeros(20, np.float32))} range [0, 0]"
    )


@pytest.mark.parametrize(
    ("attrs", "fields", "what"),
    [
        ({"b c": 1}, {}, "attribute 'b c' of op 'Foo(y)': attribute"),
        ({"s": b"\xff"}, {}, "attribute 's' of op 'Foo(y)': attribute"),
        ({"s": "a\0"}, {}, "attribute 's' of op 'Foo(y)': attribute"),
        ({"s": Attribute(AttributeType.INT, 1, doc="d")}, {}, "attribute 's' of op 'Foo(y)': doc string"),
        ({"s": Attribute(AttributeType.TYPE_PROTO, None)}, {}, "attribute 's' of op 'Foo(y)': attribute"),
        (
            {"s": Attribute(AttributeType.TYPE_PROTOS, (TensorType(FLOAT),))},
            {},
            "attribute 's' of op 'Foo(y)': attribute",
        ),
        ({}, {"kind": "aten::foo"}, "op 'aten::foo(y)': name of an operator"),
        ({}, {"domain": "com.my-corp"}, "op 'Foo(y)': name of an operator"),
        ({}, {"name": "a\0"}, "model: name with a character that cannot be written"),
    ],
)
def test_what_the_syntax_cannot_say_is_known(attrs: dict[str, object], fields: dict[str, str], what: str) -> None:
    g = one_op(attrs, **fields)
    assert inexpressible(g) == (what,)
    kind = what.partition(": ")[2]
    assert print_graph(g).splitlines()[0] == f"# not in this text: {kind}"
    assert parse_graph(print_graph(g)).outputs[0].name == "y"


def test_doc_strings_and_metadata_of_parts_are_counted() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { t = Neg (x) y = Neg (t) }'
    )
    for part in (*model.graph.node, model.graph, *model.graph.input):
        part.doc_string = "why"
    model.graph.node[0].metadata_props.add(key="a", value="b")
    model.graph.quantization_annotation.add(tensor_name="x")
    model.training_info.add()
    model.graph.input[0].type.denotation = "IMAGE"
    g = graph_from_proto(model)
    assert inexpressible(g) == (
        "model: training information",
        "graph 'g': doc string",
        "graph 'g': quantization annotation",
        "value 'x': doc string",
        "value 'x': type denotation",
        "op 'Neg(t)': doc string",
        "op 'Neg(t)': metadata",
        "op 'Neg(y)': doc string",
    )
    assert print_graph(g).splitlines()[0] == (
        "# not in this text: training information, doc string (4), quantization annotation, type denotation, metadata"
    )


def test_a_type_that_cannot_be_written_is_left_out_with_a_comment() -> None:
    g = Graph("g")
    g.add_input("float", OpaqueType("a-b", "c"))
    g.add_input("x", TensorType(DataType.UNDEFINED, (1,)))
    assert inexpressible(g) == ("value 'float': type", "value 'x': type")
    assert lines(print_graph(g))[1:4] == [
        'g ("float", x) => ()',
        "# not in this text: type opaque(a-b,c) of 'float'",
        "# not in this text: type undefined[1] of 'x'",
    ]


def test_a_body_whose_name_would_be_read_as_something_else_gets_another() -> None:
    for name, written in (("float", "_float"), ("nan_loop", "_nan_loop"), ("a/b", "a_b"), ("", "_")):
        g = graph("g (bool c) => (y) { y = If (c) <then_branch = t () => (z) { z = Foo () }> }")
        g.ops()[0].bodies["then_branch"].name = name
        assert inexpressible(g) == ("op 'If(y)': name of a body",)
        assert f"      then_branch = {written} () => (z)" in print_graph(g).splitlines()
        assert f"   # not in this text: name {name!r} of graph 'then_branch'" in print_graph(g).splitlines()
        assert parse_graph(print_graph(g)).ops()[0].bodies["then_branch"].name == written


def test_lists_of_graphs_are_named_in_a_comment() -> None:
    body = onnx.parser.parse_graph("b () => (z) { z = Foo () }")
    node = helper.make_node("Many", [], ["y"])
    node.attribute.append(helper.make_attribute("bodies", [body, body]))
    proto = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")])
    g = graph_from_proto(helper.make_model(proto, ir_version=10))
    assert inexpressible(g) == ("op 'Many(y)': list of graphs", "op 'Many(y)': list of graphs")
    assert "   # not in this text: graph 'bodies[1]'" in print_graph(g).splitlines()
    assert parse_graph(print_graph(g)).ops()[0].kind == "Many"


def test_a_sparse_constant_is_declared_with_its_digest() -> None:
    values = helper.make_tensor("s", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("", onnx.TensorProto.INT64, [2], [0, 999])
    sparse = helper.make_sparse_tensor(values, indices, [1000, 1000, 1000])
    proto = helper.make_graph([helper.make_node("Foo", ["s"], ["y"])], "g", [], [], sparse_initializer=[sparse])
    g = graph_from_proto(helper.make_model(proto, ir_version=10))
    assert inexpressible(g) == ()
    assert re.fullmatch(r"   float\[1000,1000,1000\] s  # sparse sha256:[0-9a-f]{12}", lines(print_graph(g))[2])


def test_device_configurations_are_known_to_be_missing() -> None:
    g = one_op({})
    set_field(g.ops()[0], "devices", (b"x",))
    g.set_info(metadata=MappingProxyType({"k": 'v"'}))
    assert inexpressible(g) == ("op 'Foo(y)': device configuration",)
    assert print_graph(g).splitlines()[1] == ('<ir_version: 10, opset_import: ["": 21], metadata_props: ["k": "v\\""]>')


def test_a_large_constant_prints_at_once() -> None:
    data = np.arange(1_000_000, dtype=np.float32)
    g = Graph("g")
    g.add_constant("w", data)
    start = time.process_time()
    text = print_graph(g)
    assert time.process_time() - start < 0.5
    assert lines(text)[2] == f"   float[1000000] w  # {sha(data)} range [0, 1e+06]"
