"""A run that takes too long is stopped and says so, whoever asked for it; others are left alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from nncomp.compiler import CompileRequest, compile_model
from nncomp.errors import NncompError
from nncomp.gate import Gate
from nncomp.ir import Graph
from nncomp.onnx_io import save, to_bytes
from nncomp.passes import Effect
from nncomp.runtime import RuntimeFailure, Session, run_bytes
from nncomp.statistics import Range, collect
from nncomp.testing import graph
from nncomp.timelimit import OverdueError, TimeLimit, runs_limited

FOR_EVER = """
g (float[2] x) => (float[2] y) <int64 n = {4611686018427387904}, bool go = {1}> {
   y = Loop (n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) { d = Identity (c) t = Abs (s) }>
}
"""
COUNTED = FOR_EVER.replace("float[2] x)", "int64 n, float[2] x)", 1).replace("int64 n = {4611686018427387904}, ", "")
X = np.zeros(2, np.float32)
STOPPED = "one run took more than 0.2 s and was stopped"
HINT = "does the model loop for ever? what is only slow can be given more: nncomp compile --run-seconds"


def counted(n: int) -> dict[str, np.ndarray]:
    return {"n": np.array(n, np.int64), "x": X}


@pytest.fixture
def loop() -> Graph:
    return graph(FOR_EVER)


def test_a_run_that_takes_too_long_is_stopped(loop: Graph) -> None:
    with runs_limited(0.2):
        session = Session(loop)
    started = time.monotonic()  # the limit is that of when the model was loaded
    with pytest.raises(OverdueError) as caught:
        session.run({"x": X})
    error = caught.value
    assert (error.message, error.code, error.exit_status, error.hint) == (STOPPED, "NNC-E003", 6, HINT)
    assert time.monotonic() - started < 30


def test_a_serialized_model_is_stopped_too(loop: Graph) -> None:
    with runs_limited(0.2), pytest.raises(OverdueError, match=STOPPED):
        run_bytes(to_bytes(loop), [{"x": X}])


def test_only_the_run_that_is_late_is_stopped() -> None:
    with runs_limited(0.5):
        session = Session(graph(COUNTED))
    late: list[NncompError] = []

    def for_ever() -> None:
        with pytest.raises(OverdueError) as caught:
            session.run(counted(2**62))
        late.append(caught.value)

    thread = threading.Thread(target=for_ever)
    thread.start()
    while thread.is_alive():
        assert session.run(counted(1))["y"].tolist() == [0, 0]
    assert len(late) == 1
    assert session.run(counted(1))["y"].tolist() == [0, 0]


def test_a_failing_run_is_no_late_one() -> None:
    with runs_limited(0.2), pytest.raises(RuntimeFailure):
        Session(graph("g (float[2] x) => (float[2] y) { y = Neg (x) }")).run({"x": np.zeros(3, np.float32)})


def test_nobody_watches_when_nothing_runs_and_somebody_does_again(loop: Graph) -> None:
    def watchers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "nncomp-timelimit"]

    end = time.monotonic() + 30
    while watchers() and time.monotonic() < end:  # those of tests before, which look once a second
        time.sleep(0.05)
    with runs_limited(0.2):
        session = Session(loop)
    for _ in range(2):
        with pytest.raises(OverdueError):
            session.run({"x": X})
        assert len(watchers()) <= 1
        while watchers() and time.monotonic() < end:
            time.sleep(0.05)
        assert watchers() == []


def test_a_limit_may_be_given_by_itself() -> None:
    assert TimeLimit(3.0).seconds == 3.0
    assert TimeLimit().seconds == 600.0
    with runs_limited(5.0):
        assert TimeLimit().seconds == 5.0
    assert TimeLimit().seconds == 600.0


def test_the_gate_stops(loop: Graph) -> None:
    with runs_limited(0.2), pytest.raises(OverdueError, match=STOPPED):
        Gate([{"x": X}]).check(loop, loop.clone(), Effect.EXACT)


def test_calibration_stops(loop: Graph) -> None:
    with runs_limited(0.2), pytest.raises(OverdueError, match=STOPPED):
        collect(loop, [{"x": X}], ["y"], lambda _: Range())


@pytest.mark.parametrize("gate", [True, False])
def test_a_compilation_stops(loop: Graph, gate: bool) -> None:
    request = CompileRequest(model=loop, passes=("cleanup",), gate=gate, run_seconds=0.2)
    with pytest.raises(OverdueError, match=STOPPED):
        compile_model(request)


def test_the_command_line_gives_the_limit(loop: Graph, tmp_path, capsys) -> None:
    from nncomp.cli import main

    model = save(loop, tmp_path / "loop.onnx")[0]
    status = main(["compile", str(model), "-o", str(tmp_path / "out"), "-p", "cleanup", "--run-seconds", "0.2"])
    assert status == 6
    assert capsys.readouterr().err == f"nncomp: error NNC-E003: {STOPPED}\n  hint: {HINT}\n"
    assert not (tmp_path / "out").exists()
