"""A compilation that is stopped anywhere and gone on with gives the bytes of one that was never stopped."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from nncomp.compiler import CompileRequest, compile_model
from nncomp.errors import ResourceError
from nncomp.onnx_io import load, save, settled, to_bytes
from nncomp.plugins import Registry
from nncomp.state import dumps, loads
from nncomp.testing import graph

NET = """
g (float[N,3,8,8] x) => (float[N,4] y)
<float[8,3,3,3] w1, float[8] b1, float[8] s, float[8] t, float[8] m, float[8] v, float[8,8,3,3] w2, float[4,8] w3>
{
   a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
   b = BatchNormalization (a, s, t, m, v)
   c = Relu (b)
   d = Conv <pads = [1, 1, 1, 1]> (c, w2)
   e = Identity (d)
   f = Add (e, c)
   h = GlobalAveragePool (f)
   i = Flatten (h)
   y = Gemm <transB = 1> (i, w3)
}
"""
PASSES = ("cleanup", "fuse", "cleanup", "equalize", "quantize")


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


@pytest.fixture
def job(tmp_path, registry):
    """Return a function that compiles; requests may differ in a few things."""
    save(graph(NET, constants={"v": np.ones(8, np.float32)}), tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((22, 3, 8, 8)).astype(np.float32)
    samples[21, 0, 0, 0] = np.nan  # a warning that only reading the data brings
    np.savez(tmp_path / "data.npz", x=samples)

    def compiled(out="out", **request):
        settings = {"data": str(tmp_path / "data.npz"), "passes": PASSES, "measure": False, **request}
        return compile_model(CompileRequest(model=tmp_path / "net.onnx", out=tmp_path / out, **settings), registry)

    return compiled


def results(folder: Path):
    """Return what is the same for the same input: all files, times in the report apart."""
    report = json.loads((folder / "report.json").read_text())
    del report["measured"]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".html"}
    return {**files, "report.json": report}


def stop_in(monkeypatch, registry, name, number, stop=KeyboardInterrupt):
    """Let the ``number``-th run of pass ``name`` raise; return the names of the passes that run."""
    kind, ran = registry.pass_type(name), []
    original = kind.run

    def run(self, graph, ctx):
        ran.append(self.name)
        if ran.count(self.name) == number:
            raise stop
        original(self, graph, ctx)

    monkeypatch.setattr(kind, "run", run)
    return ran


def counted(monkeypatch, stop_at=None):
    """Count what calibration runs; the ``stop_at``-th run is interrupted."""
    module, runs = importlib.import_module("nncomp.statistics.collect"), []

    class Counting(module.Session):
        def run(self, feeds):
            runs.append(1)
            if len(runs) == stop_at:
                raise KeyboardInterrupt
            return super().run(feeds)

    monkeypatch.setattr(module, "Session", Counting)
    return runs


STOPS = [("cleanup", 1), ("fuse", 1), ("cleanup", 2), ("equalize", 1), ("quantize", 1)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, ResourceError("memory ran out", code="NNC-E002")])
@pytest.mark.parametrize(("name", "number"), STOPS)
def test_what_was_stopped_in_a_pass_goes_on_there(job, registry, tmp_path, monkeypatch, name, number, stop):
    job("never")
    with monkeypatch.context() as patched:
        stop_in(patched, registry, name, number, stop)
        with pytest.raises((KeyboardInterrupt, MemoryError, ResourceError)):
            job()
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patched:
        ran = stop_in(patched, registry, "cleanup", 0)
        result = job(resume=True)
    done = STOPS.index((name, number))
    assert len(ran) == PASSES[done:].count("cleanup")
    assert result.notices == ()
    assert results(tmp_path / "out") == results(tmp_path / "never")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "net.onnx", "never", "out"]


def test_a_disk_that_refuses_is_not_written_to_once_more(job, registry, tmp_path, monkeypatch):
    stop_in(monkeypatch, registry, "quantize", 1, ResourceError("the disk is full"))
    with pytest.raises(ResourceError):
        job()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "net.onnx"]


def test_what_was_kept_while_there_was_room_stays_when_the_disk_is_full(job, registry, tmp_path, monkeypatch):
    job("never")
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module("nncomp.checkpoint"), "_EVERY_S", 0.0)
        stop_in(patched, registry, "quantize", 1, ResourceError("the disk is full"))
        with pytest.raises(ResourceError):
            job()
    with monkeypatch.context() as patched:
        ran = stop_in(patched, registry, "cleanup", 0)
        job(resume=True)
    assert not ran
    assert results(tmp_path / "out") == results(tmp_path / "never")


def test_an_interrupt_says_where_it_goes_on(job, registry, monkeypatch):
    stop_in(monkeypatch, registry, "equalize", 1)
    with pytest.raises(KeyboardInterrupt) as caught:
        job()
    assert caught.value.args == ("--resume goes on after pass 3, 'cleanup'",)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("stop_at", [2, 9, 21, 30])
def test_calibration_that_was_stopped_goes_on_where_it_stood(job, tmp_path, monkeypatch, stop_at, cached):
    cache = {"cache": tmp_path / "cache"} if cached else {}
    with monkeypatch.context() as patched:
        runs = counted(patched)
        job("never")
        whole = len(runs)
    with monkeypatch.context() as patched:
        runs = counted(patched, stop_at)
        with pytest.raises(KeyboardInterrupt):
            job(**cache)
    with monkeypatch.context() as patched:
        again = counted(patched)
        job(resume=True, **cache)
    shard = importlib.import_module("nncomp.statistics.collect")._SHARD
    assert len(again) <= whole - len(runs) + shard
    assert results(tmp_path / "out") == results(tmp_path / "never")
    assert not (tmp_path / "out.checkpoint").exists()


def test_a_second_compilation_makes_no_inference(job, tmp_path, monkeypatch):
    runs = counted(monkeypatch)
    job("first", cache=tmp_path / "cache")
    assert runs
    runs.clear()
    job("second", cache=tmp_path / "cache")
    assert not runs
    assert results(tmp_path / "first") == results(tmp_path / "second")
    assert [code for code in results(tmp_path / "second")["report.json"]["warnings"] if code["code"] == "NNC-W044"]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"limit": 20}, {"passes": ("fuse", "quantize")}, {"freeze": True}, {"gate_samples": 1}]
)
def test_a_checkpoint_of_something_else_is_not_used(job, registry, tmp_path, monkeypatch, change):
    job("never", **change)
    with monkeypatch.context() as patched:
        stop_in(patched, registry, "quantize", 1)
        with pytest.raises(KeyboardInterrupt):
            job()
    notices = job(resume=True, **change).notices
    assert [notice.code for notice in notices] == ["NNC-W072"]
    assert notices[0].message == (
        f"checkpoint {str(tmp_path / 'out.checkpoint')!r} cannot be used "
        "(it is of another model, data, recipe or version); the work begins anew"
    )
    assert results(tmp_path / "out") == results(tmp_path / "never")


def damaged(folder, how):
    (model,) = folder.glob("*.onnx")
    state = folder / "nncomp-state"
    tensors = list((folder / "nncomp-tensors").iterdir())
    if how == "state":
        state.write_bytes(state.read_bytes()[:-7])
    elif how == "foreign state":
        state.write_bytes(b"\x80\x04K\x01.")
    elif how == "fields":
        state.write_bytes(dumps({"key": loads(state.read_bytes())["key"]}))
    elif how == "model":
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    elif how == "no model":
        model.unlink()
    elif how == "no tensors":
        for path in tensors:
            path.unlink()
    elif how == "short tensors":
        for path in tensors:
            path.write_bytes(b"")


@pytest.mark.parametrize(
    "how", ["state", "foreign state", "fields", "model", "no model", "no tensors", "short tensors"]
)
def test_a_damaged_checkpoint_is_a_notice_and_a_new_beginning(job, registry, tmp_path, monkeypatch, how):
    job("never")
    with monkeypatch.context() as patched:
        stop_in(patched, registry, "quantize", 1)
        with pytest.raises(KeyboardInterrupt):
            job()
    damaged(tmp_path / "out.checkpoint", how)
    result = job(resume=True, strict=False)
    assert [notice.code for notice in result.notices] == ["NNC-W072"]
    assert results(tmp_path / "out") == results(tmp_path / "never")


def test_a_damaged_cache_is_a_notice_that_strict_lets_pass(job, tmp_path):
    job("never")
    data = np.random.default_rng(1).standard_normal((5, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=data)
    job("first", cache=tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*.state"):
        path.write_bytes(b"")
    result = job("second", cache=tmp_path / "cache", strict=True)
    assert {notice.code for notice in result.notices} == {"NNC-W070"}
    assert results(tmp_path / "first") == results(tmp_path / "second")


def test_resuming_nothing_begins_at_the_beginning(job, tmp_path):
    job("never")
    assert job(resume=True).notices == ()
    assert results(tmp_path / "out") == results(tmp_path / "never")


def test_a_folder_that_is_not_ours_keeps_what_is_in_it(job, registry, tmp_path, monkeypatch):
    (tmp_path / "out.checkpoint").mkdir()
    (tmp_path / "out.checkpoint" / "mine.txt").write_text("mine")
    with monkeypatch.context() as patched:
        stop_in(patched, registry, "quantize", 1)
        with pytest.raises(KeyboardInterrupt):
            job()
    job(resume=True)
    assert [path.name for path in (tmp_path / "out.checkpoint").iterdir()] == ["mine.txt"]


def test_results_that_are_no_plain_data_keep_no_checkpoint(job, registry, tmp_path, monkeypatch):
    original = registry.pass_type("fuse").run

    def leave_an_object(self, graph, ctx):
        original(self, graph, ctx)
        ctx.results["fuse"] = object()

    monkeypatch.setattr(registry.pass_type("fuse"), "run", leave_an_object)
    stop_in(monkeypatch, registry, "equalize", 1)
    with pytest.raises(KeyboardInterrupt) as caught:
        job()
    assert caught.value.args == ("--resume goes on after pass 1, 'cleanup'",)


def test_a_settled_graph_settles_no_further():
    net = graph(NET)
    for value in net.values()[:1]:
        net.fresh_name(value.name)
    once = settled(net)
    assert to_bytes(settled(once)) == to_bytes(once) == to_bytes(net)
    assert [value.name for value in settled(once).values()] == [value.name for value in once.values()]


def test_a_settled_graph_has_forgotten_names_that_are_gone():
    def name_after(net):
        return net.fresh_name("w1")

    net = graph(NET)
    spare = net.add_constant("w1", np.zeros(3, np.float32))
    net.remove_unused([spare])
    assert name_after(net) == "w1_2"
    assert name_after(settled(net)) == "w1_1"


def test_constants_of_a_settled_graph_are_shared(tmp_path):
    save(graph(NET), tmp_path / "net.onnx")
    net = load(tmp_path / "net.onnx")
    weight, twin = (found.find("w2").const.numpy() for found in (net, settled(net)))
    assert np.shares_memory(weight, twin)
