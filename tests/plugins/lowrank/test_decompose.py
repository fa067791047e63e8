"""The pass: budgets are met, data help, what stays says why, and the graph around a layer stays what it was."""

import numpy as np
import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.passes import Context
from nncomp.report import with_shapes
from nncomp.runtime import Session, run
from nncomp.targets import OpCost
from nncomp.testing import assert_same_function, graph
from nncomp_lowrank.decompose import Decompose
from nncomp_lowrank.layers import find_layers
from nncomp_lowrank.statistics import relative_error

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


def decomposed(text=NET, *, data=True, constants=None, **options):
    before = graph(text, constants=low_rank_weights() if constants is None else constants)
    infer_types(before)
    after = before.clone()
    ctx = Context(data=FeedSource(samples(8), after) if data else None)
    Decompose(**({"align": 4, "forms": ("svd", "tucker")} | options)).run(after, ctx)
    infer_types(after)
    return before, after, ctx


def error(before, after):
    pairs = [(run(before, one)["y"], run(after, one)["y"]) for one in samples(8, seed=1)]
    return sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs)


def cost(model, name):
    table = Context().ops
    infer_types(model)
    return sum(getattr(table.cost(op, model), name) for op in model.ops() if op.kind in ("Conv", "Gemm", "MatMul"))


@pytest.mark.parametrize("name", ["macs", "params"])
@pytest.mark.parametrize("share", [0.8, 0.5])
def test_a_budget_is_met(name, share):
    before, after, ctx = decomposed(**{name: share})
    assert cost(after, name) <= (share + 0.01) * cost(before, name)
    assert ctx.results["decompose"]["reached"] <= share


def test_a_small_budget_of_a_large_matrix_is_used_up():
    text = "g (float[1,512] x) => (float[1,512] y) <float[512,512] w> { y = MatMul (x, w) }"
    _, _, ctx = decomposed(text, data=False, constants={}, params=0.03, forms=("svd",), align=1, only_faster=False)
    assert ctx.results["decompose"]["layers"]["MatMul(y)"]["ranks"] == [7]


def test_the_factors_have_traceable_names_and_the_activation_stays_behind_them():
    _, after, _ = decomposed(macs=0.75, forms=["tucker"], skip=("c1", "fc"))
    ops = after.ops()
    assert [op.name for op in ops if op.name.startswith("c2")] == ["c2.v", "c2.core", "c2.u"]
    v, core, u = (next(op for op in ops if op.name == f"c2.{part}") for part in ("v", "core", "u"))
    assert [value.name for value in (v.inputs[1], core.inputs[1], u.inputs[1])] == ["w2.v", "w2.core", "w2.u"]
    assert (v.attr("strides"), core.attr("strides"), u.attr("strides")) == ((1, 1), (2, 2), (1, 1))
    assert u.output.name == "c"
    assert [op.kind for op in after.users(u.output)] == ["Relu"]


def test_data_make_the_error_smaller():
    before, plain, _ = decomposed(macs=0.5, data_aware=False, forms=["svd", "tucker"])
    _, aware, _ = decomposed(macs=0.5, forms=["svd", "tucker"])
    assert error(before, aware) < 0.5 * error(before, plain)


def test_layers_fitted_to_what_lies_in_front_of_them_are_better():
    before, alone, _ = decomposed(macs=0.4, sequential=False)
    _, walked, _ = decomposed(macs=0.4)
    assert error(before, walked) < error(before, alone)


def test_the_report_names_forms_ranks_errors_and_spectra():
    _, _, ctx = decomposed(macs=0.5)
    found = ctx.results["decompose"]
    promised = {"promised_speedup", "promised_energy_ratio"}
    assert set(found) == {"reached", "layers", "left", "error_expected", "error_end_to_end"} | promised
    one = next(iter(found["layers"].values()))
    assert set(one) == {"form", "ranks", "macs", "params", "spectrum", "error", "sensitivity"}
    assert one["spectrum"] == sorted(one["spectrum"], reverse=True)
    assert 0 <= one["error"] < 1


def test_a_shared_weight_is_decomposed_once():
    text = """
    g (float[1,16,8,8] x) => (float[1,16,8,8] y)
    <float[16,16,3,3] w>
    { [a] a = Conv <pads = [1,1,1,1]> (x, w)  r = Relu (a)  [b] y = Conv <pads = [1,1,1,1]> (r, w) }
    """
    _, after, ctx = decomposed(text, constants={}, macs=0.6, forms=["svd"])
    assert sorted(value.name for value in after.constants()) == ["w.u", "w.v"]
    assert [op.name for op in after.ops() if op.kind == "Conv"] == ["a.v", "a.u", "b.v", "b.u"]
    assert list(ctx.results["decompose"]["layers"]) == ["a"]


