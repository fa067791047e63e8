# ruff: noqa: E501  tables: one case a line
"""Rows 11 to 67 of the list of bad inputs: models whose file is fine and whose content is not, through the command line.

A refusal is one line with a stable code and a place, takes no memory, and writes nothing. What is accepted keeps its
interface and its outputs.
"""

import json
import os
import resource
import time
import warnings as warnings_aside
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import nncomp
from nncomp.cli import main
from nncomp.onnx_io import load, save
from nncomp.runtime import run, run_bytes
from nncomp.testing.conformance import interface
from nncomp_cleanup.cleanup import Cleanup
from nncomp_fusion.fuse import Fuse
from nncomp_ort.legalize import legalize

FLOAT = TensorProto.FLOAT
HEADER = '<ir_version: 8, opset_import: ["": %d]> '


def parsed(text: str, opset: int = 17) -> ModelProto:
    return onnx.parser.parse_model(text if text.lstrip().startswith("<ir") else HEADER % opset + text)


def with_tensor(tensor: TensorProto, text: str = "g (float[4] x) => (float[4] y) { y = Add (x, w) }") -> ModelProto:
    model = parsed(text)
    model.graph.initializer.append(tensor)
    return model


def raw(dims, data=b"", dtype=FLOAT, **fields):
    return TensorProto(name="w", dims=dims, data_type=dtype, raw_data=data, **fields)


