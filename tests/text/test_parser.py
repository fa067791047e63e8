from __future__ import annotations

from types import MappingProxyType

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from nncomp.errors import UsageError
from nncomp.ir import (
    ArrayTensor,
    Attribute,
    AttributeType,
    DataType,
    Graph,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
    string_tensor,
    tensor,
)
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.text import constants_of, inexpressible, parse_graph, print_graph

FLOAT = DataType.FLOAT
HEADER = '<ir_version: 10, opset_import: ["": 17]>\n'


def there_and_back(g: Graph, max_elements: int = 16) -> Graph:
    """Print and parse."""
    constants = constants_of(g, max_elements=max_elements)
    return parse_graph(print_graph(g, types=True, max_elements=max_elements), constants=constants)


def assert_comes_back(g: Graph) -> None:
    for max_elements in (0, 16):
        assert graph_to_proto(there_and_back(g, max_elements)) == graph_to_proto(g)


def op_with(attrs: dict[str, object]) -> Graph:
    g = Graph("g")
    g.set_outputs([g.add_op("Foo", [], ["y"], attrs=attrs).output])
    return g


def constant(data: Tensor) -> Graph:
    g = Graph("g")
    g.set_outputs([g.add_op("Foo", [g.add_constant("w", data)], ["y"]).output])
    return g


# ---------------------------------------------------------------------- round trips


def test_model_fields_come_back() -> None:
    g = Graph("a graph")
    g.set_info(
        ir_version=9,
        opsets=MappingProxyType({"": 17, "ai.onnx.ml": 3, "com.my-corp": 1}),
        producer_name='p"q\\',
        producer_version="1\n2",
        domain="d",
        model_version=7,
        doc="# no comment\n\ttwo lines",
        metadata=MappingProxyType({"k": "v", "": "", 'a"b': "c: [d]"}),
    )
    back = there_and_back(g)
    assert back.info == g.info
    assert back.name == "a graph"


@pytest.mark.parametrize(
    "type_",
    [
        None,
        TensorType(FLOAT),
        TensorType(FLOAT, ()),
        TensorType(DataType.FLOAT8E4M3FNUZ, (1, None, "N", "a b", "2*N", "float")),
        SparseTensorType(DataType.INT4, (2,)),
        SequenceType(OptionalType(TensorType(DataType.STRING, ("N",)))),
        MapType(DataType.INT64, TensorType(DataType.BFLOAT16, ())),
        OpaqueType("ai.onnx.ml", "Thing"),
        OpaqueType("", "Thing"),
    ],
)
def test_types_of_the_interface_come_back(type_: Type | None) -> None:
    g = Graph("g")
    g.set_outputs([g.add_op("Foo", [g.add_input("x", type_)], [("y", type_)]).output])
    assert inexpressible(g) == ()
    assert there_and_back(g).inputs[0].type == type_
    assert_comes_back(g)


def test_node_names_domains_and_overloads_come_back() -> None:
    g = graph_from_proto(
        onnx.parser.parse_model(
            HEADER + 'g (x) => (y) { ["a/b"] t = ai.onnx.ml.Foo:two (x) ["n 1"] y = Foo (t) [""] z = Bar () }'
        )
    )
    ops = there_and_back(g).ops()
    assert [(op.name, op.domain, op.kind, op.overload) for op in ops] == [
        ("a/b", "ai.onnx.ml", "Foo", "two"),
        ("n 1", "", "Foo", ""),
        ("", "", "Bar", ""),
    ]


def test_bodies_and_what_they_capture_come_back() -> None:
    g = graph_from_proto(
        onnx.parser.parse_model(
            HEADER
            + """g (bool c, float[2] x) => (float[2] y) <float[2] k = {1, 2}> {
                y = If (c) <
                    then_branch = t () => (float[2] a) <float[2] w = {3, 4}> {
                        u = Add (w, k)
                        a = If (c) <then_branch = tt () => (float[2] aa) { aa = Add (u, x) },
                                    else_branch = te () => (x) { }> },
                    else_branch = e () => (float[2] b) <float[2] w = {5, 6}> { b = Add (w, k) }> }"""
        )
    )
    assert_comes_back(g)


