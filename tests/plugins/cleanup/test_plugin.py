"""The plugin as nncomp sees it."""

import subprocess
import sys

import nncomp
import nncomp_cleanup
from nncomp.passes import Effect

NAMES = [
    "cleanup",
    "dead-code",
    "eliminate-noops",
    "fold-constants",
    "inline-functions",
    "inline-if",
    "lift-constants",
    "merge-duplicates",
    "simplify-shapes",
]


def test_it_brings_its_passes():
    registry = nncomp.Registry()
    registry.load("cleanup", lambda: nncomp_cleanup)
    assert not registry.warnings
    assert sorted(registry.passes) == NAMES


def test_every_pass_is_exact_and_says_what_it_does():
    for one in nncomp_cleanup.nncomp_passes():
        assert one.effect is Effect.EXACT
        assert one.__doc__
        assert all(info.description for info in one.model_fields.values())


def test_its_hook_loads_no_runtime():
    code = (
        "import sys, nncomp_cleanup; list(nncomp_cleanup.nncomp_passes());"
        "assert not {'onnxruntime', 'torch', 'tvm', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
