"""Targets ``tvm`` and ``tvm-cpu``: what they refuse beforehand, what they build, and that it runs."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import nncomp
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget, TvmTarget

SMALL = "g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w> { c = Conv (x, w) y = Relu (c) }"


def check(text, **options):
    found = graph(text, opset=18)
    infer_types(found)
    return [
        (one.level, one.node, one.kind, one.reason)
        for one in TvmCpuTarget.from_options(options).check(found, nncomp.Context())
    ]


def test_a_build_agrees_with_onnx_runtime_and_is_saved_with_its_manifest(tmp_path):
    model = graph(SMALL, opset=18)
    artifact = TvmTarget().build(model, nncomp.Context())
    feeds = random_feeds(model, seed=1)
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)
    library, manifest, parameters = artifact.save(tmp_path)
    assert library.read_bytes()[:4] == b"\x7fELF"
    said = json.loads(manifest.read_text())
    data = parameters.read_bytes()
    assert said["parameters"] == {
        "file": "model.params", "count": 1, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    code = library.read_bytes()
    assert said["library"] == {"file": "model.so", "bytes": len(code), "sha256": hashlib.sha256(code).hexdigest()}
    assert said["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert said["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 4, 8, 8]}]


def test_check_names_what_does_not_lower():
    assert check("g (float[2,3] x) => (float[2,3] y) { a = Relu (x) y = com.acme.Odd (a) }") == [
        ("ok", "Relu(a)", "Relu", ""),
        ("refused", "Odd(y)", "Odd", "TVM has nothing for this operator of com.acme"),
    ]


@pytest.mark.parametrize(
    ("cast", "reason"),
    [
        ("float[4] x) => (float8e4m3fn[4] y) { y = Cast <to = 17>", ""),
        ("float8e5m2[4] x) => (float[4] y) { y = Cast <to = 1>", ""),
        ("float[4] x) => (float8e8m0[4] y) { y = Cast <to = 24>", "conversions of FLOAT8E8M0 are not built"),
    ],
)
def test_conversions_to_powers_of_two_are_refused_beforehand_and_other_floats_of_8_bits_are_not(cast, reason):
    assert check(f"g ({cast} (x) }}") == [("refused" if reason else "ok", "Cast(y)", "Cast", reason)]


def test_a_resize_that_onnx_runtime_and_onnx_understand_differently_is_refused():
    resize = (
        "g (float[1,1,2,4] x) => (float[] y) <float[2] by = {0.6, 0.6}> { y = Resize <axes = [2, 3], %s> (x, , by) }"
    )
    assert check(resize % 'mode = "linear", coordinate_transformation_mode = "align_corners"') == [
        (
            "refused",
            "Resize(y)",
            "Resize",
            "align_corners from 2 to 1.2 elements is another thing in ONNX Runtime than in ONNX",
        )
    ]
    assert check(resize % 'mode = "linear"') == [("ok", "Resize(y)", "Resize", "")]


def test_what_does_not_lower_is_refused_by_name():
    model = graph("g (float[2,3] x) => (float[2,3] y) { a = Relu (x) y = com.acme.Odd (a) }", opset=18)
    with pytest.raises(UnsupportedError) as refusal:
        TvmCpuTarget().build(model, nncomp.Context())
    assert refusal.value.message == "TVM cannot take 'Odd(y)' (Odd): TVM has nothing for this operator of com.acme"
    assert refusal.value.hint == "`nncomp check` lists every op that does not lower"


def test_without_tvm_the_target_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.target.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError) as refusal:
        TvmTarget().require()
    assert refusal.value.message == "target 'tvm' needs apache-tvm: pip install 'nncomp[tvm]'"
    assert refusal.value.exit_status == 4
    assert importlib.util.find_spec("tvm")


def test_the_report_tells_where_the_time_goes():
    model = graph(SMALL, opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    feeds = random_feeds(model, seed=1)
    found = artifact.measure(feeds, model, seconds=0)
    assert found.pairs >= 15
    report = artifact.report()
    assert report["library_bytes"] > report["code_bytes"] > 0
    (conv,) = [kernel for kernel in report["kernels"] if "conv2d" in kernel["name"]]
    assert (conv["calls"], conv["integer"], conv["macs"]) == (1, False, 768)
    assert conv["us"] > 0
    assert conv["computes"] == ["c", "y"]
    assert [kernel.kind for kernel in artifact.kernels(feeds)] != []


def test_parameters_lie_beside_the_code_and_are_the_same_each_time(tmp_path):
    model = graph(SMALL, opset=18)
    first, second = (
        TvmCpuTarget().build(model, nncomp.Context()).save(tmp_path / name)[2].read_bytes() for name in ("a", "b")
    )
    weights = model.find("w").const.numpy().reshape(4, 3)
    assert first == second
    packed = np.frombuffer(first[-4 * 3 * 16 :], np.float32).reshape(3, 16)[:, :4]
    np.testing.assert_array_equal(packed, weights.T)


def test_each_call_of_a_kernel_says_what_it_computes():
    """Two equal convolutions are one kernel, called twice; what they are of, and how long each takes, stays apart."""
    model = graph(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] v, float[4,4,1,1] w> {
            a = Conv (x, v) b = Relu (a) c = Conv (b, w) y = Relu (c)
        }""",
        opset=18,
    )
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    feeds = random_feeds(model, seed=1)
    found = artifact.kernels(feeds)
    assert [(kernel.outputs, kernel.integer) for kernel in found] == [
        (("a",), None),
        (("a", "b"), False),
        (("c", "y"), False),
        (("y",), None),
    ]
    assert found[1].kind == found[2].kind == "nn.conv2d+nn.relu"
    assert all(kernel.latency_us > 0 for kernel in found)
    assert [kernel.latency_us for kernel in artifact.kernels(feeds, seconds=0)] == [None] * 4


