"""Measured tiles and their database."""

import json

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp.errors import ResourceError
from nncomp_tvm.kernels import CpuTarget, TuningOptions, build_cpu
from nncomp_tvm.library import relax, tensor, tvm


def module(rng, columns=20):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((6, 16), "float32"))
    w = relax.const(rng.standard_normal((16, columns), np.float32))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.matmul(x, w))))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get(), w.value.numpy()


def test_what_was_measured_is_kept_and_not_measured_again(rng, tmp_path):
    path, told = tmp_path / "new" / "tuning.jsonl", []
    options = TuningOptions(trials=3, database=path, progress=told.append)
    relu, w = module(rng)
    built = build_cpu(relu, CpuTarget.host(), tuning=options)
    assert [(kernel.ops, kernel.tuned) for kernel in built.kernels] == [(("matmul", "nn.relu"), True)]
    assert [(step.kernel, step.done, step.total, step.trials) for step in told] == [("matmul+nn.relu", 1, 1, 3)]
    assert 0 < told[0].best_us <= told[0].default_us

    again = build_cpu(module(rng)[0], CpuTarget.host(), tuning=options)  # other weights, the same kernel
    assert len(told) == 1
    assert again.kernels == built.kernels
    assert len(path.read_text().splitlines()) == 1

    x = rng.standard_normal((6, 16), np.float32)
    got = relax.VirtualMachine(built.executable, tvm.cpu())["main"](tensor(x), *built.parameters).numpy()
    np.testing.assert_allclose(got, np.maximum(x @ w, 0), rtol=1e-4, atol=1e-5)


def test_a_database_decides_without_measuring(rng, tmp_path):
    """No trials: records of this CPU are used; those of others, and lines that are cut short, are left alone."""
    path = tmp_path / "tuning.jsonl"
    cpu = CpuTarget.host()
    build_cpu(module(rng)[0], cpu, tuning=TuningOptions(trials=2, database=path))
    record = json.loads(path.read_text())
    record.update(rows=2, vectors=1)
    other = {**record, "cpu": "z80/1/plain", "rows": 3}
    path.write_text(f'{json.dumps(other)}\n{json.dumps(record)}\n{{"workload": "ab\n')
    built = build_cpu(module(rng)[0], cpu, tuning=TuningOptions(trials=0, database=path))
    assert (built.kernels[0].tile.rows, built.kernels[0].tile.vectors, built.kernels[0].tuned) == (2, 1, True)

    build_cpu(module(rng, 7)[0], cpu, tuning=TuningOptions(trials=2, database=path))
    lines = path.read_text().splitlines()
    assert lines[:2] == [json.dumps(other), '{"workload": "ab']
    assert len(lines) == 4


def test_without_time_nothing_is_measured(rng):
    built = build_cpu(module(rng)[0], CpuTarget.host(), tuning=TuningOptions(trials=8, seconds=-1.0))
    assert [kernel.tuned for kernel in built.kernels] == [False]


def test_a_database_that_cannot_be_written_is_said(rng, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "tuning.jsonl"
    with pytest.raises(ResourceError) as raised:
        build_cpu(module(rng)[0], CpuTarget.host(), tuning=TuningOptions(trials=2, database=path))
    assert str(raised.value) == f"{path}: cannot write the tuning database: File exists"
