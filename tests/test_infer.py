"""Types of all values: found by onnx and by the table's rules, refined and never contradicted, without the weights."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import pytest

from nncomp.errors import ModelError
from nncomp.infer import infer_types, inferred_types, merged_type
from nncomp.ir import DataType, Graph, OptionalType, SequenceType, TensorType, Type
from nncomp.ops import OpSemantics, builtin_table
from nncomp.testing import graph
from nncomp.verify import verify

F = DataType.FLOAT


def types(g: Graph) -> Mapping[str, str]:
    return {value.name: str(value.type) for part in g.graphs() for value in part.values()}


def test_every_output_gets_a_type() -> None:
    g = graph("g (float[N,3,8,8] x) => (y) <float[4,3,3,3] w> { a = Conv (x, w)  b = Relu (a)  y = Flatten (b) }")
    infer_types(g)
    assert types(g) == {
        "x": "float[N,3,8,8]",
        "w": "float[4,3,3,3]",
        "a": "float[N,4,6,6]",
        "b": "float[N,4,6,6]",
        "y": "float[N,144]",
    }


def test_large_constants_decide_shapes_by_their_type_only() -> None:
    g = graph("g (float[1,2000] x) => (y) <float[2000,3000] w> { y = MatMul (x, w) }")
    infer_types(g)
    assert types(g)["y"] == "float[1,3000]"


def test_small_constants_decide_shapes_by_their_data() -> None:
    g = graph("g (float[2,6] x) => (y) <int64[2] s = {3, -1}> { y = Reshape (x, s) }")
    infer_types(g)
    assert types(g)["y"] == "float[3,4]"


def test_a_default_that_a_caller_may_override_decides_no_shape() -> None:
    g = graph("g (float[2,6] x, int64[2] s = {3, 4}) => (y) { y = Reshape (x, s) }")
    infer_types(g)
    type_ = g.find("y").type
    assert isinstance(type_, TensorType)
    assert (type_.rank, type_.static_shape) == (2, None)


def test_bodies_and_what_they_capture_get_types() -> None:
    g = graph(
        "g (bool c, float[2] x) => (y) <float[2000] w> { h = Relu (x)  y = If (c) "
        "<then_branch = t () => (p) { p = Neg (h) }, else_branch = e () => (q) { r = Abs (w)  q = Neg (h) }> }"
    )
    infer_types(g)
    found = types(g)
    assert (found["p"], found["q"], found["r"], found["y"]) == ("float[2]", "float[2]", "float[2000]", "float[2]")
    inner = g.ops()[1].bodies["then_branch"].find("h")
    assert str(inner.type) == "float[2]"


def test_weights_inside_a_body_are_seen_by_their_type() -> None:
    g = graph(
        "g (bool c, float[1,64] x) => (y) { y = If (c) <then_branch = t () => (p) <float[64,64] w> "
        "{ p = MatMul (x, w) }, else_branch = e () => (q) { q = Neg (x) }> }"
    )
    infer_types(g)
    assert types(g)["p"] == "float[1,64]"


def test_a_known_type_is_refined_and_never_lost() -> None:
    g = graph("g (float[N,3] x) => (y) <float[?,?] a> { a = Relu (x)  y = com.acme.Foo (a) }")
    g.set_type(g.find("y"), TensorType(F, (7,)))
    infer_types(g)
    assert (types(g)["a"], types(g)["y"]) == ("float[N,3]", "float[7]")


def test_input_types_are_the_users_and_stay() -> None:
    g = graph("g (float[] x) => (y) { y = Relu (x) }")
    infer_types(g, input_shapes={"x": (2, 3)})
    assert (types(g)["x"], types(g)["y"]) == ("float[]", "float[2,3]")


def test_sizes_may_be_assumed_for_inputs() -> None:
    g = graph("g (float[N,C] x) => (float[N,C] y) <float[N,C] a> { a = Relu (x)  y = Neg (a) }")
    found = inferred_types(g, input_shapes={"x": (5, 6)})
    assert {value.name: str(type_) for value, type_ in found.items()} == {"a": "float[5,6]", "y": "float[5,6]"}
    assert types(g)["x"] == "float[N,C]"


def test_inferring_twice_changes_nothing_more() -> None:
    g = graph("g (float[2] x) => (y) { a = Relu (x)  y = Neg (a) }")
    infer_types(g)
    version = g.version
    infer_types(g)
    assert g.version == version


def test_skipped_outputs_and_inputs_do_not_confuse() -> None:
    g = graph(
        "g (float[4,5] x, float h) => (y) <int64[1] k = {2}> { a = Clip (x, , h)  v, i = TopK (a, k)  y = Neg (i) }"
    )
    g.drop_output(g.ops()[1], 0)
    infer_types(g)
    assert types(g)["i"] == types(g)["y"] == "int64[4,2]"
    assert g.ops()[1].outputs[0].type is None
    verify(g)


def test_sequences_get_types() -> None:
    g = graph("g (float[2] x) => (y) { s = SequenceConstruct (x, x)  y = SequenceLength (s) }")
    infer_types(g)
    assert g.find("s").type == SequenceType(TensorType(F, (2,)))


def test_ops_that_onnx_does_not_know_get_types_from_the_table() -> None:
    g = graph("g (float[2] x) => (y) { a = com.acme.Double (x)  y = com.acme.Foo (a) }")
    row = OpSemantics(kind="Double", domain="com.acme", infer=lambda op: (op.inputs[0].type,))  # type: ignore[union-attr]
    infer_types(g, builtin_table().extended([row]))
    assert (types(g)["a"], types(g)["y"]) == ("float[2]", "None")


def test_ops_of_a_domain_that_is_not_imported_stop_nothing() -> None:
    g = graph("g (float[2] x) => (y) { y = Relu (x) }")
    g.add_op("Foo", [g.find("x")], domain="com.acme")
    infer_types(g)
    assert types(g) == {"x": "float[2]", "y": "float[2]", "foo": "None"}


@pytest.mark.parametrize("line", ["y = MatMul (x, x)", "y = Cast <to = 7> (x)"])
def test_where_onnx_finds_a_contradiction_the_known_type_stays(line: str) -> None:
    g = graph(f"g (float[2,3] x) => (float[2,3] y) {{ {line} }}")
    infer_types(g)
    assert g.find("y").type == TensorType(F, (2, 3))


def test_what_onnx_refuses_outright_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise onnx.shape_inference.InferenceError("[ShapeInferenceError] no such rank\nand a stack")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", refuse)
    with pytest.raises(ModelError) as error:
        infer_types(graph("g (float[2] x) => (y) { y = Relu (x) }"))
    assert error.value.code == "NNC-M040"
    assert error.value.message == "types do not fit: [ShapeInferenceError] no such rank"


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        (None, TensorType(F, (2,)), TensorType(F, (2,))),
        (TensorType(F), TensorType(F, (2,)), TensorType(F, (2,))),
        (TensorType(F, (2,)), TensorType(F), TensorType(F, (2,))),
        (TensorType(F, (None, "N")), TensorType(F, (4, 5)), TensorType(F, (4, 5))),
        (TensorType(F, ("N", 3)), TensorType(F, (None, "M")), TensorType(F, ("N", 3))),
        (TensorType(F, (2,)), TensorType(F, (3,)), TensorType(F, (2,))),
        (TensorType(F, (2,)), TensorType(F, (1, 2)), TensorType(F, (1, 2))),
        (TensorType(F, (2,)), TensorType(DataType.INT8, (2,)), TensorType(F, (2,))),
        (TensorType(DataType.UNDEFINED, (2,)), TensorType(F, (2,)), TensorType(F, (2,))),
        (SequenceType(TensorType(F)), TensorType(F), SequenceType(TensorType(F))),
        (OptionalType(TensorType(F)), TensorType(F), OptionalType(TensorType(F))),
        (TensorType(F, (1,), "IMAGE", ("N",)), TensorType(F, (1,)), TensorType(F, (1,), "IMAGE", ("N",))),
    ],
)
def test_of_two_types_the_more_exact_one_holds_and_the_known_one_wins(
    known: Type | None, found: Type, expected: Type
) -> None:
    assert merged_type(known, found) == expected


def test_a_spectrum_is_one_sided_unless_it_says_otherwise():
    given = graph(
        """
        g (float[2,30,1] x) => (float[] y, float[] z) <int64 step = {4}, float[8] window = {1, 2, 3, 4, 4, 3, 2, 1}>
        { a = STFT (x, step, window) y = Identity (a) b = STFT <onesided = 0> (x, step, window) z = Identity (b) }
        """,
        opset=17,
    )
    infer_types(given)
    assert given.find("a").shape == (2, 6, 5, 2)
    assert given.find("b").shape == (2, 6, 8, 2)
