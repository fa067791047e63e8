"""What other rewriters keep of ONNX's backend models, beside what nncomp keeps: the table of docs/conformance.md.

    python -m venv rivals && rivals/bin/pip install onnx==1.23.2 onnxruntime onnxsim onnxslim onnxscript
    python tests/bench/compare_conformance.py --rivals rivals/bin/python

Each rewriter runs in the rivals' environment and sees files only; every result is judged here, in nncomp's environment,
by one judge. A rewriter that kills its process loses that model and goes on with the next.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS_A_MODEL = 60


def onnxsim(source: Path, target: Path) -> None:
    import onnx
    from onnxsim import simplify

    onnx.save(simplify(onnx.load(source))[0], target)


def onnxslim(source: Path, target: Path) -> None:
    import onnx
    from onnxslim import slim

    onnx.save(slim(onnx.load(source)), target)


def onnxscript(source: Path, target: Path) -> None:
    import onnx
    from onnxscript import optimizer

    onnx.save(optimizer.optimize(onnx.load(source)), target)


def onnxruntime(source: Path, target: Path) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


REWRITERS = {"onnxsim": onnxsim, "onnxslim": onnxslim, "onnxscript": onnxscript, "onnxruntime": onnxruntime}


def work(name: str, folder: Path) -> None:
    """Rewrite all models of ``folder`` that have no result yet; runs in the rivals' environment."""
    results = folder / name
    for source in sorted(folder.glob("*.onnx")):
        done = results / f"{source.stem}.done"
        if done.exists():
            continue
        done.write_text("the process died")
        try:
            REWRITERS[name](source, results / source.name)
            done.write_text("")
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the finding
            done.write_text(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def rewrite_all(name: str, python: str, folder: Path) -> None:
    """Let a rewriter work until each model has a result or a reason."""
    (folder / name).mkdir()
    total = len(list(folder.glob("*.onnx")))
    while True:
        before = len(list((folder / name).glob("*.done")))
        command = [python, str(Path(__file__).resolve()), "--work", name, "--folder", str(folder)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=SECONDS_A_MODEL * max(1, total - before), capture_output=True, check=False)
        after = len(list((folder / name).glob("*.done")))
        if after in (total, before):
            return


def compare(python: str) -> None:
    """Print one line a rewriter."""
    from nncomp.testing.conformance import Outcome, Scoreboard, Verdict, judge, references
    from nncomp.testing.corpus import backend_cases

    passing = [reference for reference in references(backend_cases()) if reference.passes]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, reference in enumerate(passing):
            (folder / f"{number:05}.onnx").write_bytes(reference.case.model.SerializeToString())
        for name in REWRITERS:
            rewrite_all(name, python, folder)
            board = Scoreboard(name)
            for number, reference in enumerate(passing):
                reason = (folder / name / f"{number:05}.done").read_text()
                path = folder / name / f"{number:05}.onnx"
                lost = Verdict(Outcome.LOST, reason or "nothing was written")
                done = not reason and path.exists()
                board.verdicts[reference.case.label] = judge(reference, path.read_bytes()) if done else lost
            print(board, flush=True)
            for line in board.complaints():
                print("   ", line, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", default=sys.executable, help="python of the environment with the rewriters")
    parser.add_argument("--work", choices=REWRITERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.folder)
    else:
        compare(arguments.rivals)


if __name__ == "__main__":
    main()
