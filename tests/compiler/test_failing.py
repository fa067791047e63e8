"""Passes and models that fail: nothing is left behind, and what failed can be replayed."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from nncomp.compiler import (
    CompileRequest,
    compile_model,
)
from nncomp.errors import (
    GateError,
    ModelError,
    NncompError,
    PluginError,
    UnsupportedError,
)
from nncomp.onnx_io import load
from nncomp.plugins import Registry
from nncomp.testing import graph


def compiled(registry, model, **request):
    return compile_model(CompileRequest(model=model, **{"target": "acme", **request}), registry)


def files_in(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ------------------------------------------------------------------ passes that fail


@pytest.mark.parametrize(
    ("name", "error", "code", "message"),
    [
        ("liar", GateError, "NNC-G001", "pass 'liar' declares exact, but output 'y' changed by"),
        ("breaker", PluginError, "NNC-P011", "pass 'breaker' of plugin 'acme' failed: ValueError: acme is broken"),
        ("dangler", GateError, "NNC-G002", "pass 'dangler' left an invalid graph:"),
        ("renamer", GateError, "NNC-G003", "pass 'renamer' changed the graph inputs from (x: float[N,4]) to"),
        ("quitter", PluginError, "NNC-P011", "pass 'quitter' of plugin 'acme' failed: SystemExit: 3"),
        ("hungry", MemoryError, "", ""),
        ("interrupted", KeyboardInterrupt, "", ""),
    ],
)
def test_a_failing_pass_leaves_the_destination_alone_and_names_itself(
    registry, model, tmp_path, name, error, code, message
):
    out = tmp_path / "out"
    compiled(registry, model, out=out)
    before = {path: (out / path).read_bytes() for path in files_in(out)}
    with pytest.raises(error) as caught:
        compiled(registry, model, out=out, passes=(name,))
    assert {path: (out / path).read_bytes() for path in files_in(out)} == before
    assert not [path for path in files_in(tmp_path) if ".nncomp-" in path]
    if isinstance(caught.value, NncompError):
        assert caught.value.code == code
        assert caught.value.message.startswith(message)
        assert caught.value.where.pass_name == name


def test_what_replays_a_failed_pass_is_kept_beside_the_output(registry, model, tmp_path):
    with pytest.raises(GateError) as caught:
        compiled(registry, model, out=tmp_path / "out", passes=("drop-identity", "liar"))
    assert files_in(tmp_path / "out.repro") == ["before.onnx", "feeds.npz", "recipe.toml"]
    assert f"nncomp compile {tmp_path}/out.repro/before.onnx -r {tmp_path}/out.repro/recipe.toml" in caught.value.hint
    assert [op.kind for op in load(tmp_path / "out.repro" / "before.onnx").ops()] == ["MatMul"]
    with pytest.raises(GateError):
        compiled(
            registry,
            tmp_path / "out.repro" / "before.onnx",
            recipe=tmp_path / "out.repro" / "recipe.toml",
            data=str(tmp_path / "out.repro" / "feeds.npz"),
        )


def test_what_replays_a_pass_of_a_plugin_given_by_name_names_the_plugin(model, tmp_path, monkeypatch):
    (tmp_path / "acme_liar.py").write_text(
        "import nncomp\n"
        "NNCOMP_API = 1\n"
        "class Raiser(nncomp.Pass):\n"
        "    name = 'raiser'\n"
        "    effect = nncomp.Effect.EXACT\n"
        "    def run(self, graph, ctx):\n"
        "        raise KeyError('boo')\n"
        "@nncomp.hookimpl\n"
        "def nncomp_passes():\n"
        "    return [Raiser]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError) as caught:
        compiled(Registry.discover(["acme_liar"]), model, out=tmp_path / "out", passes=("raiser",), target="ort")
    assert f" -o {tmp_path}/out.repro/out --plugin acme_liar --data " in caught.value.hint


def test_keep_going_rolls_a_failed_pass_back_and_says_so(registry, model):
    result = compiled(registry, model, passes=("drop-identity", "breaker", "nothing"), keep_going=True)
    assert [op.kind for op in result.artifact.graph.ops()] == ["MatMul"]
    assert [bool(one.error) for one in result.report.passes] == [False, True, False]
    assert result.report.accuracy.sqnr_db > 100  # the original's run may be optimized
    assert result.report.warnings[0].code == "NNC-P011"


def test_without_a_gate_a_lie_goes_through_and_the_report_says_that_nobody_looked(registry, model):
    report = compiled(registry, model, passes=("liar",), gate=False).report
    assert report.as_dict()["gate"] == "off"
    assert report.passes[0].gate is None


def test_what_a_rude_pass_changes_of_the_process_is_put_back(registry, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.random.seed(3)
    state, error = np.random.get_state()[1].copy(), np.geterr()
    filters = list(warnings.filters)
    result = compiled(registry, model, passes=("rude",))
    assert Path.cwd() == tmp_path
    assert (np.random.get_state()[1] == state).all()
    assert np.geterr() == error
    assert warnings.filters == filters
    assert result.report.status == "done"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "acme says hello\nand hello again\n"


def test_a_target_that_cannot_take_the_result_is_exit_4(registry):
    net = graph("g (float[2,3] x) => (float[2,3] y) { y = Softmax (x) }")
    with pytest.raises(UnsupportedError, match="acme has no softmax"):
        compiled(registry, net, passes=("nothing",))


# ------------------------------------------------------------------ what else can go wrong


def test_an_invalid_model_is_refused_before_any_pass(registry, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"], nonsense=1)
    proto = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]), ir_version=8)
    proto.opset_import[0].version = 17
    onnx.save(proto, tmp_path / "bad.onnx")
    with pytest.raises(ModelError) as caught:
        compiled(registry, tmp_path / "bad.onnx", passes=("drop-identity",), out=tmp_path / "out")
    assert (caught.value.code, caught.value.where.file) == ("NNC-M035", str(tmp_path / "bad.onnx"))
    assert not (tmp_path / "out").exists()


def test_an_original_that_cannot_be_run_is_compiled_and_the_report_says_what_is_missing(registry, monkeypatch):
    text = '<ir_version: 10, opset_import: ["": 17, "acme": 1]> g (float[1] x) => (float[1] y) { y = acme.Magic (x) }'
    from nncomp.targets import Artifact

    class Stub(Artifact):
        def save(self, folder, *, name="model"):
            return ()

        def run(self, feeds):
            raise AssertionError("not to be run")

        def measure(self, feeds, baseline, *, seconds=2.0):
            raise UnsupportedError("no acme.Magic here")

        def report(self):
            return {}

    monkeypatch.setattr(registry.targets["acme"], "build", lambda self, graph, ctx: Stub())
    report = compiled(registry, graph(text), passes=("nothing",)).report
    assert report.accuracy is None
    assert report.accuracy_skipped.startswith("the original cannot be run: ")
    assert report.as_dict()["measured"]["latency_skipped"] == "no acme.Magic here"
    assert report.before.unpriced == {"acme.Magic": 1}
