"""Recipes: which passes, with which options, for which target, from which data; TOML in, TOML out."""

from nncomp.recipe.build import build_passes, full_spec
from nncomp.recipe.reader import load_recipe, parse_recipe
from nncomp.recipe.schema import Budget, GateOptions, Lock, Recipe, SearchOptions, options_section

__all__ = [
    "Budget",
    "GateOptions",
    "Lock",
    "Recipe",
    "SearchOptions",
    "build_passes",
    "full_spec",
    "load_recipe",
    "options_section",
    "parse_recipe",
]
