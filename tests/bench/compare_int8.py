"""Compare nncomp's default INT8 recipe with ONNX Runtime's quantizer and with NNCF, on one model and one set of inputs.

    python tests/bench/compare_int8.py model.onnx calibration evaluation
        [--onnxruntime VENV/bin/python] [--nncf VENV/bin/python]

Data are archives (``.npz``) of stacked arrays by input name, or folders of archives, for samples of different lengths;
an evaluation archive may hold ``labels``. Each tool compresses in a process of its own, in the environment of its own
whose interpreter is given, and CPU time and peak memory are those of the whole process, imports included. All files
are then run by this interpreter, in turn in one process, one thread; a speed-up is the median over pairs of float time
/ INT8 time in CPU time of that thread.

ONNX Runtime is given the recipe that serves it best on x86: QDQ, UINT8 activations, per-channel INT8 weights, min-max,
after its own pre-processing; models without convolutions go through its dynamic quantizer. NNCF is given its default
for convolutions, and for models without them ``model_type=TRANSFORMER``, which is SmoothQuant.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from nncomp.bench import compare_latency
from nncomp.gate import compare

_READ = """
import sys
from pathlib import Path
import numpy as np

model, data, out, products = sys.argv[1:]

def feeds():
    path = Path(data)
    for one in sorted(path.glob("*.npz")) if path.is_dir() else [path]:
        arrays = dict(np.load(one))
        for i in range(len(next(iter(arrays.values())))):
            yield {name: array[i : i + 1] for name, array in arrays.items()}
"""

_ONNXRUNTIME = """
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

if products == "1":
    quantize_dynamic(model, out, per_channel=True, weight_type=QuantType.QInt8)
else:
    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = feeds()

        def get_next(self):
            return next(self.feeds, None)

    quant_pre_process(model, out + ".pre")
    quantize_static(out + ".pre", out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""

_NNCF = """
import nncf
import onnx

samples = list(feeds())
options = {"model_type": nncf.ModelType.TRANSFORMER} if products == "1" else {}
onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(samples), subset_size=len(samples), **options), out)
"""


def _measured(command: list[str]) -> dict[str, float]:
    """Run a command; return CPU seconds and peak memory of its process."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with exit status {process.returncode}: {told[-2000:]}")
    return {"cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_mb": round(usage.ru_maxrss / 1024, 1)}


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feeds(path: Path) -> tuple[list[dict[str, np.ndarray]], np.ndarray | None]:
    found, labels = [], []
    for one in sorted(path.glob("*.npz")) if path.is_dir() else [path]:
        arrays = dict(np.load(one))
        labels.append(arrays.pop("labels", None))
        count = len(next(iter(arrays.values())))
        found += [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
    return found, None if any(one is None for one in labels) else np.concatenate(labels)


def main() -> None:
    """Compress with each tool, compare, print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--recipe", nargs="*", default=[], help="passes instead of nncomp's default recipe")
    parser.add_argument("--onnxruntime", default=sys.executable, help="interpreter with onnxruntime; default: this one")
    parser.add_argument("--nncf", default="", help="interpreter with nncf; without it NNCF is left out")
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing, a pair of models")
    arguments = parser.parse_args()
    feeds, labels = _feeds(arguments.evaluation)
    longest = max(feeds, key=lambda feed: sum(array.size for array in feed.values()))
    kinds = {node.op_type for node in onnx.load(arguments.model, load_external_data=False).graph.node}
    inputs = [str(arguments.model), str(arguments.calibration)]
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours"
        command = [sys.executable, "-m", "nncomp", "compile", inputs[0], "-o", str(ours), "--no-measure"]
        command += ["--data", inputs[1]] + [part for spec in arguments.recipe for part in ("-p", spec)]
        tools = {"nncomp": (command, ours / "model.onnx")}
        rivals = {"onnxruntime": (arguments.onnxruntime, _ONNXRUNTIME), "nncf": (arguments.nncf, _NNCF)}
        for name, (python, code) in rivals.items():
            out = Path(folder) / f"{name}.onnx"
            if python:
                tools[name] = ([python, "-c", _READ + code, *inputs, str(out), str(int("Conv" not in kinds))], out)
        reference = _session(arguments.model)
        expected = [reference.run(None, feed)[0] for feed in feeds]
        for name, (run, path) in tools.items():
            cost = _measured(run)
            session = _session(path)
            got = [session.run(None, feed)[0] for feed in feeds]
            deviation = compare([{"y": one} for one in expected], [{"y": one} for one in got])
            latency = compare_latency(
                lambda session=session: session.run(None, longest),
                lambda: reference.run(None, longest),
                seconds=arguments.seconds,
            )
            line = {
                "tool": name,
                "sqnr_db": round(deviation.sqnr_db, 2),
                "cosine": round(deviation.cosine, 5),
                "speedup": round(latency.ratio, 3),
                "spread": [round(number, 3) for number in latency.spread],
                "size_mb": round(path.stat().st_size / 1e6, 3),
                **cost,
            }
            if expected[0].ndim == 2:
                best, float_best = np.concatenate(got).argmax(1), np.concatenate(expected).argmax(1)
                line["agree_percent"] = round(float((best == float_best).mean() * 100), 2)
                if labels is not None:
                    line["top1_percent"] = round(float((best == labels).mean() * 100), 2)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
