"""Machines: presets load, and impossible ones are refused with the field and the reason."""

import pytest

from nncomp.errors import UsageError
from nncomp_sparse.hardware import load_hardware, parse_hardware, preset_names

PLAIN = {
    "name": "m",
    "clock_mhz": 100.0,
    "array": {"rows": 2, "cols": 2},
    "levels": [{"name": "dram"}, {"name": "glb", "kb": 4.0}],
}


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_names_its_source_and_itself(name):
    found = load_hardware(name)
    assert found.name == name
    assert found.source
    assert found.summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_mhz": 0}, "clock_mhz: expected more than 0, got 0"),
        ({"clock_mhz": float("inf")}, "clock_mhz: expected a finite number, got inf"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"array": {"rows": 0, "cols": 2}}, "array.rows: expected at least 1, got 0"),
        ({"array": {"rows": 2}}, "'array.cols' is missing"),
        ({"array": {"rows": 2.5, "cols": 2}}, "array.rows: expected an integer, got 2.5"),
        ({"clock_mhz": True}, "clock_mhz: expected a number, got True"),
        ({"array": 3}, "array: expected a table, got 3"),
        ({"levels": 3}, "levels: expected a list, got 3"),
        (
            {"array": {"rows": 10**20, "cols": 1}},
            f"array.rows: expected at most 2147483648, got {10**20}",
        ),
        ({"dataflow": {}}, "'dataflow.kind' is missing"),
        (
            {"dataflow": {"kind": "magic"}},
            "dataflow.kind: expected one of 'any', 'weight-stationary', 'output-stationary', 'input-stationary', "
            "'row-stationary', 'systolic', 'column-serial', 'cartesian', 'outer-product', 'fusion-array', "
            "'tensor-train', got 'magic'",
        ),
        (
            {"dataflow": {"kind": "outer-product", "tile": 0}},
            "dataflow.tile: expected at least 1, got 0",
        ),
        (
            {"levels": [{"name": "dram"}, {"name": "glb", "words": {"bias": 3}}]},
            "levels.1.words.bias: expected 'weight', 'input' or 'output', got 'bias'",
        ),
        ({"levels": []}, "levels: expected at least 1 entry, got []"),
        (
            {"levels": [{"name": "dram", "gb_per_s": 0.0}]},
            "levels.0.gb_per_s: expected more than 0, got 0.0",
        ),
        (
            {"levels": [{"name": "dram"}, {"name": "dram", "kb": 1.0}]},
            "levels: two are called 'dram'",
        ),
        (
            {"levels": [{"name": "dram", "kb": 1.0}]},
            "levels: the outermost, 'dram', holds whole tensors and must not have a size",
        ),
        (
            {"levels": [{"name": "dram", "keeps": ["weight"]}]},
            "levels: the outermost, 'dram', must keep weight, input and output",
        ),
        (
            {"levels": [{"name": "dram"}, {"name": "rf", "per_pe": True}, {"name": "glb"}]},
            "levels: one that is shared stands inside of one in each processing element",
        ),
        (
            {"levels": [{"name": "dram"}, {"name": "glb", "kb": 1.0, "words": {"weight": 3}}]},
            "levels.1: words: expected kb or words, got both",
        ),
        (
            {"sparsity": {"weight": {"at": ["cache"]}}},
            "sparsity.weight.at: there is no level 'cache' among dram, glb",
        ),
        (
            {"sparsity": {"weight": {"n": 5, "m": 4}}},
            "sparsity.weight: n: expected at most m = 4, got 5",
        ),
        (
            {"precision": {"mode": "bit-serial"}},
            "precision: serial: expected at least one operand for a bit-serial machine",
        ),
        (
            {"dataflow": {"kind": "row-stationary"}},
            "dataflow: row-stationary needs a level in each element, with words for each tensor",
        ),
    ],
)
def test_an_impossible_machine_is_refused_with_field_and_reason(change, message):
    with pytest.raises(UsageError) as caught:
        parse_hardware(PLAIN | change)
    assert caught.value.message == f"hardware: {message}"
    assert caught.value.code == "NNC-R021"


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError) as caught:
        load_hardware("eyeris")
    assert (caught.value.message, caught.value.hint) == ("unknown hardware 'eyeris'", "did you mean 'eyeriss'?")


def test_a_machine_may_come_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nclock_mhz = 1.0\narray = { rows = 1, cols = 1 }\nlevels = [{ name = "dram" }]\n')
    assert load_hardware(str(path)).name == "mine"
    path.write_text("name = ")
    with pytest.raises(UsageError, match="is not TOML"):
        load_hardware(str(path))
    with pytest.raises(UsageError) as caught:
        load_hardware(str(tmp_path / "none.toml"))
    assert caught.value.message == f"cannot read hardware {str(tmp_path / 'none.toml')!r}: No such file or directory"
    assert caught.value.hint == f"known: {', '.join(preset_names())}; or a TOML file"
