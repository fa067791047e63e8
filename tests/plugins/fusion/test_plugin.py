"""The plugin itself: what it brings, and that it brings it lightly."""

import subprocess
import sys

import nncomp_fusion
from nncomp.passes import Effect
from nncomp.plugins import Registry


def test_it_registers_all_its_passes():
    registry = Registry()
    registry.load("fusion", lambda: nncomp_fusion)
    assert [state.state for state in registry.plugins] == ["ok"]
    assert list(registry.passes) == [
        "fold-batchnorm",
        "fold-scales",
        "matmul-to-gemm",
        "fold-pad",
        "reducemean-to-pool",
        "recognize-activations",
        "merge-movements",
        "fuse",
    ]
    exact = [name for name, step in registry.passes.items() if step.effect is Effect.EXACT]
    assert exact == ["merge-movements"]
    assert all(step.effect is not Effect.LOSSY for step in registry.passes.values())


def test_loading_it_imports_nothing_heavy():
    heavy = ["numpy", "onnx", "onnxruntime", "networkx"]
    code = f"import sys, nncomp_fusion; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_rule_says_what_it_computes():
    from nncomp_fusion.fuse import PHASES

    assert all("=" in rule.doc for phase in PHASES for group in phase for rule in group)