def test_an_empty_list_keeps_its_type() -> None:
    types = (
        AttributeType.INTS,
        AttributeType.FLOATS,
        AttributeType.STRINGS,
        AttributeType.TENSORS,
        AttributeType.TYPE_PROTOS,
    )
    g = op_with({type_.name.lower(): Attribute(type_, ()) for type_ in types})
    assert inexpressible(g) == ()
    assert_comes_back(g)


def test_type_attributes_come_back() -> None:
    g = op_with({"t": Attribute(AttributeType.TYPE_PROTO, SequenceType(TensorType(FLOAT, (2, "N")))), "n": 1})
    assert_comes_back(g)


def test_tensor_attributes_keep_their_name_and_large_ones_come_from_beside() -> None:
    big = tensor(np.arange(100, dtype=np.float32), name="big_one")
    g = op_with({"small": tensor(np.float32(1), name="s"), "big": big, "empty": np.zeros((2, 0), np.int8)})
    assert constants_of(g) == {"y/big": big}
    assert_comes_back(g)


def test_functions_come_back() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 17, "my": 1]>\n'
        "g (float[2] x) => (float[2] y)\n"
        "{\n"
        "   y = my.f:two <k = 2> (x)\n"
        "}\n"
        '<domain: "my", overload: "two", opset_import: ["": 17], doc_string: "why">\n'
        'f <k, "odd name", alpha = 1.0> (a, "float") => (b)\n'
        "<float[2] a>\n"
        "{\n"
        "   w = Constant <value = float[2] {3, 4}> ()\n"
        '   u = Foo <k: int = @k, l: ints = @"odd name"> (a, w)\n'
        "   b = If (a) <\n"
        "      then_branch = t () => (z)\n"
        "      <float[2] v = {5, 6}>\n"
        "      {\n"
        "         z = Add (v, u)\n"
        "      }\n"
        "   >\n"
        "}\n"
    )
    g = parse_graph(text)
    assert print_graph(g, types=True) == text
    assert g.info.functions == there_and_back(g).info.functions
    assert constants_of(g, max_elements=1).keys() == {"my.f/w/value", "my.f/b/then_branch/v"}
    assert there_and_back(g, max_elements=1).info.functions == g.info.functions


def test_constants_keep_the_order_of_the_text() -> None:
    text = HEADER + (
        "g () => (float[1] y)\n<\n   float[20] a,\n   float[1] b = {1},\n   float[20] c,\n   float[1] d = {1}\n>\n"
        "{\n   y = Foo (a, b, c, d)\n}\n"
    )
    data = np.zeros(20, np.float32)
    g = parse_graph(text, constants={"a": data, "c": data})
    assert [value.name for value in g.constants()] == ["a", "b", "c", "d"]