def external(data: bytes | None = None, dims=(4,), file="w.bin", **keys):
    """Return what writes a model with external data, and the data, into a folder."""

    def write(folder: Path) -> ModelProto:
        proto = TensorProto(name="w", dims=dims, data_type=FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in ({"location": file} | keys).items():
            proto.external_data.add(key=key, value=str(value))
        if data is not None:
            (folder / file).write_bytes(data)
        return with_tensor(proto)

    return write


FOUR = np.arange(4, dtype=np.float32).tobytes()


def linked(make):
    """Return what writes external data that ``make(data file)`` puts in place of a plain file."""

    def write(folder: Path) -> ModelProto:
        make(folder / "w.bin")
        return external()(folder)

    return write


def outside_link(path: Path) -> None:
    target = path.parent.parent / "elsewhere.bin"
    target.write_bytes(FOUR)
    path.symlink_to(target)


def edited(text, edit, opset=17):
    model = parsed(text, opset)
    edit(model)
    return model


def node(model, index=0):
    return model.graph.node[index]


RELU = "g (float[4] x) => (float[4] y) { y = Relu (x) }"
TWO = "g (float[4] x) => (float[4] y) { t = Relu (x) y = Neg (t) }"
SHADOW = "g (float[1] x, bool c) => (float[1] y) { t = Relu (x) y = If (c) <then_branch = a () => (float[1] u) { %s }, else_branch = b () => (float[1] v) { v = Neg (t) }> }"
QDQ = "g (float[1,4] x) => (float[1,4] y) <float[%d] s = {%s}, int8[%d] z = {%s}> { q = QuantizeLinear <axis = 1> (x, s, z) y = DequantizeLinear <axis = 1> (q, s, z) }"


def recursive():
    call = helper.make_node("f", ["a"], ["b"], domain="my")
    model = parsed(RELU)
    node(model).op_type, node(model).domain = "f", "my"
    model.opset_import.append(helper.make_opsetid("my", 1))
    model.functions.append(helper.make_function("my", "f", ["a"], ["b"], [call], [helper.make_opsetid("my", 1)]))
    return model


# row, name, model, exit status, code, message
REFUSED = [
    (11, "parent folder", external(file="../w.bin"), 3, "NNC-M010", "external data '../w.bin' of tensor 'w' escapes the model folder"),
    (11, "absolute path", external(location="/etc/hostname"), 3, "NNC-M010", "external data '/etc/hostname' of tensor 'w' escapes the model folder"),
    (11, "empty location", external(location=""), 3, "NNC-M010", "external data '' of tensor 'w' escapes the model folder"),
    (11, "NUL", external(location="w\0.bin"), 3, "NNC-M010", "external data 'w\\x00.bin' of tensor 'w' escapes the model folder"),
    (11, "backslash", external(location="..\\w.bin"), 3, "NNC-M010", "external data '..\\\\w.bin' of tensor 'w' escapes the model folder"),
    (12, "link that leads outside", linked(outside_link), 3, "NNC-M010", "external data 'w.bin' of tensor 'w' escapes the model folder"),
    (14, "link to a system file", linked(lambda path: path.symlink_to("/etc/hostname")), 3, "NNC-M010", "external data 'w.bin' of tensor 'w' escapes the model folder"),
    (16, "missing data file", external(), 3, "NNC-M011", "external data of tensor 'w' is missing: expected '{folder}/w.bin'"),
    (17, "file too short, no length", external(FOUR[:8]), 3, "NNC-M012", "tensor 'w' needs 16 bytes at 0 (length 16) of 'w.bin', which holds 8"),
    (18, "length below the dims", external(FOUR, length=8), 3, "NNC-M012", "tensor 'w' needs 16 bytes at 0 (length 8) of 'w.bin', which holds 16"),
    (19, "length past the end", external(FOUR, length=17), 3, "NNC-M012", "tensor 'w' needs 16 bytes at 0 (length 17) of 'w.bin', which holds 16"),
    (19, "offset past the end", external(FOUR, offset=20), 3, "NNC-M012", "tensor 'w' needs 16 bytes at 20 (length 16) of 'w.bin', which holds 16"),
    (19, "negative offset", external(FOUR, offset=-4), 3, "NNC-M012", "external data of tensor 'w' has offset '-4', expected a whole number"),
    (19, "sum overflows int64", external(FOUR, offset=2**63 - 1, length=2**63 - 1), 3, "NNC-M012", f"tensor 'w' needs 16 bytes at {2**63 - 1} (length {2**63 - 1}) of 'w.bin', which holds 16"),
    (19, "not a number", external(FOUR, length="abc"), 3, "NNC-M012", "external data of tensor 'w' has length 'abc', expected a whole number"),
    (20, "FIFO", linked(os.mkfifo), 3, "NNC-M013", "external data '{folder}/w.bin' of tensor 'w' is not a regular file"),
    (20, "folder", linked(os.mkdir), 3, "NNC-M013", "external data '{folder}/w.bin' of tensor 'w' is not a regular file"),
    (23, "in an attribute", lambda folder: constant_outside("../w.bin"), 3, "NNC-M010", "external data '../w.bin' of tensor 'w' escapes the model folder"),
    (25, "negative dimension", with_tensor(raw([-4], FOUR)), 3, "NNC-M020", "tensor 'w' has a negative dimension: [-4]"),
    (25, "dims overflow int64", with_tensor(raw([2**33, 2**33], FOUR)), 3, "NNC-M020", f"tensor 'w' has impossible dimensions: [{2**33}, {2**33}]"),
    (26, "4 TiB and no data", with_tensor(raw([2**40])), 3, "NNC-M020", f"tensor 'w' [{2**40}] holds 0 bytes, expected {2**42}"),
    (27, "raw data too short", with_tensor(raw([4], FOUR[:12])), 3, "NNC-M021", "tensor 'w' [4] holds 12 bytes, expected 16"),
    (28, "raw data too long", with_tensor(raw([4], FOUR + b"0000")), 3, "NNC-M021", "tensor 'w' [4] holds 20 bytes, expected 16"),
    (29, "data given twice", with_tensor(raw([4], FOUR, float_data=[1, 2, 3, 4])), 3, "NNC-M021", "tensor 'w' [4] holds both raw_data and float_data, expected one of them"),
    (30, "data type 0", with_tensor(raw([4], FOUR, dtype=0)), 3, "NNC-M022", "tensor 'w' has data type 0, which ONNX does not know"),
    (30, "data type 999", with_tensor(raw([4], FOUR, dtype=999)), 3, "NNC-M022", "tensor 'w' has data type 999, which ONNX does not know"),
    (36, "name that is not UTF-8", lambda folder: parsed(RELU).SerializeToString().replace(b"\x01x", b"\x01\xff"), 3, "NNC-M023", None),
    (37, "segment", with_tensor(raw([4], FOUR, segment=TensorProto.Segment(begin=0, end=4))), 3, "NNC-M024", "tensor 'w' is a segment of another"),
    (37, "sparse index out of range", lambda folder: sparse([9]), 3, "NNC-M024", "sparse tensor 'w' has indices out of range"),
    (38, "cycle", edited(TWO, lambda m: node(m).input.__setitem__(0, "y")), 3, "NNC-M030", "the graph has a cycle: Neg(y) -> Relu(t) -> Neg(y)"),
    (41, "two nodes produce one name", edited(TWO, lambda m: node(m).output.__setitem__(0, "y")), 3, "NNC-M031", "two things produce 'y'"),
    (42, "initializer is a node's output", edited(RELU, lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "y"))), 3, "NNC-M031", "two things produce 'y'"),
    (43, "undefined input", edited(RELU, lambda m: node(m).input.__setitem__(0, "nowhere")), 3, "NNC-M032", "'Relu(y)' reads 'nowhere', which nothing produces"),
    (44, "inner name shadows outer", lambda folder: parsed(SHADOW % "t = Abs (x) u = Relu (t)"), 3, "NNC-M033", "'t' shadows a name of graph 'g'"),
    (47, "duplicate graph inputs", edited(RELU, lambda m: m.graph.input.append(m.graph.input[0])), 3, "NNC-M034", "graph input 'x' is listed twice"),
    (47, "no outputs", edited(RELU, lambda m: m.graph.output.pop()), 3, "NNC-M034", "the graph has no outputs"),
    (48, "no operator", edited(RELU, lambda m: setattr(node(m), "op_type", "")), 3, "NNC-M035", "node '(y)' has no operator"),
    (48, "unknown attribute", lambda folder: parsed("g (float[4] x) => (float[4] y) { y = Relu <foo = 1> (x) }"), 3, "NNC-M035", "'Relu(y)': Relu has no attribute 'foo'"),
    (48, "attribute of wrong type", lambda folder: parsed("g (float[4] x) => (float[4] y) { y = LeakyRelu <alpha = 1> (x) }"), 3, "NNC-M035", "'LeakyRelu(y)': attribute 'alpha' is INT, expected FLOAT"),
    (48, "attribute given twice", edited("g (float[4] x) => (float[4] y) { y = LeakyRelu <alpha = 1.0> (x) }", lambda m: node(m).attribute.append(node(m).attribute[0])), 3, "NNC-M035", "attribute 'alpha' of 'LeakyRelu(y)' is given twice"),
    (48, "required attribute missing", lambda folder: parsed("g (float[4] x) => (float[4] y) { y = Cast (x) }"), 3, "NNC-M035", "'Cast(y)': attribute 'to' is required"),
    (49, "no opset", edited(RELU, lambda m: m.opset_import.pop()), 3, "NNC-M036", "the model imports no opset"),
    (49, "opset 0", edited(RELU, lambda m: setattr(m.opset_import[0], "version", 0)), 3, "NNC-M036", "opset 0 of 'ai.onnx' is unknown"),
    (49, "opset 999", edited(RELU, lambda m: setattr(m.opset_import[0], "version", 999)), 3, "NNC-M036", "opset 999 of 'ai.onnx' is unknown"),
    (49, "default domain twice", edited(RELU, lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 7))), 3, "NNC-M036", "domain 'ai.onnx' is imported twice"),
    (50, "IR version 0", edited(RELU, lambda m: setattr(m, "ir_version", 0)), 3, "NNC-M037", "IR version 0 is unknown"),
    (50, "IR version 999", edited(RELU, lambda m: setattr(m, "ir_version", 999)), 3, "NNC-M037", "IR version 999 is unknown"),
    (52, "op newer than its opset", lambda folder: parsed("g (float[4] x) => (float[4] y) { y = Gelu (x) }", 7), 3, "NNC-M038", "'Gelu(y)': Gelu came with opset 20, the model imports 7"),
    (55, "function that calls itself", recursive(), 3, "NNC-M039", "function 'f' of 'my' calls itself"),
    (57, "float and int64 added", edited("g (float[4] x) => (float[4] y) { y = Add (x, x) }", lambda m: (setattr(m.graph.input.add(), "name", "i"), m.graph.input[1].type.CopyFrom(helper.make_tensor_type_proto(7, [4])), node(m).input.__setitem__(1, "i"))), 3, "NNC-M040", None),
    (58, "contradicting sizes", lambda folder: parsed("g (float[4] x, float[5] z) => (float[4] y) { y = Add (x, z) }"), 3, "NNC-M040", None),
    (62, "metadata key twice", edited(RELU, lambda m: [m.metadata_props.add(key="k", value=v) for v in "ab"]), 3, "NNC-M034", "metadata key 'k' is given twice"),
    (64, "scale 0", parsed(QDQ % (1, "0.0", 1, "0")), 3, "NNC-M051", None),
    (64, "scale -1", parsed(QDQ % (1, "-1.0", 1, "0")), 3, "NNC-M051", None),
    (64, "scale NaN", edited(QDQ % (1, "1.0", 1, "0"), lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), "s"))), 3, "NNC-M051", None),
    (65, "zero points of another length", parsed(QDQ % (4, "1.0, 1.0, 1.0, 1.0", 2, "0, 0")), 3, "NNC-M051", None),
    (65, "scales of another length", parsed(QDQ % (3, "1.0, 1.0, 1.0", 3, "0, 0, 0")), 3, "NNC-M051", None),
]  # fmt: skip


