"""Decomposed layers beside other passes: quantized, equalized and pruned."""

import numpy as np

import nncomp
from nncomp.data import FeedSource
from nncomp.passes import Context
from nncomp.runtime import Session, run
from nncomp.testing import assert_same_function, graph

NET = """
g (float[1,16,8,8] x) => (float[1,10] y)
<float[32,16,3,3] w1, float[32] b1, float[32,32,3,3] w2, float[10,32] w3, float[10] b3>
{
   [c1] a = Conv <pads = [1,1,1,1]> (x, w1, b1)
   r = Relu (a)
   [c2] c = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w2)
   s = Relu (c)
   p = GlobalAveragePool (s)
   f = Flatten (p)
   [fc] y = Gemm <transB = 1> (f, w3, b3)
}
"""


def samples(count, seed=0, channels=16, rank=6):
    """Return images whose channels are mixtures of a few."""
    mixing = np.random.default_rng(99).normal(size=(channels, rank))
    sources = np.random.default_rng(seed).normal(size=(count, rank, 8, 8))
    mixed = np.einsum("nrhw,cr->nchw", sources, mixing)
    return [{"x": one[None].astype(np.float32)} for one in mixed]


def low_rank_weights(seed=0):
    """Return a second weight that is nearly of rank 8, as trained ones are."""
    rng = np.random.default_rng(seed)
    core = np.einsum(
        "oa,abhw,bi->oihw", rng.normal(size=(32, 8)), rng.normal(size=(8, 8, 3, 3)), rng.normal(size=(8, 32))
    )
    return {"w2": (core / 30 + 0.02 * rng.normal(size=core.shape)).astype(np.float32)}


def test_equalizing_evens_out_the_channels_between_factors():
    registry = nncomp.Registry.discover()
    model = graph(NET, constants=low_rank_weights())
    ctx = Context(ops=registry.ops, data=FeedSource(samples(8), model))
    options = {"macs": 0.6, "align": 4, "forms": ("tucker",), "skip": ("fc",)}
    nncomp.Pipeline([registry.pass_type("decompose")(**options)]).run(model, ctx)
    before = model.clone()
    nncomp.Pipeline([registry.pass_type("equalize")(strength=1.0, max_factor=1000.0)]).run(model, ctx)
    assert_same_function(before, model, rtol=1e-3, atol=1e-4)
    spreads = [[spread(one, name) for name in ("c2.v", "c2.core")] for one in (before, model)]
    assert max(spreads[1]) < 1.01 < 2 < min(spreads[0])


def spread(model, name):
    """Return how many times the widest channel of what ``name`` gives is as wide as the narrowest."""
    session = Session(model, outputs=[name])
    peaks = np.max([np.abs(session.run(one)[name]).max(axis=(0, 2, 3)) for one in samples(8)], axis=0)
    return peaks.max() / peaks.min()


def integer_artifact(*steps):
    """Run ``steps`` and quantize; return the model before, the one built, and the results of the passes."""
    registry = nncomp.Registry.discover()
    target = registry.target("ort")
    model = graph(NET, constants=low_rank_weights())
    before = model.clone()
    ctx = Context(ops=registry.ops, target=target.capabilities, data=FeedSource(samples(8), model))
    passes = [registry.pass_type(name)(**options) for name, options in steps]
    nncomp.Pipeline([*passes, registry.pass_type("equalize")(), registry.pass_type("quantize")()]).run(model, ctx)
    return before, target.build(model, ctx), ctx.results


def integer_error(before, artifact):
    pairs = [(run(before, one)["y"], artifact.run(one)["y"]) for one in samples(8, seed=1)]
    return sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs)


def test_in_one_recipe_with_quantization_the_factors_run_in_integers():
    before, artifact, _ = integer_artifact(("decompose", {"macs": 0.6, "align": 4, "forms": ("tucker", "svd")}))
    assert artifact.report()["kernels"]["QLinearConv"] > 3
    assert integer_error(before, artifact) < 0.01


def test_what_is_pruned_is_decomposed_at_its_new_size_and_runs_in_integers():
    before, artifact, results = integer_artifact(
        ("prune-structured", {"macs": 0.8, "align": 4}),
        ("decompose", {"macs": 0.8, "align": 4, "forms": ("tucker",), "skip": ("c1", "fc")}),
    )
    width = results["prune-structured"]["dimensions"]["a[1]"]["left"]
    layer = results["decompose"]["layers"]["c2"]
    outputs, inputs = layer["ranks"]
    assert width < 32
    assert layer["params"] == 32 * outputs + 9 * outputs * inputs + inputs * width
    assert artifact.report()["kernels"]["QLinearConv"] == 4
    assert integer_error(before, artifact) < 0.05
