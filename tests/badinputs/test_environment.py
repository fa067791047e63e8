# ruff: noqa: E501  tables: one case a line
"""the list of bad inputs section G: plugins, consoles, disks and other processes that do not do what one would like."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nncomp.cli import main
from nncomp.onnx_io import load, save
from nncomp.recipe import load_recipe
from nncomp.testing import graph

THIRDPARTY = str(Path(__file__).parents[1] / "thirdparty")
ACME = ("--plugin", "acme_plugin", "-t", "acme", "--no-measure")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save(graph("g (float[1,4] x) => (float[1,3] y) <float[4,3] w> { a = Identity (x) y = MatMul (a, w) }"), path)
    return path


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(THIRDPARTY)
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*args):
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        return status, *capsys.readouterr()

    return call


def shell(command, **environment):
    """Run a shell command with ``nncomp`` in it, as a process of its own."""
    path = os.pathsep.join([THIRDPARTY, *(entry for entry in sys.path if entry)])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    script = f'nncomp() {{ "{sys.executable}" -c "import sys; from nncomp.cli import main; sys.exit(main())" "$@"; }}\n'
    return subprocess.run(["bash", "-c", script + command], capture_output=True, env=env, check=False)


# ------------------------------------------------------------------ 91: plugins

PLUGINS = {
    "raises": ("raise RuntimeError('no luck')", "NNC-P001", "plugin 'raises' is left out: RuntimeError: no luck"),
    "exits": ("import sys; sys.exit(0)", "NNC-P001", "plugin 'exits' is left out: plugin 'exits' called sys.exit"),
    "silent": ("x = 1", "NNC-P002", "plugin 'silent' is left out: plugin 'silent' speaks plugin API None, this nncomp speaks 1"),
    "newer": ("NNCOMP_API = 2", "NNC-P002", "plugin 'newer' is left out: plugin 'newer' speaks plugin API 2, this nncomp speaks 1"),
    "odd": (
        "from nncomp.hookspecs import hookimpl\nNNCOMP_API = 1\n@hookimpl\ndef nncomp_passes():\n    return [int]\n",
        "NNC-P001",
        "plugin 'odd' is left out: a hook returned <class 'int'>, expected a Pass class with a name",
    ),
    "absent_module": (None, "NNC-P001", "plugin 'absent_module' is left out: ModuleNotFoundError: No module named 'absent_module'; is its folder in PYTHONPATH?"),
}  # fmt: skip


@pytest.mark.row(91)
@pytest.mark.parametrize("name", PLUGINS)
def test_a_broken_plugin_costs_one_line_when_it_is_not_needed(run, model, tmp_path, name):
    text, code, message = PLUGINS[name]
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    status, _, err = run("compile", model, "-o", tmp_path / "out", *ACME, "--plugin", name, "-p", "nothing")
    assert status == 0
    assert f"nncomp: warning {code}: {message}\n" in err
    sys.modules.pop(name, None)


@pytest.mark.row(91)
def test_a_broken_plugin_that_may_bring_what_is_asked_for_is_exit_7(run, model, tmp_path):
    status, _, err = run("compile", model, "-o", tmp_path / "out", *ACME, "--plugin", "absent_module", "-p", "zzz")
    assert status == 7
    assert "nncomp: error NNC-P001: unknown pass 'zzz'\n" in err
    assert "plugin 'absent_module' failed to load and might provide it: see `nncomp plugins`" in err


@pytest.mark.row(91)
def test_two_plugins_with_one_name_keep_the_first_and_name_both(run, model, tmp_path):
    (tmp_path / "copycat.py").write_text("from acme_plugin import *\n")
    status, _, err = run("compile", model, "-o", tmp_path / "out", *ACME, "--plugin", "copycat", "-p", "nothing")
    assert status == 0
    line = "nncomp: warning NNC-P003: pass 'nothing' of plugin 'copycat' is ignored: plugin 'acme_plugin' provides it"
    assert line in err.splitlines()
    sys.modules.pop("copycat", None)


# ------------------------------------------------------------------ 92, 93: passes


@pytest.mark.row(92, 93, 97)
@pytest.mark.parametrize(
    ("name", "status"),
    [("breaker", 7), ("dangler", 5), ("renamer", 5), ("liar", 5), ("hungry", 6), ("quitter", 7), ("interrupted", 130)],
)
def test_a_pass_that_fails_is_named_and_leaves_no_result(run, model, tmp_path, name, status):
    found, out, err = run("compile", model, "-o", tmp_path / "out", *ACME, "-p", name)
    assert found == status
    assert out == ""
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.row(93)
def test_a_pass_that_prints_and_changes_the_process_does_not_spoil_json_or_the_next_pass(
    run, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("compile", "net.onnx", "-o", "out", *ACME, "-p", "rude", "-p", "drop-identity", "--json")
    assert status == 0
    assert json.loads(out)["status"] == "done"
    assert "acme says hello" in err
    assert Path.cwd() == tmp_path
    assert (tmp_path / "out" / "model.onnx").exists()


# ------------------------------------------------------------------ 94: passes that die

DEADLY = """
import faulthandler, os, signal
import nncomp
NNCOMP_API = 1
class Dies(nncomp.Pass):
    '''Die.'''
    name = "dies"
    effect = nncomp.Effect.EXACT
    def run(self, graph, ctx):
        os.write(1, b"last words\\n")
        faulthandler.disable()  # pytest's, in the child: this one dies on purpose
        os.kill(os.getpid(), signal.%s)
