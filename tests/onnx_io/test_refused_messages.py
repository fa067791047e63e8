"""What no graph can be made of is refused with a code and the place."""

from __future__ import annotations

import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from nncomp.errors import ModelError
from nncomp.onnx_io import from_bytes, graph_from_proto


def model(text: str, header: str = 'ir_version: 10, opset_import: ["": 17, "com.acme": 1]') -> ModelProto:
    proto = onnx.parser.parse_model(f"<{header}> {text}")
    forget_empty_domains(proto.graph)
    return proto


def forget_empty_domains(proto: GraphProto) -> None:
    """The parser writes ``domain: ""``, which says as much as no domain."""
    for node in proto.node:
        if not node.domain:
            node.ClearField("domain")
        for attr in node.attribute:
            forget_empty_domains(attr.g)


PLAIN = "g (float[2] x) => (float[2] y) <float[2] a> { a = Relu (x)  y = Neg (a) }"


def refusal(proto: ModelProto) -> tuple[str, str]:
    with pytest.raises(ModelError) as error:
        graph_from_proto(proto)
    return error.value.code, error.value.message


# ---------------------------------------------------------------- what is refused


def node(*outputs: str, op_type: str = "Relu") -> NodeProto:
    return helper.make_node(op_type, ["x"], list(outputs))


def test_a_message_without_a_graph_is_refused() -> None:
    assert refusal(ModelProto(ir_version=10)) == ("NNC-M005", "the file holds no ONNX graph")


def test_two_nodes_that_produce_one_name_are_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.graph.node.append(node("y"))
    assert refusal(proto) == ("NNC-M031", "two things produce 'y'")


def test_a_node_that_produces_a_graph_input_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.graph.node.append(node("x"))
    assert refusal(proto) == ("NNC-M031", "two things produce 'x'")


def test_a_node_that_produces_an_initializer_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Relu (x) }")
    proto.graph.node.append(node("w"))
    assert refusal(proto) == ("NNC-M031", "two things produce 'w'")


def test_two_initializers_of_one_name_are_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Relu (x) }")
    proto.graph.initializer.append(proto.graph.initializer[0])
    assert refusal(proto) == ("NNC-M031", "two things produce 'w'")


def test_two_functions_of_one_name_are_refused() -> None:
    function = '<domain: "local", opset_import: ["": 17]> f (x) => (y) { y = Relu (x) }'
    proto = model(f"{PLAIN} {function} {function}", 'ir_version: 10, opset_import: ["": 17, "local": 1]')
    assert refusal(proto) == ("NNC-M031", "function 'f' of 'local' is defined twice")


def test_a_name_that_nothing_produces_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { [add] y = Relu (z) }")
    assert refusal(proto) == ("NNC-M032", "'add' reads 'z', which nothing produces")


def test_an_output_that_nothing_produces_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { a = Relu (x) }")
    assert refusal(proto) == ("NNC-M032", "'the graph output list' reads 'y', which nothing produces")


@pytest.mark.parametrize(
    "body", ["t () => (x) { x = Neg (c) }", "t () => (x) <float[2] x = {1, 2}> { }", "t (float[2] x) => (x) { }"]
)
def test_a_bodys_name_that_shadows_an_outer_one_is_refused(body: str) -> None:
    proto = model(f"g (bool c, float[2] x) => (y) {{ y = com.acme.Foo (c) <body = {body}> }}")
    assert refusal(proto) == ("NNC-M033", "'x' shadows a name of graph 'g'")


def test_an_input_listed_twice_is_refused() -> None:
    proto = model(PLAIN)
    proto.graph.input.append(proto.graph.input[0])
    assert refusal(proto) == ("NNC-M034", "graph input 'x' is listed twice")


def test_a_metadata_key_given_twice_is_refused() -> None:
    proto = model(PLAIN)
    for value in "ab":
        proto.metadata_props.add(key="k", value=value)
    assert refusal(proto) == ("NNC-M034", "metadata key 'k' is given twice")


def test_a_node_without_an_operator_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.graph.node[0].op_type = ""
    assert refusal(proto) == ("NNC-M035", "node '(y)' has no operator")


def test_an_attribute_given_twice_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 0.5> (x) }")
    proto.graph.node[0].attribute.append(proto.graph.node[0].attribute[0])
    assert refusal(proto) == ("NNC-M035", "attribute 'alpha' of 'LeakyRelu(y)' is given twice")


def test_an_attribute_without_a_type_is_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = LeakyRelu (x) }")
    proto.graph.node[0].attribute.add(name="alpha", f=0.5)
    assert refusal(proto) == ("NNC-M035", "attribute 'alpha' of 'LeakyRelu(y)' has no type")


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ([], "the model imports no opset"),
        ([("", 0)], "opset 0 of 'ai.onnx' is unknown"),
        ([("", 999)], "opset 999 of 'ai.onnx' is unknown"),
        ([("acme", 0)], "opset 0 of 'acme' is unknown"),
        ([("", 17), ("", 7)], "domain 'ai.onnx' is imported twice"),
        ([("", 17), ("ai.onnx", 17)], "domain 'ai.onnx' is imported twice"),
    ],
)
def test_malformed_opset_imports_are_refused(imports: list[tuple[str, int]], message: str) -> None:
    proto = model(PLAIN)
    del proto.opset_import[:]
    for domain, version in imports:
        proto.opset_import.add(domain=domain, version=version)
    assert refusal(proto) == ("NNC-M036", message)


