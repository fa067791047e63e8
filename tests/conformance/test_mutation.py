"""Mutated models through the loader, in a child with a memory limit: refused or loaded, never anything else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutate.py")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_mutation_crashes_hangs_or_takes_memory(tmp_path, record_property):
    command = [sys.executable, str(SCRIPT), "800", "1", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"it ended with {ended.returncode} at {tmp_path}/current.onnx: {ended.stderr[-2000:]}"
    found = json.loads(ended.stdout)
    record_property(
        "scoreboard", f"mutations: {found['tried']} of {found['models']} models, {found['loaded']} still valid"
    )
    assert found["failures"] == []
    assert found["loaded"] > 50  # else nothing but the first check was reached
    assert found["models"] >= 30