def test_a_layer_in_a_body_is_decomposed_without_data():
    text = """
    g (bool c, float[1,16,8,8] x) => (float[1,16,8,8] y)
    <float[16,16,3,3] w>
    {
       y = If (c) <
         then_branch = t () => (float[1,16,8,8] p) { [inner] p = Conv <pads = [1,1,1,1]> (x, w) },
         else_branch = e () => (float[1,16,8,8] q) { q = Identity (x) }
       >
    }
    """
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(16, 4)) @ rng.normal(size=(4, 144))
    before = graph(text, constants={"w": (flat / 10).reshape(16, 16, 3, 3).astype(np.float32)})
    infer_types(before)
    after = before.clone()
    Decompose(macs=0.5, align=4, forms=("svd",)).run(after, Context())
    assert_same_function(before, after)
    assert [op.name for _, op in after.walk() if op.kind == "Conv"] == ["inner.v", "inner.u"]
    assert {value.name for value in after.constants()} == {"w.u", "w.v"}


def test_without_a_budget_ranks_are_what_stands_out_of_noise():
    _, _, ctx = decomposed(data=False)
    found = ctx.results["decompose"]["layers"]
    assert found["c2"]["form"] == "tucker"
    assert found["c2"]["ranks"] == [8, 8]


class Clock:
    """A probe that takes MACs for microseconds, but for graphs with more than two layers."""

    def compare(self, graph, baseline, *, then=(), data=None, seconds=0.1):
        us = [self._us(one) for one in (graph, baseline)]
        return nncomp.Measurement(us[0], us[1], us[1] / us[0], (1.0, 1.0), pairs=0)

    def costs(self, graph, *, then=(), data=None):
        """Take parameters for energy."""
        return {"all": OpCost(0.0, float(cost(graph.clone(), "params")))}

    def _us(self, model):
        one = model.clone()
        penalty = 100 if len(one.ops()) == 3 else 1
        return cost(one, "macs") / 1000 * penalty


def test_what_is_measured_to_be_slower_is_left_with_the_reason():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    ctx = Context(data=FeedSource(samples(4), before), probe=Clock())
    Decompose(macs=0.7, align=4, forms=("tucker", "svd")).run(before, ctx)
    found = ctx.results["decompose"]
    assert {one["form"] for one in found["layers"].values()} == {"svd"}
    assert all(slow > fast for slow, fast in (one["latency_us"] for one in found["layers"].values()))


def test_a_budget_of_latency_is_met_by_the_times_of_layers():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    after = before.clone()
    clock = Clock()
    ctx = Context(data=FeedSource(samples(4), after), probe=clock)
    Decompose(latency=0.6, align=4, forms=("svd",)).run(after, ctx)
    assert cost(after, "macs") <= 0.61 * cost(before, "macs")
    assert ctx.results["decompose"]["promised_speedup"] > 1.6


def test_a_budget_of_energy_is_met_by_the_prices_of_layers():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    after = before.clone()
    ctx = Context(data=FeedSource(samples(4), after), probe=Clock())
    Decompose(energy=0.6, align=4, forms=("svd",)).run(after, ctx)
    assert cost(after, "params") <= 0.61 * cost(before, "params")
    found = ctx.results["decompose"]
    assert found["promised_energy_ratio"] > 1.6
    assert found["promised_speedup"] is None
    assert all(before > after for before, after in (one["energy_nj"] for one in found["layers"].values()))


def test_a_target_on_which_everything_is_free_leaves_no_energy_to_save():
    class Free(Clock):
        def costs(self, graph, *, then=(), data=None):
            return {}

    model = graph(NET, constants=low_rank_weights())
    infer_types(model)
    ctx = Context(data=FeedSource(samples(4), model), probe=Free())
    with pytest.raises(UnsupportedError) as caught:
        Decompose(energy=0.6, align=4, forms=("svd",)).run(model, ctx)
    assert caught.value.code == "NNC-M052"
    assert caught.value.message.startswith("decompose: energy=0.6 is out of reach, the least is 1.000 (")


def test_outputs_whose_sizes_differ_count_as_wholly_wrong():
    assert relative_error([{"y": np.ones(2, np.float32)}], [{"y": np.ones(3, np.float32)}]) == 1.0
    assert relative_error([{"y": [np.ones(2, np.float32)]}], [{"y": []}]) == 0.0
    assert relative_error([], []) == 0.0


