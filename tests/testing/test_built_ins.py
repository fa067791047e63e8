"""What comes with nncomp keeps the laws that plugin authors' passes and targets are held to."""

import pytest

from nncomp.passes import Context, Effect
from nncomp.plugins import Registry
from nncomp.testing import calibrated, check_pass, check_target, graph, specimens
from nncomp.testing.elsewhere import digests_elsewhere, digests_here

BUILT_IN = ("cleanup", "fusion", "lowrank", "prune", "quant")
REGISTRY = Registry.discover()
PASSES = {name: kind for name, kind in REGISTRY.passes.items() if REGISTRY.owner("pass", name) in BUILT_IN}
ORT = REGISTRY.target("ort").capabilities
OPTIONS = {
    "half-weights": {"least": 8},
    "prune-structured": {"ratio": 0.5},
    "quantize-weights": {"block": 16, "method": "rtn"},
}
WITHOUT_TARGET = {"decompose", "sparsify"}  # what they do is worth nothing to ONNX Runtime where it is this small
SAME_TWICE = {name for name, kind in PASSES.items() if kind.effect is not Effect.LOSSY}
FIRES_ON = {
    "equalize": """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[3,2,1,1] w, float[2,3,1,1] v>
        { a = Conv (x, w)  b = Relu (a)  y = Conv (b, v) }""",
    "fold-constants": "g (float[2] x) => (float[2] y) <float[2] w> { a = Neg (w)  y = Add (x, a) }",
    "merge-duplicates": "g (float[2] x) => (float[2] y) { a = Neg (x)  b = Neg (x)  y = Add (a, b) }",
    "merge-movements": """g (float[2,3,4] x) => (float[4,2,3] y)
        { a = Relu (x)  b = Transpose <perm = [1, 2, 0]> (a)  c = Transpose <perm = [1, 2, 0]> (b)  y = Neg (c) }""",
    "quantize-weights": "g (float[2,128] x) => (float[2,64] y) <float[128,64] w> { y = MatMul (x, w) }",
    "smooth": """g (float[2,4] x) => (float[2,3] y) <float[4] gain = {1, 1, 40, 1}, float[4] shift, float[4,3] w>
        { n = LayerNormalization (x, gain, shift)  y = MatMul (n, w) }""",
}


def for_ort(given):
    """Return a context with data, for ONNX Runtime."""
    return Context(target=ORT, data=calibrated(given).data)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_a_pass_keeps_the_laws(name):
    check_pass(
        PASSES[name](**OPTIONS.get(name, {})),
        fires_on=[graph(FIRES_ON[name])] if name in FIRES_ON else (),
        settles=name in SAME_TWICE,
        context=calibrated if name in WITHOUT_TARGET else for_ort,
        examples=1,
        hash_seeds=(),  # all of them together, below
    )


def test_all_passes_give_the_same_bytes_in_another_process():
    steps = [kind(**OPTIONS.get(name, {})) for name, kind in PASSES.items()]
    graphs = list(specimens().values())[:2]
    assert digests_elsewhere(steps, graphs, calibrated, 1) == [digests_here(one, graphs, calibrated) for one in steps]


@pytest.mark.parametrize("name", ["ort", "sparse"])
def test_a_target_keeps_the_laws(name):
    assert check_target(REGISTRY.target(name)).built


def test_a_target_that_compiles_keeps_the_laws_on_a_few_graphs():
    target = REGISTRY.target("tvm-cpu")
    few = dict(list(specimens().items())[5:8])
    report = check_target(target, graphs=few, sizes=(1,))
    assert bool(report.built) != bool(target.missing())