def test_a_sparse_constant_comes_back_as_it_was() -> None:
    values = helper.make_tensor("s", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("", onnx.TensorProto.INT64, [2], [0, 9])
    sparse = helper.make_sparse_tensor(values, indices, [10])
    nodes = [helper.make_node("Foo", ["s"], ["y"])]
    proto = helper.make_graph(nodes, "g", [], [helper.make_empty_tensor_value_info("y")], sparse_initializer=[sparse])
    assert_comes_back(graph_from_proto(helper.make_model(proto, ir_version=10)))


def test_constants_of_sibling_bodies_have_their_own_keys() -> None:
    text = (
        HEADER
        + """g (bool c) => (float[2] y) {
        y = If (c) <then_branch = t () => (a) <float[2] w = {1, 2}> { a = Neg (w) },
                    else_branch = e () => (b) <float[2] w = {3, 4}> { b = Neg (w) }> }"""
    )
    g = parse_graph(text)
    keys = ["y/then_branch/w", "y/else_branch/w"]
    assert list(constants_of(g, max_elements=0)) == keys
    assert [data.numpy().tolist() for data in constants_of(there_and_back(g, 0), max_elements=0).values()] == [
        [1, 2],
        [3, 4],
    ]


def test_a_name_with_a_slash_does_not_take_the_key_of_another_constant() -> None:
    text = (
        HEADER
        + """g (bool c) => (float[2] y) <float[2] "y/then_branch/w" = {5, 6}> {
        y = If (c) <then_branch = t () => (a) <float[2] w = {1, 2}> { a = Add (w, "y/then_branch/w") }> }"""
    )
    g = parse_graph(text)
    assert list(constants_of(g, max_elements=0)) == ["y/then_branch/w", "y/then_branch/w'"]
    assert_comes_back(g)


def test_a_nan_with_payload_is_elided_and_a_plain_one_is_not() -> None:
    bits = np.array([0x7FC00000, 0xFFC00000, 0x3F800000], np.uint32)
    assert "= {nan, -nan, 1}" in print_graph(constant(tensor(bits.view(np.float32))))
    bits[0] |= 1
    g = constant(tensor(bits.view(np.float32)))
    assert list(constants_of(g)) == ["w"]
    assert_comes_back(g)


# ---------------------------------------------------------------------- data from beside the text


def test_a_declaration_that_nothing_produces_is_a_constant() -> None:
    g = parse_graph(
        HEADER + "g (float[2] x) => (float[2] y) <float[2] t, float[2] w> { t = Neg (x) y = Add (t, w) }",
        constants={"w": np.array([1, 2], np.float32), "more": np.zeros(1)},
    )
    assert [value.name for value in g.constants()] == ["w"]
    assert g.find("t").type == TensorType(FLOAT, (2,))


def test_a_declared_outer_value_is_no_constant_of_the_body() -> None:
    g = parse_graph(
        HEADER + "g (float[2] x) => (y) { y = If (x) <then_branch = t () => (z) <float[2] x> { z = Neg (x) }> }"
    )
    assert g.ops()[0].bodies["then_branch"].constants() == ()


@pytest.mark.parametrize("array", [np.array(["a", "ü"]), np.array([b"a", "ü".encode()], object)])
def test_strings_may_come_as_numpy_arrays(array: np.ndarray) -> None:
    g = parse_graph(HEADER + "g () => (w) <string[2] w> { }", constants={"w": array})
    assert print_graph(g).splitlines()[2] == '<string[2] w = {"a", "ü"}>'


def test_fill_makes_what_constants_lack() -> None:
    asked: list[tuple[str, TensorType]] = []

    def fill(key: str, type_: TensorType) -> np.ndarray:
        asked.append((key, type_))
        return np.ones(type_.static_shape or (), np.float32)

    g = parse_graph(
        HEADER + "g () => (y) <float[2] a, float[3] b> { y = Foo <v = float[4] {}> (a, b) }",
        constants={"a": np.zeros(2, np.float32)},
        fill=fill,
    )
    assert asked == [("b", TensorType(FLOAT, (3,))), ("y/v", TensorType(FLOAT, (4,)))]
    assert g.array(g.find("b")).tolist() == [1, 1, 1]  # type: ignore[union-attr]


# ---------------------------------------------------------------------- errors


def error(text: str, **kwargs: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_graph(text, **kwargs)  # type: ignore[arg-type]
    assert caught.value.code == "NNC-R021"
    return caught.value


def test_a_constant_without_data_is_refused() -> None:
    found = error(HEADER + "g () => (y) <float[2] w> { y = Foo (w) }")
    assert found.as_dict() == {
        "code": "NNC-R021",
        "message": "constant 'w' is declared without data",
        "where": {"tensor": "w"},
        "hint": "pass it as constants['w']; constants_of(graph) gives what print_graph leaves out",
    }


def test_data_of_another_type_is_refused() -> None:
    text = HEADER + "g () => (y) <float[2,N] w> { y = Foo (w) }"
    found = error(text, constants={"w": np.zeros((3, 2), np.float32)})
    assert str(found) == "constant 'w' is declared float[2,N], but its data is float[3,2]"
    found = error(text, constants={"w": np.zeros((2, 3), np.int8)})
    assert str(found) == "constant 'w' is declared float[2,N], but its data is int8[2,3]"
    assert parse_graph(text, constants={"w": np.zeros((2, 9), np.float32)}).find("w").shape == (2, 9)


def test_data_of_no_static_shape_cannot_be_made() -> None:
    found = error(HEADER + "g () => (y) <float[N] w> { y = Foo (w) }", fill=lambda key, type_: np.zeros(1))
    assert str(found) == "constant 'w' is declared float[N], expected a static shape"


def test_a_syntax_error_names_its_place() -> None:
    found = error(HEADER + "g (float[2] x) => (y)\n{\n   y = Foo (x]\n}")
    assert found.as_dict() == {
        "code": "NNC-R021",
        "message": "graph text, line 4, column 14: expected character ) not found",
        "where": {"line": 4},
        "hint": "y = Foo (x]",
    }


def test_a_number_out_of_range_is_refused() -> None:
    found = error(HEADER + "g () => (y) { y = Foo <a = 99999999999999999999> () }")
    assert str(found) == "graph text holds a number that is malformed or out of range: stoll"


@pytest.mark.parametrize("sign", ["\0", "\ud800"])
def test_a_character_that_onnx_cannot_take_is_refused(sign: str) -> None:
    found = error(f'{HEADER}g () => (y) {{ y = Foo <a = "{sign}"> () }}')
    assert str(found) == "graph text, line 2: NUL or half a surrogate pair"


# ---------------------------------------------------------------------- properties

PROPERTY = settings(deadline=None, derandomize=True, max_examples=200)

BITS = {
    DataType.FLOAT: np.uint32,
    DataType.DOUBLE: np.uint64,
    DataType.COMPLEX64: np.uint64,
    DataType.FLOAT16: np.uint16,
    DataType.BFLOAT16: np.uint16,
    DataType.FLOAT8E4M3FN: np.uint8,
    DataType.FLOAT8E4M3FNUZ: np.uint8,
    DataType.FLOAT8E5M2: np.uint8,
    DataType.FLOAT8E5M2FNUZ: np.uint8,
    DataType.FLOAT8E8M0: np.uint8,
    **{
        DataType[name]: np.dtype(name.lower()).type
        for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
    },
}
FEW_BITS = {
    DataType.BOOL: (0, 1, np.bool_),
    DataType.INT4: (-8, 7, ml_dtypes.int4),
    DataType.UINT4: (0, 15, ml_dtypes.uint4),
    DataType.INT2: (-2, 1, ml_dtypes.int2),
    DataType.UINT2: (0, 3, ml_dtypes.uint2),
}
FEW_BIT_FLOATS = {
    DataType.FLOAT4E2M1: (16, ml_dtypes.float4_e2m1fn),
    DataType.FLOAT6E2M3: (64, ml_dtypes.float6_e2m3fn),
    DataType.FLOAT6E3M2: (64, ml_dtypes.float6_e3m2fn),
}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Tensors of every type but string with any bits, NaNs with payload among them."""
    dtype = draw(st.sampled_from([*BITS, *FEW_BITS, *FEW_BIT_FLOATS]))
    shape = draw(st.sampled_from([(), (0,), (1,), (3,), (2, 2), (1, 5)]))
    size = int(np.prod(shape))
    if dtype in BITS:
        width = np.dtype(BITS[dtype]).itemsize
        raw = draw(st.binary(min_size=size * width, max_size=size * width))
        array = np.frombuffer(raw, BITS[dtype]).view(dtype.numpy())
    elif dtype in FEW_BITS:
        low, high, kind = FEW_BITS[dtype]
        array = np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size)), np.int64).astype(kind)
    else:
        count, kind = FEW_BIT_FLOATS[dtype]
        codes = draw(st.lists(st.integers(0, count - 1), min_size=size, max_size=size))
        array = np.array(codes, np.uint8).view(kind)
    return ArrayTensor(array.reshape(shape), dtype)


@PROPERTY
@given(tensors())
def test_any_tensor_comes_back_bit_by_bit(data: Tensor) -> None:
    g = constant(data)
    for max_elements in (0, 16):
        back = there_and_back(g, max_elements).find("w").const
        assert back is not None
        assert (back.dtype, back.shape, back.tobytes()) == (data.dtype, data.shape, data.tobytes())


@PROPERTY
@given(st.data(), st.sampled_from([dtype for dtype in FEW_BITS if dtype != DataType.BOOL]), st.integers(0, 9))
def test_integers_narrower_than_a_byte_may_stand_as_numbers(data: st.DataObject, dtype: DataType, size: int) -> None:
    low, high, _ = FEW_BITS[dtype]
    numbers = data.draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    literal = f"{dtype.name.lower()}[{size}] {{{', '.join(map(str, numbers))}}}"
    declared = literal.replace("{", "w = {")
    g = parse_graph(f"{HEADER} g () => (w, v) <{declared}> {{ v = Foo <value = {literal}> () }}")
    made = g.find("v").producer
    assert made is not None
    for found in (g.find("w").const, made.attrs["value"].value):
        assert isinstance(found, Tensor)
        assert (found.dtype, found.numpy().tolist()) == (dtype, numbers)
    assert_comes_back(g)


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("int4[3] w = {7, 8, 0}", "constant 'w' holds 8, which is no int4: expected -8 to 7"),
        ("uint2[3] w = {3, -1, 0}", "constant 'w' holds -1, which is no uint2: expected 0 to 3"),
    ],
)
def test_a_number_that_a_narrow_type_lacks_is_refused(literal: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_graph(f"{HEADER} g () => (w) <{literal}> {{ }}")
    assert caught.value.message == message


@PROPERTY
@given(st.lists(st.one_of(st.text(), st.binary()), max_size=4))
def test_any_strings_come_back(items: list[str | bytes]) -> None:
    data = [item.encode() if isinstance(item, str) else item for item in items]
    back = there_and_back(constant(string_tensor(data, [len(data)]))).find("w").const
    assert back is not None
    assert [bytes(item) for item in back.numpy().tolist()] == data


INT64 = st.integers(-(2**63), 2**63 - 1)
WRITABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@PROPERTY
@given(
    st.one_of(
        INT64,
        st.floats(width=32),
        WRITABLE,
        st.lists(INT64, min_size=1),
        st.lists(st.floats(width=32), min_size=1),
        st.lists(WRITABLE, min_size=1),
    )
)
def test_any_attribute_comes_back(value: object) -> None:
    g = op_with({"a": value, "b": 1})
    assert inexpressible(g) == ()
    assert str(graph_to_proto(there_and_back(g))) == str(graph_to_proto(g))  # as text, NaN equals NaN


@PROPERTY
@given(WRITABLE, WRITABLE, WRITABLE, WRITABLE)
def test_any_name_comes_back(graph_name: str, node: str, value: str, dim: str) -> None:
    g = Graph(graph_name)
    x = g.add_input(value or "x", TensorType(FLOAT, (dim or None,)))
    w = g.add_constant(f"{value}w", np.zeros(2, np.float32))
    g.set_outputs([g.add_op("Foo", [x, w], [f"{value}y"], name=node).output])
    assert inexpressible(g) == ()
    assert_comes_back(g)


@PROPERTY
@given(st.text(st.sampled_from('gx "\\#<>(){}[]=,:@a1.\n-')))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_graph(f"{HEADER}g (x) => (y) {{ y = Foo (x) }}{text}")
    except UsageError as refused:
        assert refused.message.startswith("graph text")
