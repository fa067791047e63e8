"""The page of a report, without a browser: what it says, that it escapes, loads nothing, and is the same each time."""

import copy
import html.parser
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nncomp.compiler import CompileRequest, compile_model
from nncomp.diff import diff
from nncomp.plugins import Registry
from nncomp.report import plain
from nncomp.report.comparing import result_of
from nncomp.report.page import comparison_page, diff_page, report_fragment, report_page
from nncomp.report.page.blocks import block_name, blocks, drawing
from nncomp.report.page.charts import axis, histogram, stacked
from nncomp.report.page.comparison import comparison_content
from nncomp.report.page.facts import figures
from nncomp.report.page.rendering import duration_text, gain_text, percent_text, visible
from nncomp.report.page.rows import rows_of
from nncomp.report.page.trials import trial_chart
from nncomp.report.page.verdict import costly_layers
from nncomp.testing import graph
from nncomp.wording import energy_text

EVIL = '<script>alert("x")</script>\u202e\'"&\x07\ud800'

KEYS = st.sampled_from(
    [
        "layers",
        "dimensions",
        "size",
        "left",
        "ranks",
        "spectrum",
        "sparsity",
        "energy_uj",
        "energy_uj_by_part",
        "name",
        "energy_pj",
        "bound",
        "utilization",
        "float_islands",
        "int8_coverage",
        "integer_kernels",
        "hardware",
        "node",
    ]
)
GATE = {"passed": True, "identical": False, "sqnr_db": None, "skipped": ""}
VOID = {"meta", "link", "input", "br", "hr", "img", "wbr"}