def constant_outside(location: str) -> ModelProto:
    model = parsed(
        "g (float[4] x) => (float[4] y) { w = Constant <value = float[4] {1., 2., 3., 4.}> () y = Add (x, w) }"
    )
    tensor = node(model).attribute[0].t
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.name, tensor.data_location = "w", TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def sparse(indices) -> ModelProto:
    model = parsed("g (float[4] x) => (float[4] y) { y = Add (x, w) }")
    values = numpy_helper.from_array(np.ones(len(indices), np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64), "i"), [4])
    )
    return model


def written(model, folder: Path) -> Path:
    """Write what a case describes; return the path of the model."""
    folder.mkdir()
    made = model(folder) if callable(model) else model
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


@pytest.fixture
def compile_(capsys, tmp_path):
    def call(path, *more):
        capsys.readouterr()
        status = main(["compile", str(path), "-o", str(tmp_path / "out"), "--no-measure", "--json", *more])
        out, err = capsys.readouterr()
        return status, json.loads(out), err

    return call


@pytest.mark.row(*{case[0] for case in REFUSED})
@pytest.mark.parametrize(
    ("model", "status", "code", "message"),
    [case[2:] for case in REFUSED],
    ids=[f"row{case[0]}-{case[1]}" for case in REFUSED],
)
def test_a_bad_model_is_refused_in_one_line_and_nothing_is_written(compile_, tmp_path, model, status, code, message):
    path = written(model, tmp_path / "m")
    before = sorted(tmp_path.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, report, err = compile_(path, "-p", "cleanup")
    error = report["error"]
    assert (found, error["code"]) == (status, code), error
    if message is not None:
        assert error["message"] == message.replace("{folder}", str(path.parent))
    assert error["where"]["file"]
    assert err.splitlines()[0].startswith(f"nncomp: error {code}: ")
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB


def hard_link(path: Path) -> None:
    (path.parent / "other.bin").write_bytes(FOUR)
    os.link(path.parent / "other.bin", path)


def soft_link(path: Path) -> None:
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(FOUR)
    path.symlink_to(path.parent / "data" / "w.bin")


def overlapping(folder: Path) -> ModelProto:
    model = external(FOUR + FOUR)(folder)
    second = model.graph.initializer.add()
    second.CopyFrom(model.graph.initializer[0])
    second.name = "v"
    second.external_data.add(key="offset", value="8")
    model.graph.node.append(helper.make_node("Mul", ["y", "v"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, [4]))
    return model


def inside(folder: Path, location="w.bin") -> ModelProto:
    (folder / location).write_bytes(FOUR)
    return constant_outside(location)


def typed(dtype, dims=(4,), seed=0):
    """Return a model with a weight of a narrow type, an odd number of elements included."""
    data = np.random.default_rng(seed).bytes(
        -(-int(np.prod(dims)) * {21: 4, 22: 4, 25: 2, 26: 2}.get(dtype, 16 if dtype in (10, 16) else 8) // 8)
    )
    if dtype in (10, 16):
        data = np.zeros(int(np.prod(dims)), np.uint16).tobytes()
    shape = ",".join(map(str, dims))
    model = parsed(
        f'<ir_version: 13, opset_import: ["": 25]> g (float[{shape}] x) => (float[{shape}] y) {{ c = Cast <to = 1> (w) y = Add (x, c) }}'
    )
    model.graph.initializer.append(raw(list(dims), data, dtype))
    return model


def named(name: str) -> ModelProto:
    return edited(TWO, lambda m: (node(m).output.__setitem__(0, name), node(m, 1).input.__setitem__(0, name)))


def function_model() -> ModelProto:
    model = edited(
        "g (float[4] x) => (float[4] y) { t = my.f <slope = 0.5> (x) y = my.f (t) }",
        lambda m: m.opset_import.append(helper.make_opsetid("my", 1)),
    )
    inner = helper.make_node("LeakyRelu", ["a"], ["b"])
    inner.attribute.add(name="alpha", ref_attr_name="slope", type=1)
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("my", "f", ["a"], ["b"], [inner], opset, [], [helper.make_attribute("slope", 0.25)])
    )
    return model


def overridable() -> ModelProto:
    model = parsed(
        '<ir_version: 3, opset_import: ["": 17]> g (float[4] x, float[4] w) => (float[4] y) { y = Add (x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    return model


def training() -> ModelProto:
    def add(model):
        info = model.training_info.add()
        info.algorithm.name = "step"
        info.algorithm.node.add(op_type="Relu", input=["a"], output=["b"])

    return edited(TWO, add)


def not_a_number() -> ModelProto:
    weights = numpy_helper.from_array(np.array([1, np.nan, 2, np.inf], np.float32), "w")
    return with_tensor(weights, "g (float[4] x) => (float[4] y) { y = Mul (x, w) }")


def loop_bomb() -> ModelProto:
    return parsed(
        "g (float[4] x) => (float[4] y) <int64 m = {4611686018427387904}, bool go = {1}, float[1] zero = {0.0}>"
        "{ v = Loop (m, go, zero) <body = b (int64 i, bool c, float[1] a) => (bool d, float[1] e)"
        " { d = Identity (c) e = Neg (a) }> y = Add (x, v) }"
    )


def swap(model: ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


CONSTANT = "g (float[4] x) => (float[4] y) <float[4] w = {%s}> { y = Mul (x, w) }"

# row, name, model, codes of warnings
ACCEPTED = [
    (12, "link inside the folder", linked(soft_link), []),
    (15, "hard link", linked(hard_link), ["NNC-W050"]),
    (21, "unknown keys", external(FOUR, __class__="x", basepath="/"), ["NNC-W050", "NNC-W050"]),
    (22, "overlapping ranges", overlapping, []),
    (23, "data of an attribute", inside, []),
    (31, "NaN weights", not_a_number(), ["NNC-W030"]),
    (32, "denormal weights", parsed(CONSTANT % "0.0, 1e-44, 0.0, 1.0"), []),
    (33, "zero-size tensor", edited("g (float[4] x) => (float[4] y, float[0] z) { y = Add (x, x) z = Neg (e) }", lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), "e"))), []),
    (34, "float16", typed(TensorProto.FLOAT16), []),
    (34, "bfloat16", typed(TensorProto.BFLOAT16), []),
    (34, "float8", typed(TensorProto.FLOAT8E4M3FN), []),
    (34, "int4 of odd length", typed(TensorProto.INT4, (3, 5)), []),
    (34, "int2", typed(TensorProto.INT2, (7,)), []),
    (37, "sparse weight", lambda folder: sparse([0, 2]), []),
    (39, "unsorted nodes", edited(TWO, swap), []),
    (40, "duplicate node names", edited(TWO, lambda m: [setattr(n, "name", "same") for n in m.graph.node]), []),
    (45, "initializer that is an input", overridable(), []),
    (46, "output that is an input", parsed("g (float[4] x) => (float[4] x) { }"), []),
    (46, "output that is an initializer", parsed("g (float[4] x) => (float[2] w) <float[2] w = {1.0, 2.0}> { y = Relu (x) }"), []),
    (46, "no nodes, unused input", parsed("g (float[4] x, float[4] unused) => (float[4] x) { }"), []),
    (51, "IR version 14", parsed('<ir_version: 14, opset_import: ["": 21]> ' + RELU), []),
    (54, "opset 6", parsed("g (float[4] x) => (float[4] y) { y = Relu (x) }", 6), []),
    (54, "opset 7", parsed(RELU, 7), []),
    (54, "opset 26", parsed(RELU, 26), []),
    (54, "opset 28", parsed('<ir_version: 14, opset_import: ["": 28]> ' + RELU), []),
    (56, "functions with attribute references", function_model(), []),
    (57, "declared shape inside is wrong", parsed("g (float[4] x) => (float[4] y) <float[5] t> { t = Relu (x) y = Neg (t) }"), ["NNC-W041"]),
    (58, "dim_value -1", edited(RELU, lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -1)), ["NNC-W041"]),
    (59, "name with newline and bidi marks", named("../t\n\u202e\x1b[31m"), []),
    (59, "name of 100 kB", named("t" * 100_000), []),
    (61, "ConstantOfShape bomb", parsed("g (float[4] x) => (float[4] y) <int64[1] s = {274877906944}> { b = ConstantOfShape (s) t = Shape (b) c = Cast <to = 1> (t) y = Add (x, c) }"), ["NNC-W063"]),
    (61, "Range bomb", parsed("g (float[4] x) => (float[4] y) <int64 a = {0}, int64 b = {4000000000}, int64 d = {1}> { r = Range (a, b, d) s = Shape (r) c = Cast <to = 1> (s) y = Add (x, c) }"), []),
    (62, "training info", training(), []),
]  # fmt: skip
HUNGRY = ("ConstantOfShape bomb", "Range bomb")


