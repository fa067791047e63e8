# ruff: noqa: E501  tables: one case a line
"""How commands end: one line and a hint, a stable code, the right exit status, never a traceback unasked."""

import pytest

from nncomp.errors import NncompError


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["compil"], "no such command 'compil'. Did you mean 'compile'?", "nncomp --help"),
        (["compile"], "missing argument 'MODEL'", "nncomp compile --help"),
        (["inspect", "a", "--zzz"], "no such option: --zzz", "nncomp inspect --help"),
        (["bench", "a", "--dim", "N"], "--dim: expected NAME=SIZE, got 'N'", "as in --dim N=8"),
        (["compile", "a"], "where to? -o is missing", "-o FOLDER, or --dry-run for the plan alone"),
        (["compile", "a", "-o", "o", "-p", "x", "-r", "y"], "give a recipe or passes, not both", "add the passes to the recipe"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line_a_hint_and_exit_2(run, args, message, hint):
    ended = run(*args)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.messages == [f"nncomp: error NNC-R021: {message}", f"  hint: {hint}"]


@pytest.mark.parametrize("args", [["bench", "a", "--threads", "0"], ["compile", "a", "--seed", "x"]])
def test_a_wrong_value_of_an_option_is_exit_2_and_names_the_option(run, args):
    ended = run(*args)
    assert ended.status == 2
    assert ended.messages[0].startswith(f"nncomp: error NNC-R021: invalid value for '{args[2]}': ")
    assert len(ended.messages) == 2


def test_no_arguments_show_the_help(run):
    ended = run()
    assert ended.status == 0
    assert "Exit status: 0 done" in ended.out


def test_the_version_is_printed(run):
    assert run("--version").out.startswith("nncomp 0.1.0\n")


def test_json_errors_go_to_stdout_alone_and_the_line_to_stderr(run, tmp_path):
    ended = run("inspect", tmp_path / "none.onnx", "--json")
    path = str(tmp_path / "none.onnx")
    assert ended.status == 3
    assert ended.json == {
        "error": {
            "code": "NNC-M006",
            "message": f"cannot open model '{path}': No such file or directory",
            "where": {"file": path},
            "hint": "",
        }
    }
    assert ended.messages == [f"nncomp: error NNC-M006: cannot open model '{path}': No such file or directory"]


def test_usage_errors_are_json_too_when_json_is_asked_for(run):
    ended = run("inspect", "--json")
    assert ended.status == 2
    assert ended.json["error"]["code"] == "NNC-R021"


def test_a_bug_of_ours_is_one_line_and_exit_1(run, model, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("boom\nand more")

    monkeypatch.setattr("nncomp.verify.verify", broken)
    ended = run("inspect", model)
    assert ended.status == 1
    assert ended.out == ""
    assert ended.messages[0].startswith(
        "nncomp: error NNC-X999: a bug in nncomp: RuntimeError: boom and more (test_errors.py:"
    )
    assert ended.messages[1] == "  hint: rerun with --debug, and report what it prints"


def test_debug_shows_the_traceback(run, tmp_path):
    ended = run("inspect", tmp_path / "none.onnx", "--debug")
    assert ended.status == 3
    assert "Traceback (most recent call last)" in ended.err


def test_an_interface_error_of_python_is_a_bug_but_a_disk_error_is_a_resource(run, model, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nncomp.verify.verify", refuse)
    ended = run("inspect", model)
    assert ended.status == 6
    assert "NNC-E001" in ended.err


def test_hints_of_several_lines_are_indented(run, model, monkeypatch):
    def refuse(*args, **kwargs):
        raise NncompError("wrong", hint="first\nsecond")

    monkeypatch.setattr("nncomp.verify.verify", refuse)
    assert run("inspect", model).messages[1:] == ["  hint: first", "        second"]


def test_names_from_a_model_cannot_garble_a_message(run, model, monkeypatch):
    def refuse(*args, **kwargs):
        raise NncompError("op 'a\x1b[31m\nb\u202e' is wrong")

    monkeypatch.setattr("nncomp.verify.verify", refuse)
    ended = run("inspect", model)
    assert ended.messages[0] == "nncomp: error NNC-X999: op 'a\\x1b[31m b\\u202e' is wrong"