class Checked(html.parser.HTMLParser):
    """Collects what a browser would see: elements, their attributes, and text; and that elements are closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]


@pytest.fixture(scope="module")
def compiled():
    """Return a function that compiles text and gives the report as data."""
    registry = Registry.discover()

    def run(net, **request):
        options = {"measure_seconds": 0.05, **request}
        return compile_model(CompileRequest(model=net, **options), registry).report.as_dict()

    return run


@pytest.fixture
def report(compiled, classifier):
    data = [{"image": np.random.default_rng(n).normal(size=(1, 3, 224, 224)).astype(np.float32)} for n in range(2)]
    return compiled(classifier, data=data)


def evil(report):
    """Return a report in which each name is hostile."""

    def changed(value, key=""):
        if isinstance(value, dict):
            return {name: changed(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [changed(item, key) for item in value]
        return EVIL if isinstance(value, str) and key not in ("precision", "status", "event") else value

    return changed(report)


# ------------------------------------------------------------------ the page


def test_of_a_model_of_very_many_layers_the_page_shows_those_that_cost_most(report):
    layers, times = report["layers"]["items"], report["measured"]["layers"]
    copies = 5100 // len(layers) + 1
    many = [{**layer, "name": f"copy {n} {layer['name']}", "inputs": []} for n in range(copies) for layer in layers]
    page = report_page(
        report
        | {"layers": report["layers"] | {"items": many}, "measured": report["measured"] | {"layers": times * copies}}
    )
    assert Checked(page).tags.count("tr") == 5000 + Checked(report_page(report)).tags.count("tr") - len(layers)
    assert f"{len(many) - 5000} more layers cost less than these: report.json has them." in page
    assert f"{len(many)} layers are too many to draw." in page
    assert "more layers cost less" not in report_page(report)


def test_the_page_answers_which_layer_costs_most_and_why(report):
    page = Checked(report_page(report))
    text = " ".join(" ".join(page.texts).split())
    assert "The layer that takes longest" in text
    assert re.search(r"% of a run (It|Onnx)", text)
    names = [item["name"] for item in report["layers"]["items"]]
    assert all(name in text for name in names)
    for section in (
        "Before and after",
        "Layers",
        "INT8 coverage",
        "Distributions",
        "What was asked, and what was done",
    ):
        assert section in text


def test_the_page_loads_nothing(report):
    page = Checked(report_page(report))
    assert page.values("src") == []
    assert {value.partition(":")[0] for tag, name, value in page.attributes if name == "href" and tag == "link"} == {
        "data"
    }
    assert all(value.startswith("#") for tag, name, value in page.attributes if name == "href" and tag == "a")
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", report_page(report)).replace("http://www.w3.org", "")
    (policy,) = [value for value in page.values("content") if "default-src 'none'" in value]
    assert "'unsafe-inline'; script-src 'sha256-" in policy


def test_links_inside_the_page_lead_somewhere(report):
    page = Checked(report_page(report))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")} <= set(ids)
    labelled = {one for value in page.values("aria-labelledby") for one in value.split()}
    assert labelled <= set(ids)


def test_hostile_names_are_text(report):
    text = report_page(evil(report))
    page = Checked(text)
    assert page.tags.count("script") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in text
    assert "\\u202e" in text
    assert "\x07" not in text
    text.encode()
    Checked(report_fragment(evil(report)))


def test_the_same_report_is_the_same_page(report):
    assert report_page(report) == report_page(report)


def test_a_report_of_a_model_that_nothing_is_known_of_says_so(compiled):
    net = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    text = report_page(compiled(net, passes=("cleanup",), measure=False))
    assert "not asked for" in text
    assert "no pass changed numbers" in text
    assert "Distributions" not in text
    assert "Nothing runs in integers" in text


def test_a_report_without_layers_is_shown_all_the_same(report):
    older = {**report, "layers": {"against": "", "skipped": {}, "items": []}}
    older["measured"] = {**report["measured"], "layers": [], "other_kernels_us": None}
    assert "No layers are known" in report_page(older)


def test_the_fragment_holds_no_style_or_script_that_reaches_out(report):
    page = Checked(report_fragment(report))
    assert {"script", "style", "link"}.isdisjoint(page.tags)
    assert page.tags[0] == "div"


# ------------------------------------------------------------------ parts


def test_blocks_are_cut_where_one_value_goes_on():
    # 0 -> 1 -> (2 -> 3, shortcut) -> 4 -> 5 -> 6
    assert blocks([[], [0], [1], [2], [1, 3], [4], [5]]) == [[0, 1], [2, 3, 4], [5, 6]]
    assert blocks([]) == []
    assert blocks([[], []]) == [[0, 1]]


def test_what_all_read_from_far_away_holds_no_block_together():
    mask = [[], *([number, 0] for number in range(119))]  # a chain, each of whose layers reads the first one
    assert [len(block) for block in blocks(mask)] == [1, 40, *[12] * 6, 7]


def test_long_chains_are_cut_too():
    assert [len(block) for block in blocks([[], *([number] for number in range(29))])] == [12, 12, 6]


def test_blocks_are_named_by_what_their_layers_share():
    assert block_name(["/layer1/layer1.0/conv1", "/layer1/layer1.0/conv2", "/layer1/layer1.0/Add"]) == "layer1/layer1.0"
    assert block_name(["Conv_1", "Conv_2"]) == ""
    assert block_name(["a/b"]) == ""


def test_a_drawing_puts_each_layer_below_what_it_reads():
    found = drawing([0, 1, 2, 3], [[], [0], [0], [1, 2]])
    heights = {node.layer: node.y for node in found.nodes}
    assert heights[0] < heights[1] == heights[2] < heights[3] < found.height
    assert {node.x for node in found.nodes if node.layer in (1, 2)} != {found.nodes[0].x}
    assert len(found.edges) == 5


def test_a_histogram_is_drawn_inside_its_frame():
    spread = {"low": -1.0, "high": 3.0, "counts": [0, 5, 100, 1], "covered": [-2.0, 2.0], "outside": 0.1}
    found = histogram(spread)
    assert found.covered == (0.0, 192.0)
    numbers = [float(number) for number in re.findall(r"[-\d.]+", found.path)]
    assert min(numbers) >= 0
    assert max(numbers) <= 240
    assert [text for _, text, _ in found.ticks] == ["-2", "0", "3"]


def test_a_range_far_wider_than_the_numbers_does_not_squeeze_them():
    spread = {"low": 0.0, "high": 1.0, "counts": [1, 1], "covered": [-100.0, 100.0], "outside": 0.0}
    assert [text for _, text, _ in histogram(spread).ticks] == ["-1", "0", "2"]


def test_one_number_has_a_histogram():
    assert histogram({"low": 2.0, "high": 2.0, "counts": [3], "covered": None, "outside": None}).path.endswith("Z")


def test_shares_add_up():
    assert [part["left"] for part in stacked({"a": 1.0, "b": 3.0})] == [0.0, 25.0]


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 10, [0, 2, 4, 6, 8, 10]), (1, 1, [1]), (0.93, 1.21, [1, 1.1, 1.2])]
)
def test_axes_have_round_numbers(low, high, found):
    assert axis(low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("microseconds", "text"), [(None, "–"), (3.14, "3.14 µs"), (999.9, "1.00 ms"), (12345, "12.3 ms"), (2e6, "2.00 s")]
)
def test_times_have_three_digits(microseconds, text):
    assert duration_text(microseconds) == text


def test_what_cannot_be_seen_is_shown():
    assert visible("a\u200eb\tc\ud800") == "a\\u200eb\tc\\ud800"
    assert visible("naïve 模型 👩\u200d🔬") == "naïve 模型 👩\u200d🔬"


# ------------------------------------------------------------------ why a layer costs what it costs


def layer(name="l", **facts):
    """Return a layer as a report has it."""
    known = {
        "name": name, "kind": "Conv", "ops": ["Conv"], "inputs": [], "output": name, "shape": [1], "macs": 1000,
        "params": 10, "moved_bytes": 10, "weight_bits": 8, "activation_bits": 8, "zeros": 0.0, "kernel": "",
        "precision": "integer", "cause": "", "error": None, "weight": None, "activation": None,
    }  # fmt: skip
    return known | facts


def why(layers, times=(), target=None):
    """Return why the layer that costs most does."""
    report = {
        "layers": {"items": layers},
        "measured": {"layers": [{"latency_us": us, "baseline_us": None} for us in times], "other_kernels_us": None},
        "results": {},
        "target_report": target or {},
    }
    (first, *_) = costly_layers(rows_of(report), report["target_report"])
    return first.why


def test_a_float_layer_says_why_it_is_float():
    slow = layer("slow", precision="float", cause="asked for")
    assert why([slow, layer()], [5, 1]).startswith("it runs in float: asked for; it is slow for its work")


def test_a_layer_that_does_much_says_how_much():
    assert (
        why([layer("big", macs=9000), layer()], [9, 1])
        == "it has much to do: 9000 multiplications, 90.0 % of the model's"
    )


def test_a_layer_that_moves_more_than_it_multiplies_waits_for_memory():
    found = why([layer("wide", moved_bytes=2048), layer("x")], [1, 1])
    assert found == "it moves 2.00 KiB for 1000 multiplications, 50.0 % of the model's: memory is the limit"


def test_a_layer_without_products_says_what_it_moves():
    found = why([layer("copy", macs=0, moved_bytes=2048), layer()], [9, 1])
    assert found == "it multiplies nothing and moves 2.00 KiB through memory"


def test_without_times_multiplications_count():
    assert why([layer(), layer("big", macs=9000)]) == "it has much to do: 9000 multiplications, 90.0 % of the model's"


def test_a_priced_layer_says_what_it_waits_for_and_how_much_is_idle():
    told = {"layers": [{"name": "l", "bound": "dram", "utilization": {"mapping": 0.9, "imbalance": 0.25}}]}
    assert why([layer()], [1], told).startswith(
        "it waits for dram; 25.0 % of its multipliers' time is used (imbalance); "
    )


def test_a_model_that_costs_nothing_has_no_costly_layer():
    report = {
        "layers": {"items": [layer(macs=0)]}, "measured": {"layers": [], "other_kernels_us": None}, "results": {},
        "target_report": {},
    }  # fmt: skip
    assert costly_layers(rows_of(report), {}) == []


# ------------------------------------------------------------------ trials


def trial(settings=0, **facts):
    """Return a trial as a report has it."""
    known = {"settings": dict.fromkeys(map(str, range(settings))), "sqnr_db": 20.0, "drop": None, "ratio": None}
    return known | {"frontier": False, "chosen": False} | facts


def test_trials_are_drawn_by_speed_and_nearness():
    found = trial_chart([trial(ratio=1.0, frontier=True), trial(ratio=2.0, sqnr_db=10.0, frontier=True)], drop=False)
    (slow, fast) = found.points
    assert slow.x < fast.x
    assert slow.y < fast.y  # upwards is nearer
    assert found.frontier == f"{slow.x:g},{slow.y:g} {fast.x:g},{fast.y:g}"
    assert found.up == "SQNR, dB"


def test_trials_that_were_not_timed_are_drawn_by_what_they_give_back():
    found = trial_chart([trial(0), trial(3, sqnr_db=30.0), trial(1, sqnr_db=None)], drop=False)
    assert found.across == "layers given back"
    assert [point.number for point in found.points] == [1, 2]


def test_under_a_budget_of_accuracy_accuracy_is_drawn():
    found = trial_chart([trial(ratio=1.0, drop=0.01, frontier=True), trial(ratio=2.0, drop=0.0)], drop=True)
    assert (found.up, found.frontier) == ("change of accuracy, points", "")


def test_one_trial_is_no_chart():
    assert trial_chart([trial()], drop=False) is None


# ------------------------------------------------------------------ what plugins tell

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), ANYTHING, max_size=2), st.dictionaries(KEYS, ANYTHING, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_plugins_tell_there_is_a_page(report, results, told):
    made = {**report, "results": results, "target_report": told}
    Checked(report_page(made))
    Checked(report_fragment(made))


def test_numbers_that_are_not_finite_are_said_so(report):
    passes = [{**one, "changed": True, "gate": {**GATE, "relative": None}} for one in report["passes"]]
    assert "relative error not finite" in report_page({**report, "passes": passes})


# ------------------------------------------------------------------ what numbers are called


def test_a_layer_that_became_slower_says_so(report):
    made = {
        "layers": {"items": [layer("dw")]}, "measured": {"layers": [{"latency_us": 10, "baseline_us": 3.5}],
        "other_kernels_us": None}, "results": {}, "target_report": {},
    }  # fmt: skip
    (first,) = costly_layers(rows_of(made), {})
    assert first.why.startswith("it is slower than the original, at 0.35x its speed: leave it out of quantization; ")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (50, ("2.00×", "smaller", "2.00×", "fewer multiplications")),
        (100, ("same", "size", "same", "multiplications")),
        (99.9, ("same", "size", "same", "multiplications")),
        (200, ("2.00×", "larger", "2.00×", "as many multiplications")),
    ],
)
def test_what_has_not_shrunk_is_not_called_smaller(report, after, told):
    made = report | {
        "before": report["before"] | {"file_bytes": 100, "macs": 100},
        "after": report["after"] | {"file_bytes": after, "macs": after},
        "target_report": {},
    }
    size, *_, macs = figures(made)
    assert (size.value, size.name, macs.value, macs.name) == told


def test_a_priced_page_names_the_machine_and_the_bits_that_it_counts(report):
    name = report["layers"]["items"][0]["name"]
    bits = {"weight": {"bits": 16}, "input": {"bits": 12}}
    told = {"hardware": {"name": "eyeriss"}, "energy_uj": 2286.7, "layers": [{"name": name, "bits": bits}]}
    page = report_page(report | {"target_report": told})
    assert "on</span> <bdi>eyeriss</bdi></h1>" in page
    assert "16 × 12" in page
    assert "2287 µJ" in page


def test_the_link_to_the_graph_has_the_name_of_its_section(report):
    assert '<a href="#graph">INT8 coverage</a>' in report_page(report)


def test_prices_beside_measurements_are_marked_and_do_not_compete(report):
    priced = copy.deepcopy(report)
    priced["measured"]["latency"] = {"latency_us": 1.0, "baseline_us": 2.0, "ratio": 2.0, "spread": [2, 2], "pairs": 0}
    measured = copy.deepcopy(report)
    measured["measured"]["latency"] = priced["measured"]["latency"] | {"latency_us": 9.0, "pairs": 7}
    reports = [priced, measured]
    found = comparison_content([result_of(name, one) for name, one in zip("ab", reports, strict=True)], reports)
    (line,) = [one for one in found["lines"] if one.name == "Latency"]
    assert (line.cells, line.best) == (("1.00 µs (priced)", "9.00 µs"), frozenset())


@pytest.mark.parametrize(("energy", "text"), [(2286.71, "2287 uJ"), (999.4, "999 uJ"), (0.01234, "0.0123 uJ")])
def test_energies_have_no_exponent_where_people_expect_none(energy, text):
    assert energy_text(energy) == text


def test_exact_results_are_named_where_they_cannot_be_drawn(report):
    latency = {"latency_us": 1.0, "baseline_us": 2.0, "ratio": 2.0, "spread": [2, 2], "pairs": 7}
    made = [copy.deepcopy(report) for _ in range(3)]
    for number, one in enumerate(made):
        one["measured"]["latency"] = latency | {"ratio": 2.0 + number}
        one["accuracy"] |= {"identical": number == 0, "sqnr_db": None if number == 0 else 30.0 + number, "after": None}
    page = comparison_page([result_of(name, one) for name, one in zip("abc", made, strict=True)], made)
    assert "Exact outputs have no SQNR and are not drawn: <bdi>a</bdi>." in page


def test_a_difference_says_that_passes_move_factors_between_weights():
    one, other = (graph(f"g (float[1] x) => (float[1] y) <float[1] w = {{{w}}}> {{ y = Mul (x, w) }}") for w in "12")
    page = diff_page("a", "b", plain(diff(one, other).as_dict()))
    assert "move factors from one layer to the next: then weights differ a lot" in page


@pytest.mark.parametrize(
    ("drop", "text"), [(None, "–"), (0.0, "±0.00"), (1e-9, "±0.00"), (0.0054, "−0.54"), (-0.01, "+1.00")]
)
def test_a_change_of_accuracy_is_told_in_points_with_its_sign(drop, text):
    assert gain_text(drop) == text


def test_a_share_of_nothing_has_no_sign():
    assert (percent_text(-1e-9), percent_text(-0.5, 0), percent_text(None)) == ("0.0 %", "-50 %", "–")