@pytest.mark.row(*{case[0] for case in ACCEPTED})
@pytest.mark.parametrize(
    ("name", "model", "warnings"), [case[1:] for case in ACCEPTED], ids=[f"row{case[0]}-{case[1]}" for case in ACCEPTED]
)
def test_an_odd_model_is_accepted_and_keeps_interface_and_outputs(compile_, tmp_path, name, model, warnings):
    path = written(model, tmp_path / "m")
    started = time.process_time()
    status, report, err = compile_(path, "-p", "cleanup", "-p", "fuse")
    assert status == 0, err
    assert time.process_time() - started < 10
    assert [one["code"] for one in report["warnings"]] == warnings
    result = tmp_path / "out" / "model.onnx"
    assert interface(onnx.load(result)) == interface(onnx.load(path, load_external_data=False))
    with warnings_aside.catch_warnings(action="ignore"):
        original = load(path)
    assert load(result).info.training_info == original.info.training_info
    assert "\x1b" not in err
    if name not in HUNGRY:
        x = np.array([-1.5, 0, 2, np.inf], np.float32)
        shape = [dim for dim in original.inputs[0].shape if isinstance(dim, int)] or [4]
        feeds = {"x": np.resize(x, shape)} | ({"unused": x} if "unused" in name else {})
        legalize(original)
        before, after = run(original, feeds), run_bytes(result.read_bytes(), [feeds])[0]
        assert {name: array.tobytes() for name, array in before.items()} == {
            name: array.tobytes() for name, array in after.items()
        }