@pytest.mark.parametrize("name", ["macs", "params"])
def test_layers_that_are_skipped_count_where_the_batch_is_not_known(name):
    text = NET.replace("float[1,16,8,8]", "float[N,16,8,8]").replace("float[1,10]", "float[N,10]")
    before, after, ctx = decomposed(text, **{name: 0.7}, skip=("c1",))
    sized = [graph_of_one_image(model) for model in (before, after)]
    assert cost(sized[1], name) <= 0.7 * cost(sized[0], name) + 42  # biases are no weights
    assert ctx.results["decompose"]["reached"] <= 0.7


def graph_of_one_image(model):
    return with_shapes(model, Context().ops, {"x": (1, 16, 8, 8)})


def test_what_cannot_be_reached_says_how_far_it_goes():
    with pytest.raises(UnsupportedError) as caught:
        decomposed(macs=0.01)
    assert caught.value.code == "NNC-M052"
    assert caught.value.message.startswith("decompose: macs=0.01 is out of reach, the least is 0.")
    assert caught.value.hint == "allow more forms, a smaller align, or only_faster=false"


def test_two_budgets_are_refused():
    with pytest.raises(RecipeError) as caught:
        decomposed(macs=0.5, params=0.5)
    assert caught.value.message == "decompose: macs and params are two budgets, give one"
    assert Decompose(macs=0.5, params=0.5).objection(None) == "macs and params are two budgets, give one"
    assert Decompose(macs=0.5).objection(None) == ""


def test_an_unknown_form_is_refused():
    with pytest.raises(RecipeError) as caught:
        Decompose.from_options({"forms": ["svd", "qr"]})  # before any work
    assert caught.value.message == "decompose.forms: unknown form 'qr'"
    assert caught.value.hint == "forms: svd, svd-in, spatial, tucker, tt, cp, tt-columns, tt-matrix, ht-matrix"


def test_a_latency_without_a_probe_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        decomposed(latency=0.5)
    assert caught.value.message == "decompose.latency: nothing here can be timed"


def test_layers_are_priced_with_what_they_really_read():
    read = {}

    class Watching(Clock):
        def costs(self, graph, *, then=(), data=None):
            if data is not None:
                (array,) = next(iter(data)).values()
                read.setdefault(array.shape, []).append(array)
            return super().costs(graph)

    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    ctx = Context(data=FeedSource(samples(4), before), probe=Watching())
    Decompose(energy=0.6, align=4, forms=("svd",)).run(before, ctx)
    assert set(read) == {(1, 16, 8, 8), (1, 32, 8, 8), (1, 32)}
    assert all((array >= 0).all() and (array == 0).any() for array in read[1, 32, 8, 8])  # behind a Relu


def test_energy_is_refused_where_none_is_known():
    class Measured(Clock):
        def costs(self, graph, *, then=(), data=None):
            return None

    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    for probe in (None, Measured()):
        with pytest.raises(UnsupportedError) as caught:
            Decompose(energy=0.5, align=4).run(before, Context(probe=probe))
        assert caught.value.message == "decompose.energy: the target knows no energies"
        assert caught.value.hint == "compile for a cost model: -t sparse"
        assert caught.value.code == "NNC-T002"


def test_a_model_without_layers_says_so():
    with pytest.raises(UnsupportedError) as caught:
        decomposed(
            "g (float[1,4,8,8] x) => (float[1,4,6,6] y) <float[4,1,3,3] w> { y = Conv <group = 4> (x, w) }",
            data=False,
            constants={},
        )
    assert caught.value.code == "NNC-M052"
    assert caught.value.message == (
        "decompose: nothing in this model can be decomposed "
        "(1 x Conv: depthwise: no two channels have anything to share)"
    )