class Leaves(Dies):
    '''Leave.'''
    name = "leaves"
    def run(self, graph, ctx):
        os._exit(3)
@nncomp.hookimpl
def nncomp_passes():
    return [Dies, Leaves]
"""


@pytest.mark.row(94, 97)
@pytest.mark.parametrize(
    ("number", "step", "status", "line"),
    [
        ("SIGSEGV", "dies", 7, "nncomp: error NNC-P004: pass 'dies' died of SIGSEGV"),
        ("SIGABRT", "dies", 7, "nncomp: error NNC-P004: pass 'dies' died of SIGABRT"),
        ("SIGKILL", "dies", 6, "nncomp: error NNC-E002: pass 'dies' was killed twice"),
        ("SIGSEGV", "leaves", 7, "nncomp: error NNC-P004: pass 'leaves' died of exit status 3"),
    ],
)
def test_a_pass_that_kills_its_process_is_named_under_isolate(run, model, tmp_path, number, step, status, line):
    (tmp_path / "deadly.py").write_text(DEADLY % number)
    found, out, err = run(
        "compile", model, "-o", tmp_path / "out", *ACME, "--plugin", "deadly", "--isolate", "-p", step, "--json"
    )
    sys.modules.pop("deadly", None)
    assert found == status, err
    assert line in err.splitlines()
    assert json.loads(out)["error"]["code"] == line.split()[2].rstrip(":")
    assert not (tmp_path / "out").exists()


@pytest.mark.row(92, 93)
@pytest.mark.parametrize(
    ("name", "status"), [("breaker", 7), ("dangler", 5), ("renamer", 5), ("liar", 5), ("hungry", 6), ("quitter", 7)]
)
def test_isolate_changes_no_outcome(run, model, tmp_path, name, status):
    plain = run("compile", model, "-o", tmp_path / "out", *ACME, "-p", name)
    apart = run("compile", model, "-o", tmp_path / "out", *ACME, "-p", name, "--isolate")
    assert apart == plain
    assert plain[0] == status


@pytest.mark.row(94)
def test_isolate_gives_the_same_bytes(run, model, tmp_path):
    steps = ("-p", "drop-identity", "-p", "rude", "-p", "blur")
    assert run("compile", model, "-o", tmp_path / "a", *ACME, *steps)[0] == 0
    assert run("compile", model, "-o", tmp_path / "b", *ACME, *steps, "--isolate")[0] == 0
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


# ------------------------------------------------------------------ 95: disks


@pytest.mark.row(95)
@pytest.mark.parametrize("out", ["/proc/nncomp", "/dev/null/out", "a" * 300])
def test_a_destination_that_cannot_be_written_is_exit_6_or_2(run, model, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("compile", model, "-o", out, *ACME, "-p", "nothing")
    assert status in (2, 6)
    assert "Traceback" not in err
    assert "NNC-X999" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_full_disk_is_exit_6_and_leaves_nothing(run, model, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    def refuse(file, chunks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_chunks", refuse)
    status, _, err = run("compile", model, "-o", tmp_path / "out", *ACME, "-p", "nothing")
    assert status == 6
    assert "nncomp: error NNC-E001: cannot write " in err
    assert "No space left on device" in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


# ------------------------------------------------------------------ 96: signals


@pytest.mark.row(96)
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_pass_is_exit_130_and_leaves_nothing(model, tmp_path, number):
    (tmp_path / "sleepy.py").write_text(
        "import time\n"
        "from acme_plugin import *\n"
        "class Sleep(Nothing):\n"
        "    '''Sleep.'''\n"
        "    name = 'sleep'\n"
        "    def run(self, graph, ctx):\n"
        "        print('asleep', flush=True)\n"
        "        time.sleep(60)\n"
        "Sleep.name = 'sleep'\n"
    )
    code = "import sys; from nncomp.cli import main; sys.exit(main())"
    args = ["compile", str(model), "-o", str(tmp_path / "out"), "--plugin", "sleepy", "-t", "acme", "-p", "sleep"]
    path = os.pathsep.join([str(tmp_path), THIRDPARTY, *(entry for entry in sys.path if entry)])
    with subprocess.Popen(
        [sys.executable, "-c", code, *args], stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, text=True
    ) as process:
        seen = ""
        while "asleep" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(0.1)
        process.send_signal(number)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest == "nncomp: interrupted\n"
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ 98: two runs, one output


@pytest.mark.row(98)
def test_two_runs_into_one_folder_do_not_mix_their_files(model, tmp_path):
    out = tmp_path / "out"
    command = " & ".join(
        f"nncomp compile {model} -o {out} {' '.join(ACME)} -p 'blur{{amount=0.{number}}}'" for number in (1, 2, 3)
    )
    assert shell(f"{command} & wait").returncode == 0
    report = json.loads((out / "report.json").read_text())
    lock = load_recipe(out / "recipe.lock.toml")
    made = load(out / "model.onnx").info.metadata["nncomp.recipe"]
    assert lock.passes == (made,)
    assert report["recipe"][0].startswith(made.partition(",")[0])
    assert sorted(path.name for path in out.iterdir()) == [
        "model.onnx",
        "recipe.lock.toml",
        "report.html",
        "report.json",
    ]


# ------------------------------------------------------------------ 100: consoles


@pytest.mark.row(100)
def test_a_reader_that_goes_away_ends_us_quietly(model):
    ended = shell(f"nncomp print --max-elements 100000 {model} | true; exit ${{PIPESTATUS[0]}}")
    assert ended.returncode in (0, 141)
    assert ended.stderr == b""


@pytest.mark.row(100)
@pytest.mark.parametrize("environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
                                         {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}])  # fmt: skip
def test_a_console_that_lacks_characters_gets_escapes(tmp_path, environment):
    net = graph('g (float[1] x) => (float[1] y) { ["☃ 名"] y = Relu (x) }')
    save(net, tmp_path / "snow.onnx")
    ended = shell(f"nncomp inspect --ops {tmp_path}/snow.onnx", **environment)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u2603 \\u540d" in ended.stdout


def test_stdout_and_stderr_that_are_closed_from_the_start_do_no_harm(model):
    assert shell(f"nncomp inspect {model} >&-").returncode == 0
    assert shell(f"nncomp inspect {model}.none 2>&-").returncode == 3


@pytest.mark.row(100)
def test_no_colours_reach_a_pipe_even_when_asked_to_be_on_nor_a_file_with_no_color(model):
    ended = shell(f"nncomp inspect {model}", NO_COLOR="1")
    assert b"\x1b" not in ended.stdout + ended.stderr


# ------------------------------------------------------------------ 102: machines


@pytest.mark.row(102)
def test_hash_seeds_and_threads_do_not_change_a_byte(model, tmp_path):
    for name, seed, threads in (("a", "1", 1), ("b", "2", 2)):
        ended = shell(
            f"nncomp compile {model} -o {tmp_path / name} {' '.join(ACME)} --threads {threads}", PYTHONHASHSEED=seed
        )
        assert ended.returncode == 0, ended.stderr
    for file in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in "ab"]
    for report in reports:
        del report["measured"]
    assert reports[0] == reports[1]


@pytest.mark.row(102)
def test_a_missing_runtime_is_exit_4_with_the_pip_line(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, err = run("bench", model)
    assert status == 4
    assert "nncomp: error NNC-T001: onnxruntime is not installed\n  hint: pip install onnxruntime\n" in err
