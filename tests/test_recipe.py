"""Recipes: TOML to passes and back, and what contradicts itself is found before any work."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from nncomp.errors import PluginError, RecipeError
from nncomp.hookspecs import hookimpl
from nncomp.options import option
from nncomp.passes import Effect, Pass
from nncomp.plugins import Registry
from nncomp.recipe import Budget, GateOptions, Recipe, build_passes, full_spec, load_recipe, parse_recipe
from nncomp.targets import Capabilities


class Shrink(Pass):
    """Shrink."""

    name: ClassVar[str] = "shrink"
    effect: ClassVar[Effect] = Effect.LOSSY
    bits: int = option(8, help="bits", ge=2, le=8)
    method: str = option("minmax", help="how")
    skip: tuple[str, ...] = option((), help="what not")

    def run(self, graph, ctx):
        """Do nothing."""

    def objection(self, target):
        """Four bits need kernels."""
        return "4 bits need integer kernels" if self.bits == 4 and (target is None or target.int8 is None) else ""


class Polish(Pass):
    """Polish."""

    name: ClassVar[str] = "polish"
    effect: ClassVar[Effect] = Effect.EXACT
    after: ClassVar[tuple[str, ...]] = ("shrink",)

    def run(self, graph, ctx):
        """Do nothing."""


@pytest.fixture
def registry():
    found = Registry()
    found.load("test", lambda: SimpleNamespace(NNCOMP_API=1, nncomp_passes=hookimpl(lambda: [Shrink, Polish])))
    return found


FULL = """
version = 1
target = "ort"
passes = [
    "shrink{bits=4, skip=['head*']}",   # a comment with "quotes"
    'polish',
]
seed = 7

[gate]
samples = 3

[budget]
min_sqnr_db = 1e1
max_drop = 0.01
"""


def test_a_recipe_is_read():
    recipe = parse_recipe(FULL)
    assert recipe.target == "ort"
    assert recipe.passes == ("shrink{bits=4, skip=['head*']}", "polish")
    assert recipe.seed == 7
    assert recipe.gate == GateOptions(samples=3)
    assert recipe.budget == Budget(min_sqnr_db=10.0, max_drop=0.01)


def test_passes_alone_make_a_recipe():
    assert parse_recipe('passes = ["polish"]') == Recipe(passes=("polish",))


def test_canonical_text_reads_back_as_the_same_recipe_and_writes_the_same_text():
    recipe = parse_recipe(FULL)
    text = recipe.to_toml()
    assert parse_recipe(text) == recipe
    assert parse_recipe(text).to_toml() == text
    assert text.splitlines()[:6] == [
        "version = 1",
        'target = "ort"',
        "passes = [",
        "    \"shrink{bits=4, skip=['head*']}\",",
        '    "polish",',
        "]",
    ]


def test_canonical_text_survives_strings_that_need_escapes():
    recipe = Recipe(passes=('shrink{method="a\\tb\\u007f\\u0001\\"\\\\é"}', "line\nbreak\x7f"))
    assert parse_recipe(recipe.to_toml()) == recipe


@pytest.mark.row(70)
def test_a_number_in_scientific_notation_is_a_number():
    assert parse_recipe("passes = []\n[budget]\nmin_cosine = 1e-3").budget.min_cosine == 0.001


def test_passes_are_built_with_their_options(registry):
    passes = build_passes(parse_recipe("passes = [\"shrink{bits=3, skip=['a', 'b']}\", 'polish']"), registry)
    assert passes == [Shrink(bits=3, skip=("a", "b")), Polish()]


def test_the_full_spec_names_every_option_and_builds_the_same_pass(registry):
    spec = full_spec(Shrink(bits=3))
    assert spec == 'shrink{bits=3, method="minmax", skip=[]}'
    assert build_passes(Recipe(passes=(spec,)), registry) == [Shrink(bits=3)]
    assert full_spec(Polish()) == "polish"


def test_the_line_of_each_pass_is_known_also_inside_one_line_and_behind_comments():
    text = 'passes = ["a", "b",\n  # "not a pass"\n  """c""", \'d\']\n[gate]\nenabled = true'
    assert parse_recipe(text).source.pass_lines == (1, 1, 3, 3)


def test_a_wrong_pass_is_named_with_file_and_line(registry, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('version = 1\npasses = [\n  "polish",\n  "shrnk",\n]\n')
    with pytest.raises(RecipeError) as caught:
        build_passes(load_recipe(path), registry)
    assert caught.value.message == f"{path}:4: unknown pass 'shrnk'"
    assert caught.value.hint == "did you mean 'shrink'?"
    assert (caught.value.code, caught.value.where.line) == ("NNC-R010", 4)


@pytest.mark.row(77)
def test_a_pass_before_one_that_it_must_follow_is_a_contradiction(registry):
    with pytest.raises(RecipeError) as caught:
        build_passes(Recipe(passes=("polish", "shrink")), registry)
    assert caught.value.code == "NNC-R012"
    assert caught.value.message == "pass 'polish' stands before 'shrink', which it must follow"


@pytest.mark.row(77)
def test_a_pass_that_objects_to_the_target_is_a_contradiction(registry):
    target = Capabilities(max_ir_version=13, opsets=(7, 26))
    with pytest.raises(RecipeError) as caught:
        build_passes(parse_recipe('passes = [\n"shrink{bits=4}"]'), registry, target)
    assert caught.value.code == "NNC-R012"
    assert caught.value.message == "pass 'shrink': 4 bits need integer kernels"


def test_an_option_that_is_not_finite_is_refused(registry):
    for text in ("shrink{bits=nan}", "shrink{skip=[inf]}", "shrink{method={a=-inf}}"):
        with pytest.raises(RecipeError, match="expected a finite number") as caught:
            build_passes(Recipe(passes=(text,)), registry)
        assert caught.value.code == "NNC-R003"


def test_an_unknown_pass_of_a_broken_plugin_is_the_plugins_fault(registry):
    def broken():
        raise ImportError("no module named acme")

    registry.load("acme", broken)
    with pytest.raises(PluginError) as caught:
        build_passes(Recipe(passes=("zzz",)), registry)
    assert caught.value.exit_status == 7
    assert "plugin 'acme' failed to load and might provide it" in caught.value.hint
