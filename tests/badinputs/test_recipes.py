# ruff: noqa: E501  a table: one case a line
"""the list of bad inputs section E: recipes that are wrong, each refused with a stable code, a place and a way out."""

import pytest

from nncomp.errors import NncompError
from nncomp.plugins import Registry
from nncomp.recipe import build_passes, load_recipe

YAML_CODE = "passes: !!python/object/apply:os.system ['touch /tmp/owned']\n"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\n"


def refused(tmp_path, text, name="r.toml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NncompError) as caught:
        build_passes(load_recipe(path), Registry())
    error = caught.value
    assert error.exit_status == 2
    assert "\n" not in error.message
    return error, error.message.removeprefix(f"{path}:").removeprefix(f"{path}: ").strip()


@pytest.mark.row(68, 69, 71, 72, 73, 74, 75)
@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        # 68, 72: YAML never runs and is never expanded
        (YAML_CODE, "NNC-R001", "1:7: this is YAML with tags", "a recipe may hold plain data only, as TOML"),
        (BOMB, "NNC-R003", "1:2: this looks like YAML, expected TOML", 'recipes are TOML: passes = ["cleanup"]'),
        ('{"passes": []}', "NNC-R003", "1:1: this looks like JSON, expected TOML", 'recipes are TOML: passes = ["cleanup"]'),
        # 69: duplicate keys, with both lines
        ("version = 1\nseed = 1\nseed = 2\npasses = []", "NNC-R002", "3:9: a key is given twice, first in line 2", ""),
        ("seed = 1\npasses = []\nseed = 2", "NNC-R002", "3:9: a key is given twice, first in line 1", ""),
        ("passes = []\n[gate]\n[budget]\n[gate]\n", "NNC-R002", "4:6: a key is given twice, first in line 2", ""),
        ("passes = []\nbudget = {max_drop = 0.1, max_drop = 0.2}", "NNC-R002", "2:41: a key is given twice", ""),
        # 71: values that other formats would guess at
        ("passes = []\nversion = 1.10", "NNC-R003", "2: version: expected 1, got 1.1", ""),
        ("passes = []\nversion = '1'", "NNC-R003", "2: version: expected 1, got '1'", ""),
        ("passes = []\nseed = 12:30:45", "NNC-R003", "2: seed: expected an integer, got datetime.time(12, 30, 45)", ""),
        ("passes = []\nseed = 010", "NNC-R003", "2:9: expected newline or end of document after a statement", "text stands in quotes"),
        ("passes = []\nseed = no", "NNC-R003", "2:8: invalid value", "text stands in quotes"),
        ("passes = []\nseed = true", "NNC-R003", "2: seed: expected an integer, got True", ""),
        ("passes = []\n[gate]\nenabled = 'no'", "NNC-R003", "3: gate.enabled: expected true or false, got 'no'", ""),
        ("passes = []\n[budget]\nmin_sqnr_db = '20'", "NNC-R003", "3: budget.min_sqnr_db: expected a number, got '20'", ""),
        # 73: depth
        ("passes = " + "[" * 3000, "NNC-R004", "1:1: nested deeper than 64", ""),
        ("passes = " + "[" * 70 + "]" * 70, "NNC-R004", "1:1: nested deeper than 64", ""),
        ("passes = []\n" + "a." * 20000 + "a = 1", "NNC-R004", "2:1: a key has more than 64 parts", ""),
        # 74: not a table, not text
        ("", "NNC-R003", "1:1: the recipe is empty", 'recipes are TOML: passes = ["cleanup"]'),
        (" \n\n", "NNC-R003", "1:1: the recipe is empty", 'recipes are TOML: passes = ["cleanup"]'),
        ("# only a comment\n", "NNC-R003", "'passes' is missing", 'recipes are TOML: passes = ["cleanup"]'),
        ("quantize", "NNC-R003", "1:9: expected '=' after a key in a key/value pair", "text stands in quotes"),
        ("---\npasses: []\n---\n", "NNC-R003", "1:4: this looks like YAML, expected TOML", 'recipes are TOML: passes = ["cleanup"]'),
        (b"\xef\xbb\xbfpasses = []", "NNC-R003", "1:1: the file starts with a byte order mark, expected plain UTF-8", "save it as UTF-8"),
        ("passes = []".encode("utf-16"), "NNC-R003", "1:1: the file starts with UTF-16, expected plain UTF-8", "save it as UTF-8"),
        (b"passes = []\nseed = '\xe9'", "NNC-R003", "2:9: not UTF-8", "save it as UTF-8"),
        ("passes = []\n[budget]\nmin_cosine = nan", "NNC-R003", "3: budget.min_cosine: expected a finite number, got nan", ""),
        ("passes = []\n[budget]\nmin_sqnr_db = inf", "NNC-R003", "3: budget.min_sqnr_db: expected a finite number, got inf", ""),
        ("passes = 'cleanup'", "NNC-R003", "1: passes: expected a list, got 'cleanup'", ""),
        ("passes = [\n'a',\n1]", "NNC-R003", "1: passes.1: expected text, got 1", ""),
        ('passes = ["a"\n', "NNC-R003", "1:14: unclosed array", "text stands in quotes"),
        ('passes = []\nx = "\x00"', "NNC-R003", "2:6: illegal character '\\x00'", "text stands in quotes"),
        # 75: unknown and out of range
        ("pases = []", "NNC-R010", "1: unknown key 'pases'", "did you mean 'passes'?"),
        ("passes = []\n[gate]\nsample = 3", "NNC-R010", "3: unknown key 'gate.sample'", "did you mean 'samples'?"),
        ("passes = []\n[zzz]\n", "NNC-R010", "2: unknown key 'zzz'", "known: version, target, passes, options, seed, freeze, data, gate, budget, search, lock"),
        ("passes = []\n[gate]\nsamples = 1000", "NNC-R003", "3: gate.samples: expected at most 64, got 1000", ""),
        ("passes = []\n[budget]\nmax_drop = 1.5", "NNC-R003", "3: budget.max_drop: expected less than 1, got 1.5", ""),
        ("passes = ['q(a=1)']", "NNC-R010", "1: unknown pass 'q(a=1)'", 'options go in braces, as in q{key="text"}'),
        ("passes = ['a,b']", "NNC-R010", "1: unknown pass 'a,b'", "one pass at a time: -p a -p b"),
        ("passes = ['nope']", "NNC-R010", "1: unknown pass 'nope'", "known: none"),
        ("passes = [\n'{a=1}']", "NNC-R003", "2: pass '{a=1}' has no name", ""),
        ("passes = [\n'x{a=}']", "NNC-R003", "2: 'x{a=}' is not of the form name{key=value, ...}: Invalid value", 'text goes in quotes, as in quantize{method="mse"}'),
        ("passes = [\n'x{a=1, a=2}']", "NNC-R002", "2: 'x{a=1, a=2}' is not of the form name{key=value, ...}: Duplicate inline table key 'a'", 'text goes in quotes, as in quantize{method="mse"}'),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_with_code_place_and_hint(tmp_path, text, code, message, hint):
    error, told = refused(tmp_path, text)
    assert (error.code, told, error.hint) == (code, message, hint)
    assert error.where.file == str(tmp_path / "r.toml")


@pytest.mark.parametrize(("name", "sort"), [("r.yaml", "YAML"), ("r.yml", "YAML"), ("r.json", "JSON")])
def test_other_formats_are_refused_by_name(tmp_path, name, sort):
    error, told = refused(tmp_path, "passes: [cleanup]\n", name)
    assert (error.code, told) == ("NNC-R003", f"a {sort} file, expected TOML")


def test_yaml_that_holds_code_is_refused_as_such_under_its_own_name(tmp_path):
    assert refused(tmp_path, YAML_CODE, "r.yaml")[0].code == "NNC-R001"


@pytest.mark.row(73)
def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    error, told = refused(tmp_path, b"#" * (1 << 20) + b"\n")
    assert (error.code, told) == ("NNC-R004", "1048577 bytes, expected at most 1048576")


@pytest.mark.parametrize("make", ["folder", "missing"])
def test_a_recipe_that_is_no_file_is_a_usage_error(tmp_path, make):
    path = tmp_path / "r.toml"
    if make == "folder":
        path.mkdir()
    with pytest.raises(NncompError) as caught:
        load_recipe(path)
    assert caught.value.exit_status == 2
    assert caught.value.code == "NNC-R021"
    assert caught.value.message == (
        f"recipe {str(path)!r} is not a regular file"
        if make == "folder"
        else f"cannot read recipe {str(path)!r}: No such file or directory"
    )


def test_windows_line_ends_are_welcome(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes(b"passes = []\r\nseed = 3\r\n")
    assert load_recipe(path).seed == 3
