"""Compare nncomp's default INT8 recipe with ONNX Runtime's own quantizer, on one model and one set of inputs.

    python tests/bench/compare_int8.py model.onnx calibration.npz evaluation.npz

Both archives hold stacked arrays by input name; the evaluation archive may hold ``labels``. Each tool compresses in a
process of its own, whose CPU time and peak memory count as a whole, imports included. The three models then run in turn
in one process, one thread; a speed-up is the median over pairs of float time / INT8 time in CPU time of that thread.

ONNX Runtime is given the recipe that serves it best on x86: QDQ, UINT8 activations, per-channel INT8 weights, min-max,
after its own pre-processing; matrix products of models without convolutions go through its dynamic quantizer.
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

_RIVAL = """
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

model, data, out, dynamic = sys.argv[1:]
if dynamic == "1":
    quantize_dynamic(model, out, per_channel=True, weight_type=QuantType.QInt8)
else:
    class Reader(CalibrationDataReader):
        def __init__(self):
            arrays = dict(np.load(data))
            count = len(next(iter(arrays.values())))
            self.feeds = ({name: array[i : i + 1] for name, array in arrays.items()} for i in range(count))

        def get_next(self):
            return next(self.feeds, None)

    quant_pre_process(model, out + ".pre")
    quantize_static(out + ".pre", out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""


def _measured(command: list[str]) -> dict[str, float]:
    """Run a command; return CPU seconds and peak memory of its process."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} failed with exit status {process.returncode}")
    return {"cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_mb": round(usage.ru_maxrss / 1024, 1)}


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feeds(path: Path) -> tuple[list[dict[str, np.ndarray]], np.ndarray | None]:
    arrays = dict(np.load(path))
    labels = arrays.pop("labels", None)
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)], labels


def main() -> None:
    """Compress with both tools, compare, print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--recipe", nargs="*", default=[], help="passes instead of nncomp's default recipe")
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing, a pair of models")
    arguments = parser.parse_args()
    feeds, labels = _feeds(arguments.evaluation)
    kinds = {node.op_type for node in onnx.load(arguments.model, load_external_data=False).graph.node}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs.onnx"
        command = [sys.executable, "-m", "nncomp", "compile", str(arguments.model), "-o", str(ours), "--no-measure"]
        command += ["--data", str(arguments.calibration)] + [part for spec in arguments.recipe for part in ("-p", spec)]
        rival = [sys.executable, "-c", _RIVAL, str(arguments.model), str(arguments.calibration), str(theirs)]
        costs = [_measured(command), _measured([*rival, str(int("Conv" not in kinds))])]
        reference = _session(arguments.model)
        expected = [dict(enumerate(reference.run(None, feed))) for feed in feeds]
        for name, path, cost in zip(("nncomp", "onnxruntime"), (ours / "model.onnx", theirs), costs, strict=True):
            session = _session(path)
            got = [dict(enumerate(session.run(None, feed))) for feed in feeds]
            deviation = compare([{"y": run[0]} for run in expected], [{"y": run[0]} for run in got])
            latency = compare_latency(
                lambda session=session: session.run(None, feeds[0]),
                lambda: reference.run(None, feeds[0]),
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
            if expected[0][0].ndim == 2:
                best = np.concatenate([run[0] for run in got]).argmax(1)
                float_best = np.concatenate([run[0] for run in expected]).argmax(1)
                line["agree_percent"] = round(float((best == float_best).mean() * 100), 2)
                if labels is not None:
                    line["top1_percent"] = round(float((best == labels).mean() * 100), 2)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
