"""Faults: the n-th write, inference or pass boundary fails, for n from 1 until a run gets through.

After each fault the destination holds the old files or none, nothing temporary is left, the exit status says what
happened, and `--resume` gives the bytes of a run that was never disturbed.
"""

import errno
import itertools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from nncomp import runtime
from nncomp.checkpoint import Checkpoint
from nncomp.cli import main
from nncomp.onnx_io import files, save
from nncomp.runtime import RuntimeFailure
from nncomp.testing import graph

NET = """
g (float[N,3,6,6] x) => (float[N,4] y) <float[8,3,3,3] w, float[8] b, float[4,8] v>
{
   a = Conv <pads = [1, 1, 1, 1]> (x, w, b)  c = Relu (a)  d = GlobalAveragePool (c)  e = Flatten (d)
   y = Gemm <transB = 1> (e, v)
}
"""
PASSES = ("cleanup", "fuse", "equalize", "quantize")
SOME = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)  # every one of the first, then ever rarer: each costs a run


@pytest.fixture
def compile_(tmp_path, capsys):
    """Return what compiles a small network to INT8: (exit status, stderr)."""
    save(graph(NET), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((6, 3, 6, 6)).astype(np.float32))

    def call(out="out", *more):
        steps = [word for name in PASSES for word in ("-p", name)]
        status = main(["compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / out), *steps, "--data",
                       str(tmp_path / "data.npz"), "--no-measure", "--no-cache", *more])  # fmt: skip
        return status, capsys.readouterr().err

    return call


def results(folder: Path):
    """Return the files of a result by name, without what differs from run to run."""
    if not folder.exists():
        return {}
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".html"}
    if "report.json" in found:
        report = json.loads(found["report.json"])
        del report["measured"]
        found["report.json"] = report
    return found


def until_clean(compile_, tmp_path, inject, numbers, *, status, code):
    """Let ``inject(n)`` break the n-th event for each n, until a run does not come that far; return how many broke.

    A cache that cannot be written is a warning, and the run goes on.
    """
    compile_("never")
    whole = results(tmp_path / "never")
    for broken, number in enumerate(numbers):
        with pytest.MonkeyPatch.context() as patch:
            reached = inject(patch, number)
            found, err = compile_()
        if not reached():
            assert found == 0
            assert results(tmp_path / "out") == whole
            return broken
        if found == 0 and "NNC-W071" in err:
            assert results(tmp_path / "out") == whole
            remove(tmp_path / "out")
            continue
        assert found == status, err
        assert code in err
        assert "Traceback" not in err
        assert results(tmp_path / "out") == {}
        assert {path.name for path in tmp_path.iterdir()} <= {
            "net.onnx",
            "data.npz",
            "never",
            "out.checkpoint",
            "out.repro",
        }
        found, err = compile_("out", "--resume")
        assert found == 0, err
        assert results(tmp_path / "out") == whole
        assert {path.name for path in tmp_path.iterdir()} <= {"net.onnx", "data.npz", "never", "out", "out.repro"}
        remove(tmp_path / "out")
    raise AssertionError("no run got through")


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def breaking(owner, name, raise_):
    """Return an injector that calls ``raise_()`` instead of the n-th call of ``owner.name``."""

    def inject(patch, number):
        original, calls = getattr(owner, name), itertools.count(1)
        reached = []

        def counted(*args, **kwargs):
            if next(calls) == number:
                reached.append(True)
                raise_()
            return original(*args, **kwargs)

        patch.setattr(owner, name, counted)
        return lambda: bool(reached)

    return inject


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def no_memory():
    raise MemoryError


@pytest.mark.row(95)
def test_whichever_write_finds_the_disk_full_nothing_is_half_written(compile_, tmp_path):
    assert (
        until_clean(
            compile_, tmp_path, breaking(files, "_write_chunks", full_disk), range(1, 50), status=6, code="NNC-E001"
        )
        >= 3
    )


@pytest.mark.row(97)
def test_whichever_inference_runs_out_of_memory_the_work_is_resumed(compile_, tmp_path):
    assert (
        until_clean(compile_, tmp_path, breaking(runtime.Session, "run", no_memory), SOME, status=6, code="NNC-E002")
        >= 4
    )


@pytest.mark.row(96)
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_pass_boundary_ends_with_130_and_the_work_is_resumed(compile_, tmp_path, number):
    def interrupt():
        os.kill(os.getpid(), number)

    def inject(patch, count):
        return breaking(Checkpoint, "passed", interrupt)(patch, count)

    assert until_clean(compile_, tmp_path, inject, range(1, 9), status=130, code="nncomp: interrupted") == len(PASSES)


@pytest.mark.row(96)
@pytest.mark.usefixtures("interruptible")
def test_a_signal_in_any_inference_ends_with_130_and_the_work_is_resumed(compile_, tmp_path):
    inject = breaking(runtime.Session, "run", lambda: os.kill(os.getpid(), signal.SIGINT))
    assert until_clean(compile_, tmp_path, inject, SOME, status=130, code="nncomp: interrupted") >= 4


def test_whichever_inference_fails_the_destination_is_the_old_one_or_a_whole_new_one(compile_, tmp_path):
    """A kernel that fails once may be survived, where only a comparison is lost; it is never half survived."""
    assert compile_()[0] == 0
    old = results(tmp_path / "out")

    def fail():
        raise RuntimeFailure("the kernel failed")

    for number in SOME:
        with pytest.MonkeyPatch.context() as patch:
            reached = breaking(runtime.Session, "run", fail)(patch, number)
            status, err = compile_()
        if not reached():
            assert status == 0
            return
        assert "Traceback" not in err
        assert status in (0, 4, 5), err
        found = results(tmp_path / "out")
        assert found == old if status else found.keys() == old.keys()
        old = found
    raise AssertionError("no run got through")
