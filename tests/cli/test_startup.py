"""Start-up: the help answers at once, because nothing heavy is imported before a command runs."""

import subprocess
import sys

import pytest

HEAVY = ("onnxruntime", "onnx", "networkx", "pydantic", "numpy", "rich", "pluggy", "nncomp.ir", "nncomp.plugins")


def test_the_help_imports_nothing_heavy_and_takes_under_half_a_second_of_cpu():
    code = (
        "import sys, time; from nncomp.cli import main; status = main(['--help']);"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules];"
        "print('HEAVY', heavy, 'CPU', time.process_time() < 0.5, 'STATUS', status)"
    )
    # The least of three: bytecode may have to be compiled first, and other work may be going on.
    lines = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        for _ in range(3)
    ]
    assert "HEAVY [] CPU True STATUS 0" in lines


def test_the_help_of_a_command_imports_nothing_heavy_either():
    code = (
        "import sys; from nncomp.cli import main; main(['compile', '--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules and name != 'pydantic'])"  # typer itself may use it
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "start",
    ["from nncomp.cli import main; sys.exit(main(['--version']))", "runpy.run_module('nncomp', run_name='__main__')"],
    ids=["script", "python -m"],
)
@pytest.mark.parametrize("module", ["nncomp.cli.entry", "typer", "nncomp.cli.axes"])
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "signal.raise_signal(signal.SIGINT); raise RuntimeError"])
def test_ctrl_c_during_the_imports_is_one_line_and_130(start, module, how):
    code = (
        "import runpy, signal, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}: {how}\n"
        f"sys.meta_path.insert(0, Stop())\n{start}\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "nncomp: interrupted\n")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [4, 5, 10, 30, 60])
def test_ctrl_c_at_any_import_behind_the_first_three_is_one_line_and_130(number):
    """They are ``nncomp``, ``__future__`` and ``nncomp.cli``, which takes Ctrl-C over before it imports another."""
    code = (
        "import signal, sys\n"
        "class Stop:\n"
        "    def __init__(self): self.left = {number}\n"
        "    def find_spec(self, name, *rest):\n"
        "        self.left -= 1\n"
        "        if not self.left: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stop())\nfrom nncomp.cli import main; sys.exit(main(['passes']))"
    ).replace("{number}", str(number))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "nncomp: interrupted\n")


def test_ctrl_c_that_python_wraps_is_an_interrupt_all_the_same(monkeypatch, capsys):
    import nncomp.cli.entry

    def wrapped(args):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise RuntimeError("Error calling __set_name__") from stop

    monkeypatch.setattr(nncomp.cli.entry, "_invoke", wrapped)
    assert nncomp.cli.entry.run(["--version"]) == 130
    assert capsys.readouterr().err == "nncomp: interrupted\n"
