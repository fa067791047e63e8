"""The table itself: completeness, lookup by opset, overlap, and what may be folded or merged."""

from __future__ import annotations

import onnx
import pytest

from nncomp.errors import PluginError
from nncomp.ir import Graph, Op
from nncomp.ops import OpSemantics, OpTable, QuantRole, Role, builtin_table, rows

TABLE = builtin_table()

MODELS_USE = (
    "Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose DepthToSpace "
    "DequantizeLinear Div Equal Erf Flatten Gather Gemm GlobalAveragePool HardSigmoid Identity If "
    "InstanceNormalization LSTM LayerNormalization MatMul MaxPool Mul Not Pad Pow ReduceMean Relu Reshape Resize Shape "
    "Sigmoid Size Slice Softmax Sqrt Squeeze Sub Transpose Unsqueeze"
)
RUNTIME_MAKES = (
    "FusedConv Gelu FastGelu QuickGelu SkipLayerNormalization FusedMatMul DynamicQuantizeMatMul MatMulIntegerToFloat "
    "QLinearAdd QLinearMul QLinearConcat QLinearSigmoid QLinearLeakyRelu QLinearGlobalAveragePool QLinearAveragePool "
    "QLinearSoftmax MatMulNBits QGemm"
)


def op(kind: str, domain: str = "") -> Op:
    return Graph().add_op(kind, [], domain=domain)


def row(kind: str, opset: int = 21, domain: str = "") -> OpSemantics:
    found = TABLE.row(op(kind, domain), {"": opset, "com.microsoft": 1})
    assert found is not None, kind
    return found


@pytest.mark.parametrize("kind", MODELS_USE.split())
def test_each_op_that_models_use_has_a_row(kind: str) -> None:
    assert row(kind).kind == kind


@pytest.mark.parametrize("kind", RUNTIME_MAKES.split())
def test_each_op_that_onnx_runtime_fuses_to_has_a_row(kind: str) -> None:
    assert row(kind, domain="com.microsoft").kind == kind


def test_each_version_of_each_onnx_op_has_a_row() -> None:
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain]
    without = {
        (schema.name, schema.since_version)
        for schema in schemas
        if not schema.deprecated and TABLE.row(op(schema.name), {"": schema.since_version}) is None
    }
    assert without == set()


def test_rows_are_looked_up_by_the_opset_that_the_model_imports() -> None:
    assert TABLE.row(op("Upsample"), {"": 9}) is not None
    assert TABLE.row(op("Upsample"), {"": 10}) is None
    assert [row("Dropout", opset).deterministic for opset in (6, 7, 11, 12)] == [False, True, True, False]


def test_a_domain_that_is_not_imported_counts_as_version_1() -> None:
    table = OpTable([OpSemantics("Frobnicate", "acme", since=1, until=1), OpSemantics("Frobnicate", "acme", since=2)])
    found = table.row(op("Frobnicate", "acme"), {"": 21})
    assert found is not None
    assert found.until == 1


def test_two_rows_for_one_op_at_one_version_are_refused() -> None:
    with pytest.raises(PluginError) as raised:
        OpTable([OpSemantics("Frobnicate", "acme", until=5), OpSemantics("Frobnicate", "acme", since=5)])
    assert raised.value.code == "NNC-P003"
    assert str(raised.value) == "op semantics for acme.Frobnicate are given twice"


def test_a_row_of_a_plugin_cannot_replace_a_built_in_one() -> None:
    with pytest.raises(PluginError) as raised:
        TABLE.extended([OpSemantics("Relu")])
    assert str(raised.value) == "op semantics for ai.onnx.Relu are given twice"


def test_extending_leaves_the_table_as_it_was() -> None:
    extended = TABLE.extended([OpSemantics("Frobnicate", "acme")])
    assert extended.row(op("Frobnicate", "acme"), {}) is not None
    assert TABLE.row(op("Frobnicate", "acme"), {}) is None
    assert len(list(extended)) == len(list(TABLE)) + 1


def test_rows_for_several_ops_say_the_same() -> None:
    made = rows("Foo Bar", domain="acme", since=2, quant=QuantRole(Role.PASSTHROUGH), foldable=False)
    assert [(each.kind, each.domain, each.since, each.foldable) for each in made] == [
        ("Foo", "acme", 2, False),
        ("Bar", "acme", 2, False),
    ]


def test_random_ops_are_neither_folded_nor_merged() -> None:
    for kind in ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"):
        assert (row(kind).foldable, row(kind).deterministic) == (False, False)


def test_bodies_sequences_and_optionals_are_not_folded() -> None:
    for kind in ("If", "Loop", "Scan", "SequenceMap", "SequenceAt", "ConcatFromSequence", "OptionalGetElement"):
        assert not row(kind).foldable


def test_ordinary_ops_and_conversions_of_constants_are_folded() -> None:
    for kind in ("Add", "Conv", "Reshape", "Shape", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear"):
        assert row(kind).foldable
        assert row(kind).deterministic