def test_same_input_same_bytes():
    first, second = (decomposed(macs=0.5)[1] for _ in range(2))
    arrays = [{value.name: value.const.numpy().tobytes() for value in one.constants()} for one in (first, second)]
    assert arrays[0] == arrays[1]


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (
            ("quantize", "decompose"),
            "pass 'quantize' stands before 'decompose', which it must follow: factors are made of float weights",
        ),
        (
            ("equalize", "decompose"),
            "pass 'equalize' stands before 'decompose', which it must follow: "
            "the channels between two factors are to be evened out, too",
        ),
        (
            ("decompose", "fold-batchnorm"),
            "pass 'decompose' stands before 'fold-batchnorm', which it must follow: "
            "a scale that is folded later would hide how much each output channel matters",
        ),
    ],
)
def test_the_wrong_order_is_refused_with_the_reason(passes, message):
    registry = nncomp.Registry.discover()
    with pytest.raises(RecipeError) as caught:
        nncomp.Pipeline([registry.pass_type(name)() for name in passes])
    assert caught.value.message == message


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "g (float[2,8] x) => (float[1,2,8] y) <float[1,8,8] w> { y = MatMul (x, w) }",
            "its weight is no float32 matrix",
        ),
        (
            "g (double[2,8] x) => (double[2,8] y) <double[8,8] w> { y = MatMul (x, w) }",
            "its weight is no float32 matrix",
        ),
        ("g (float[8,2] x) => (float[8,2] y) <float[8,8] w> { y = MatMul (w, x) }", "its weight is the left operand"),
        (
            "g (float[1,8,4,4] x) => (float[1,8,5,5] y) <float[8,8,2,2] w> { y = ConvTranspose (x, w) }",
            "ConvTranspose is not decomposed",
        ),
        (
            "g (float[3,2,8] x) => (float[3,2,8] y) <float[3,8,8] w> { y = MatMul (x, w) }",
            "it has a weight for each sample of a batch",
        ),
        (
            "g (float[2,8] x) => (float[2,8] y) <float[8,8] w> "
            "{ a = MatMul (x, w) t = Transpose (w) y = MatMul (a, t) }",
            "its weight is read by 'Transpose(t)', too, in another way",
        ),
    ],
)
def test_what_cannot_be_decomposed_says_why(text, reason):
    model = graph(text)
    infer_types(model)
    layers, left = find_layers(model, Context().ops)
    assert layers == []
    assert set(left.values()) == {reason}


def test_layers_that_stay_count_in_the_budget():
    text = """
    g (float[1,16,8,8] x) => (float[1,16,8,8] y) <float[16,1,3,3] d, float[16,16,1,1] w>
    { a = Conv <group = 16, pads = [1,1,1,1]> (x, d)  [b] y = Conv (a, w) }
    """
    before, after, ctx = decomposed(text, constants={}, macs=0.85, align=1)
    assert cost(after, "macs") <= 0.85 * cost(before, "macs")
    assert ctx.results["decompose"]["left"] == {"Conv(a)": "depthwise: no two channels have anything to share"}


def test_a_gemm_of_an_old_opset_keeps_the_bias_that_it_must_have():
    text = "g (float[2,16] x) => (float[2,16] y) <float[16,16] w, float[16] b> { [fc] y = Gemm (x, w, b) }"
    model = graph(text, opset=9)
    infer_types(model)
    after = model.clone()
    Decompose(params=0.6, align=1).run(after, Context())
    assert [len(op.inputs) for op in after.ops()] == [3, 3]
    run(after, {"x": np.ones((2, 16), np.float32)})


def test_a_weight_from_a_constant_node_is_decomposed():
    ones = ", ".join(["1"] * 256)
    text = f"""
    g (float[2,16] x) => (float[2,16] y)
    {{ w = Constant <value = float[16,16] {{{ones}}}> ()  [fc] y = MatMul (x, w) }}
    """
    before = graph(text)
    infer_types(before)
    after = before.clone()
    Decompose(params=0.6, align=1).run(after, Context())
    assert [op.name for op in after.ops()] == ["fc.v", "fc.u"]
    assert_same_function(before, after)


def test_a_bias_that_is_computed_is_left_alone():
    text = """
    g (float[1,16,8,8] x, float[16] c) => (float[1,16,8,8] y) <float[16,16,3,3] w>
    { b = Relu (c)  [a] y = Conv <pads = [1,1,1,1]> (x, w, b) }
    """
    model = graph(text)
    infer_types(model)
    feeds = [{**one, "c": np.ones(16, np.float32)} for one in samples(4)]
    Decompose(macs=0.7, align=1, forms=("svd",)).run(model, Context(data=FeedSource(feeds, model)))
    last = next(op for op in model.ops() if op.name == "a.u")
    assert last.inputs[2] is model.find("b")


def test_a_sum_of_two_decomposed_layers_is_fitted_as_a_whole():
    text = """
    g (float[1,16,8,8] x) => (float[1,32,8,8] y)
    <float[32,16,3,3] w1, float[32,32,3,3] w2, float[32,16,1,1] w3>
    {
       [a] a = Conv <pads = [1,1,1,1]> (x, w1)  r = Relu (a)
       [b] b = Conv <pads = [1,1,1,1]> (r, w2)
       [c] c = Conv (x, w3)
       s = Add (b, c)  y = Relu (s)
    }
    """
    before, after, ctx = decomposed(text, macs=0.5)
    assert {"b", "c"} <= set(ctx.results["decompose"]["layers"])
    assert error(before, after) < 0.05
