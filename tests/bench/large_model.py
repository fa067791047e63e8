"""Compile a model larger than protobuf takes, weight-only, and measure the memory that it costs.

    python tests/bench/large_model.py FOLDER --gigabytes 2.5

Writes a language model's skeleton into FOLDER (external data; the embedding table is read by a Gather and, transposed,
by the last product: tied weights), then, in a process of its own, loads it, cleans it up, quantizes its weights to the
nearest, and saves it. Prints one JSON line:

    group_mib      the largest tensor and what is made of it at a time: what must fit into memory
    constant_mib   memory of the same process after doing all of this to a tiny model
    peak_mib       memory at the peak, pages of mapped files included
    ratio          (peak - constant) / group; 1.3 is the bar

Everything is deleted again, unless --keep.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

WIDTH = 2048
VOCABULARY = 64 * 1024  # rows of the table: 512 MiB

_WORK = """
import json, sys
import nncomp
from nncomp.onnx_io import load, save

model, out, spec, target = sys.argv[1:]

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

def reset():
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew

registry = nncomp.Registry.discover()

def work(path, folder):
    graph = load(path)
    ctx = nncomp.Context(ops=registry.ops, target=registry.target(target).capabilities)
    passes = [registry.pass_type("cleanup")()]
    name, options = nncomp.options.parse_spec(spec)
    passes.append(registry.pass_type(name).from_options(options))
    nncomp.Pipeline(passes).run(graph, ctx)
    return save(graph, folder + "/model.onnx")

work(model + "/tiny.onnx", out + "/tiny")
reset()
constant = peak()
files = work(model + "/model.onnx", out + "/large")
out_mib = sum(file.stat().st_size for file in files) / 2**20
print(json.dumps({"constant_mib": constant, "peak_mib": peak(), "out_mib": out_mib}))
"""


def write_model(path: Path, *, vocabulary: int, width: int, layers: int) -> int:
    """Write the model, one tensor at a time; return its bytes."""
    data = path.with_suffix(".bin")
    rng = np.random.default_rng(0)
    tile = rng.standard_normal((256, width)).astype(np.float32) / np.float32(width**0.5)
    tensors, nodes, offset = [], [], 0
    with data.open("wb") as file:
        for name, rows in [("table", vocabulary), *((f"w{i}", width) for i in range(layers))]:
            proto = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=(rows, width))
            proto.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", offset), ("length", rows * width * 4)):
                proto.external_data.add(key=key, value=str(value))
            tensors.append(proto)
            for start in range(0, rows, len(tile)):
                file.write(memoryview(np.roll(tile, start // 256 + len(tensors), axis=1)[: rows - start]).cast("B"))
            offset += rows * width * 4
    nodes.append(helper.make_node("Gather", ["table", "ids"], ["h0"]))
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", [f"h{layers}", "head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", vocabulary])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return offset


def main() -> None:
    """Generate, compile, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--spec", default='quantize-weights{bits=8, method="rtn"}')
    parser.add_argument("--target", default="ort")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    folder = given.folder / "nncomp-large-model"
    folder.mkdir(parents=True)
    try:
        table = VOCABULARY * WIDTH * 4
        layers = max(round((given.gigabytes * 2**30 - table) / (WIDTH * WIDTH * 4)), 1)
        nbytes = write_model(folder / "model.onnx", vocabulary=VOCABULARY, width=WIDTH, layers=layers)
        write_model(folder / "tiny.onnx", vocabulary=64, width=128, layers=1)
        command = [sys.executable, "-c", _WORK, str(folder), str(folder / "out"), given.spec, given.target]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        group = table / 2**20
        ratio = (found["peak_mib"] - found["constant_mib"]) / group
        print(json.dumps({"model_mib": nbytes / 2**20, "group_mib": group, **found, "ratio": round(ratio, 3)}))
    finally:
        if not given.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
