"""Consoles of all sorts: text that any of them can show, numbers that people can read, progress where it helps."""

import io
import sys
from dataclasses import replace

import pytest

import nncomp
from nncomp.cli import progress
from nncomp.cli.streams import one_line, prepare_streams, printable
from nncomp.cli.summary import show_report
from nncomp.cli.tables import bytes_text, change_text, count_text, decibel_text, points_text, show_table, time_text
from nncomp.report import SearchReport, Trial
from nncomp.testing import graph


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("é", "é"),
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 300, "x" * 98 + "..." + "x" * 98),
    ],
)
def test_names_are_shown_escaped_and_cut(text, shown):
    assert printable(text) == shown


def test_a_megabyte_of_name_is_cut_at_once():
    assert len(printable("\x00" * (1 << 20))) <= 200


def test_a_message_is_one_line():
    assert one_line(" a\nb\tc\x00 ") == "a b c\\x00"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_a_console_cannot_encode_is_escaped(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    prepare_streams()
    show_table("", ("名前", "b"), [("☃ é", "[bold]x[/bold]")])
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert "\\u2603" in text
    assert "[bold]x[/bold]" in text
    assert "\u2500" not in text


def test_a_stream_that_is_closed_from_the_start_is_replaced(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    prepare_streams()
    print("nobody hears this")
    sys.stdout.close()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(1023), "1023 B"),
        (bytes_text(1536), "1.50 KiB"),
        (bytes_text(3 << 40), "3.00 TiB"),
        (bytes_text(None), "?"),
        (count_text(9999), "9999"),
        (count_text(10_000), "10.00 k"),
        (count_text(2_500_000), "2.50 M"),
        (count_text(3_000_000_000_000), "3.00 T"),
        (count_text(None), "?"),
        (bytes_text(1024 * 1024 - 1), "1.00 MiB"),
        (count_text(999_994), "999.99 k"),
        (count_text(999_995), "1.00 M"),
        (change_text(4, 1), "4.00x smaller"),
        (change_text(4, 5), "1.25x larger"),
        (change_text(4, 1, "fewer", "more"), "4.00x fewer"),
        (change_text(4, 4), "unchanged"),
        (change_text(1000, 999), "nearly unchanged"),
        (change_text(4, 0), "none left"),
        (change_text(0, 1), ""),
        (change_text(None, 1), ""),
        (change_text(1, None), ""),
        (points_text(0.0054), "-0.54"),
        (points_text(-0.0054), "+0.54"),
        (points_text(0.0), "+0.00"),
        (points_text(0.00001), "+0.00"),
        (points_text(-0.00001), "+0.00"),
        (time_text(999.96), "1.00 ms"),
        (time_text(999_996), "1.00 s"),
        (time_text(12.34), "12.3 us"),
        (time_text(12_340), "12.34 ms"),
        (time_text(1_234_000), "1.23 s"),
        (decibel_text(float("inf")), "exact"),
        (decibel_text(float("-inf")), "not comparable"),
        (decibel_text(12.34), "12.3 dB"),
    ],
)
def test_numbers_are_short(shown, expected):
    assert shown == expected


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def test_without_a_terminal_long_work_says_a_line_every_ten_seconds_and_short_work_nothing(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    log = progress.LogProgress()
    for done in range(5):
        clock.now += 1
        log.step("calibration", done, 100)
    assert capsys.readouterr().err == ""
    clock.now += 10
    log.step("calibration", 28, 100)
    clock.now += 1
    log.step("calibration", 30, 100)
    assert capsys.readouterr().err == "nncomp: calibration 28/100, 2/s, 36 s left\n"
    clock.now += 10
    log.step("accuracy", 1, None)
    clock.now += 10
    log.step("accuracy", 20, None)
    assert capsys.readouterr().err == "nncomp: accuracy 20, 2/s\n"


def test_a_task_that_begins_once_more_has_no_rate_to_tell(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    log = progress.LogProgress()
    for _ in range(3):
        log.step("latency", 0, None)
        clock.now += 20
    assert capsys.readouterr().err == ""


def test_a_task_that_goes_on_between_the_steps_of_another_is_told_of_too(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    log = progress.LogProgress()
    for trial in range(4):
        clock.now += 4
        log.step("trials", trial, 40)
        for done in range(3):
            clock.now += 1
            log.step("accuracy", done, 3)
    assert capsys.readouterr().err == "nncomp: trials 2/40, 0.143/s, 266 s left\n"


def test_on_a_terminal_there_is_a_bar_that_goes_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown_progress() as bar:
        assert isinstance(bar, progress.BarProgress)
        bar.step("calibration", 1, 10)
        bar.step("calibration", 5, 10)
        bar.step("accuracy", 1, None)
    text = sys.stderr.getvalue()
    assert "calibration" in text
    assert text.endswith("\x1b[2K")


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with progress.shown_progress() as shown:
        assert isinstance(shown, progress.LogProgress)


def test_trials_without_labels_keep_their_place_in_the_table_of_a_search(capsys):
    report = nncomp.compile(graph("g (float[2] x) => (float[2] y) { y = Relu (x) }"), passes=["cleanup"], measure=False)
    trials = (
        Trial({}, sqnr_db=30.0, drop=0.0, ratio=2.0, frontier=True, chosen=True),
        Trial({"a": "float"}, ratio=1.5, frontier=True, error="it does not run"),
        Trial({"a": "float", "b": "float"}, sqnr_db=40.0, drop=0.0054, ratio=1.0, frontier=True),
    )
    search = SearchReport("quantize", reached=True, stopped="done", candidates=(), trials=trials)
    show_report(replace(report.report, search=search), [], explain=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(["given", "back", "SQNR", "accuracy", "speed"])
    assert lines[start + 2 : start + 5] == [
        ["*", "0", "30.0", "dB", "+0.00", "points", "2.00x"],
        ["1", "?", "?", "1.50x"],
        ["2", "40.0", "dB", "-0.54", "points", "1.00x"],
    ]