@pytest.mark.row(53)
def test_an_op_that_nobody_knows_is_kept_and_refused_only_by_the_target(compile_, tmp_path):
    foreign = edited(
        RELU, lambda m: (setattr(node(m), "domain", "acme"), m.opset_import.append(helper.make_opsetid("acme", 1)))
    )
    path = written(foreign, tmp_path / "m")
    status, report, _ = compile_(path, "-p", "cleanup")
    assert (status, report["error"]["code"]) == (4, "NNC-T002")
    graph = load(path)
    nncomp.Pipeline([Cleanup(), Fuse()]).run(graph, nncomp.Context())
    assert [(op.domain, op.kind) for op in graph.ops()] == [("acme", "Relu")]


def chain(length: int) -> ModelProto:
    nodes = [helper.make_node(("Relu", "Neg")[n % 2], [f"v{n}" if n else "x"], [f"v{n + 1}"]) for n in range(length)]
    info = [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("x", f"v{length}")]
    graph = helper.make_graph(nodes, "chain", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.row(60)
def test_long_chains_are_walked_without_recursion(tmp_path):
    graph = load(written(chain(50_000), tmp_path / "long"))
    save(graph, tmp_path / "out.onnx")
    assert len(graph.ops()) == 50_000
    shorter = load(written(chain(5_000), tmp_path / "short"))
    nncomp.Pipeline([Cleanup()]).run(shorter, nncomp.Context())
    assert len(shorter.ops()) == 5_000


@pytest.mark.row(36)
def test_strings_that_are_not_utf8_are_kept_as_bytes(tmp_path):
    model = parsed("g () => (string[2] s) { s = Identity (w) }")
    model.graph.initializer.append(
        TensorProto(name="w", dims=[2], data_type=TensorProto.STRING, string_data=[b"\xff\xfe", b"ok"])
    )
    path = written(model, tmp_path / "m")
    save(load(path), tmp_path / "back.onnx")
    assert list(onnx.load(tmp_path / "back.onnx").graph.initializer[0].string_data) == [b"\xff\xfe", b"ok"]


@pytest.mark.row(15, 21)
def test_strict_refuses_odd_external_data(compile_, tmp_path):
    path = written(linked(hard_link), tmp_path / "m")
    status, report, _ = compile_(path, "-p", "cleanup", "--strict")
    assert (status, report["error"]["code"]) == (3, "NNC-W050")
    assert report["error"]["message"] == "--strict: a warning: external data 'w.bin' has 2 hard links"
    assert not (tmp_path / "out").exists()


@pytest.mark.row(61)
def test_a_loop_of_2_to_the_62_rounds_is_never_folded(tmp_path):
    graph = load(written(loop_bomb(), tmp_path / "m"))
    nncomp.Pipeline([Cleanup(), Fuse(), Cleanup()]).run(graph, nncomp.Context())
    assert [op.kind for op in graph.ops()] == ["Loop", "Add"]