@pytest.mark.parametrize("version", [0, 999])
def test_an_unknown_ir_version_is_refused(version: int) -> None:
    proto = model(PLAIN)
    proto.ir_version = version
    assert refusal(proto) == ("NNC-M037", f"IR version {version} is unknown")


def test_functions_that_call_each_other_in_a_circle_are_refused() -> None:
    proto = model(
        PLAIN + '<domain: "local", opset_import: ["": 17, "local": 1]> f (x) => (y) { y = local.h (x) }'
        '<domain: "local", opset_import: ["": 17, "local": 1]> h (x) => (y) { y = local.f (x) }',
        'ir_version: 10, opset_import: ["": 17, "local": 1]',
    )
    assert refusal(proto) == ("NNC-M039", "function 'f' of 'local' calls itself")


def test_a_function_that_calls_itself_in_a_body_is_refused() -> None:
    proto = model(
        PLAIN + '<domain: "local", opset_import: ["": 17, "local": 1]> f (c, x) => (y) '
        "{ y = If (c) <then_branch = t () => (p) { p = local.f (c, x) }, else_branch = e () => (q) { q = Neg (x) }> }",
        'ir_version: 10, opset_import: ["": 17, "local": 1]',
    )
    assert refusal(proto) == ("NNC-M039", "function 'f' of 'local' calls itself")


TEXTS = "prod mdom mdoc grf gdoc NN xin dd yout vvv nnn Rel dom atr ndoc idoc gkey gval nkey nval tdoc adoc deno ovl"


@pytest.mark.parametrize("text", TEXTS.split())
def test_text_that_is_not_utf8_is_refused_wherever_it_stands(text: str) -> None:
    proto = model(
        "grf (float[NN] xin, float[2] dd = {1, 2}) => (float[2] yout) "
        "{ [nnn] vvv = dom.Rel <atr = 1> (xin, dd)  yout = Relu (vvv) }",
        'ir_version: 10, opset_import: ["": 17, "dom": 1], producer_name: "prod", domain: "mdom", doc_string: "mdoc"',
    )
    main, first = proto.graph, proto.graph.node[0]
    main.doc_string, first.doc_string, main.input[0].doc_string, first.overload = "gdoc", "ndoc", "idoc", "ovl"
    main.initializer[0].doc_string, first.attribute[0].doc_string = "tdoc", "adoc"
    main.input[0].type.denotation = "deno"
    main.metadata_props.add(key="gkey", value="gval")
    first.metadata_props.add(key="nkey", value="nval")
    data = proto.SerializeToString()
    assert from_bytes(data).ops()
    with pytest.raises(ModelError) as error:
        from_bytes(data.replace(text.encode(), text[:-1].encode() + b"\xff"))
    assert (error.value.code, error.value.message) == ("NNC-M023", "a name is not valid UTF-8")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"dims": [-1]}, "NNC-M020", "tensor 'w' has a negative dimension: [-1]"),
        ({"dims": [2**33, 2**33]}, "NNC-M020", f"tensor 'w' has impossible dimensions: [{2**33}, {2**33}]"),
        ({"data_type": 0}, "NNC-M022", "tensor 'w' has data type 0, which ONNX does not know"),
        ({"data_type": 999}, "NNC-M022", "tensor 'w' has data type 999, which ONNX does not know"),
        ({"segment": TensorProto.Segment(begin=0, end=1)}, "NNC-M024", "tensor 'w' is a segment of another"),
    ],
    ids=["negative", "overflow", "no type", "unknown type", "segment"],
)
def test_a_malformed_tensor_is_refused(change: dict[str, object], code: str, message: str) -> None:
    proto = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }")
    fields = {"name": "w", "data_type": 1, "dims": [2], "raw_data": b"\0" * 8} | change
    proto.graph.initializer[0].CopyFrom(TensorProto(**fields))  # type: ignore[arg-type]
    assert refusal(proto) == (code, message)


@pytest.mark.parametrize(
    ("dims", "indices", "message"),
    [
        ([-4], [0], "sparse tensor 'w' has a negative dimension"),
        ([4], [4], "sparse tensor 'w' has indices out of range"),
        ([4], [-1], "sparse tensor 'w' has indices out of range"),
        ([4], [0, 1], "sparse tensor 'w' has indices out of range"),
    ],
)
def test_a_malformed_sparse_tensor_is_refused(dims: list[int], indices: list[int], message: str) -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Add (x, w) }")
    sparse = proto.graph.sparse_initializer.add()
    sparse.dims.extend(dims)
    sparse.values.CopyFrom(helper.make_tensor("w", 1, [1], [1.0]))
    sparse.indices.CopyFrom(helper.make_tensor("", 7, [len(indices)], indices))
    assert refusal(proto) == ("NNC-M024", message)