def test_tuning_tells_how_far_it_is_and_is_not_repeated(tmp_path):
    told = []

    class Watch:
        def step(self, task, done, total):
            told.append((task.partition(" ")[0], done, total))

    model = graph(SMALL, opset=18)
    options = {"tune_trials": 3, "tuning_database": str(tmp_path / "tiles.jsonl")}
    for _ in range(2):
        artifact = TvmCpuTarget.from_options(options).build(model, nncomp.Context(progress=Watch()))
        assert told == [("tuning,", 1, 1)]
        assert [kernel["tuned"] for kernel in artifact.report()["kernels"]] == [True]
    feeds = random_feeds(model, seed=1)
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_nothing_is_measured_for_a_cpu_that_is_not_here(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.building.lacking_features", lambda cpu: ["amx-int8"])
    target = TvmCpuTarget.from_options({"cpu": "haswell", "tune_trials": 3})
    with pytest.raises(RecipeError) as refusal:
        target.build(graph(SMALL, opset=18), nncomp.Context())
    assert refusal.value.message == (
        "tune_trials: nothing can be measured here: this CPU lacks amx-int8, which code for haswell may use"
    )
    assert refusal.value.hint == "tuning_database works alone"


def test_an_unknown_option_is_named():
    with pytest.raises(RecipeError) as refusal:
        TvmCpuTarget.from_options({"speed": 1})
    assert refusal.value.message == "tvm-cpu: unknown option 'speed'"
    assert refusal.value.hint == "options: dynamic, cpu, tune_trials, tune_seconds, tuning_database"


def test_another_cpu_can_be_named():
    artifact = TvmCpuTarget.from_options({"cpu": "x86-64-v3"}).build(graph(SMALL, opset=18), nncomp.Context())
    assert artifact.manifest.target == {"kind": "llvm", "mcpu": "x86-64-v3"}
    assert TvmCpuTarget.from_options({"cpu": "x86-64-v3"}).spec == 'tvm-cpu{cpu="x86-64-v3"}'


def test_code_for_a_cpu_that_this_one_is_not_is_built_and_not_run(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.building.lacking_features", lambda cpu: ["avx9"])
    ctx = nncomp.Context()
    artifact = TvmCpuTarget.from_options({"cpu": "haswell"}).build(graph(SMALL, opset=18), ctx)
    assert artifact.unrunnable() == "this CPU lacks avx9, which code for haswell may use"
    assert [note.reason for note in ctx.notes] == [f"the gate could not look: {artifact.unrunnable()}"]
    with pytest.raises(UnsupportedError) as refusal:
        artifact.run({})
    assert refusal.value.message == f"the library cannot be run here: {artifact.unrunnable()}"


def test_a_cpu_that_llvm_does_not_know_is_named():
    with pytest.raises(RecipeError) as refusal:
        TvmCpuTarget.from_options({"cpu": "z80"}).build(graph(SMALL, opset=18), nncomp.Context())
    assert refusal.value.message == "cpu: LLVM knows no CPU 'z80' of this machine's kind"


def test_check_refuses_it_too():
    with pytest.raises(RecipeError) as refusal:
        check(SMALL, cpu="z80")
    assert refusal.value.message == "cpu: LLVM knows no CPU 'z80' of this machine's kind"


def test_no_table_stays_in_the_code(tmp_path):
    """What TVM's own operators read is apart, too, not only what our kernels do."""
    model = graph("g (int64[5] x) => (float[5,16] y) <float[4000,16] table> { y = Gather (table, x) }", opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    library, _, parameters = artifact.save(tmp_path)
    assert library.stat().st_size < 4000 * 16 * 4 < parameters.stat().st_size
    feeds = {"x": np.array([0, 3999, 7, -1, 2])}
    np.testing.assert_array_equal(artifact.run(feeds)["y"], run(model, feeds)["y"])


@pytest.fixture
def links(monkeypatch):
    """Count how often TVM generates code to link."""
    from nncomp_tvm.library import relax

    export, counted = relax.VMExecutable.export_library, []
    monkeypatch.setattr(
        relax.VMExecutable,
        "export_library",
        lambda *arguments, **options: counted.append(export(*arguments, **options)),
    )
    return counted


def test_what_the_gate_runs_is_what_is_saved(tmp_path, monkeypatch, links):
    from nncomp_tvm.library import tvm

    load, loaded = tvm.runtime.load_module, []

    def watched(path):
        loaded.append(Path(path).read_bytes())
        return load(path)

    monkeypatch.setattr(tvm.runtime, "load_module", watched)
    model = graph(SMALL, opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    artifact.measure(random_feeds(model, seed=1), model, seconds=0)
    saved = artifact.save(tmp_path)[0].read_bytes()
    assert loaded == [saved]
    assert len(links) == 1


def test_without_a_linker_it_runs_in_memory_and_is_not_saved(tmp_path, monkeypatch):
    from nncomp_tvm.library import relax

    def refuse(*arguments, **options):
        raise RuntimeError("no g++\ncannot find a compiler")

    monkeypatch.setattr(relax.VMExecutable, "export_library", refuse)
    model = graph(SMALL, opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    feeds = random_feeds(model, seed=1)
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedError) as refusal:
        artifact.save(tmp_path)
    assert (refusal.value.code, refusal.value.exit_status) == ("NNC-T001", 4)
    assert refusal.value.message == "the library cannot be linked: cannot find a compiler"
    assert refusal.value.hint == "TVM links with g++ or clang++: install one"
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_for_int8_quantizes_for_kernels_of_integers(tmp_path):
    demo = Path(nncomp.__file__).parent / "demo"
    result = nncomp.compile(
        demo / "digits.onnx", out=tmp_path / "out", recipe="tvm-int8", data=str(demo / "digits.npz"), limit=8,
        measure=False,
    )  # fmt: skip
    kernels = result.artifact.report()["kernels"]
    assert {op for kernel in kernels if kernel["integer"] for op in kernel["ops"]} >= {"nn.conv2d", "matmul"}
    floats = [kernel["ops"] for kernel in kernels if "nn.conv2d" in kernel["ops"] and not kernel["integer"]]
    assert len(floats) == 1  # that of one channel reads bytes and computes in float
    assert result.report.target == "tvm-cpu"


def test_where_there_is_no_compiler_at_all_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    artifact = TvmCpuTarget().build(graph(SMALL, opset=18), nncomp.Context())
    with pytest.raises(UnsupportedError) as refusal:
        artifact.save(tmp_path)
    assert (refusal.value.code, refusal.value.exit_status) == ("NNC-T001", 4)
    assert refusal.value.message == "the library cannot be linked: there is no C++ compiler"
    assert refusal.value.hint == "TVM links with g++ or clang++: install one"
