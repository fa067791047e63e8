"""What is told to the C library, and that one that does not listen is no error."""

import ctypes

import pytest

from nncomp.cli.memory import give_back_at_once


def test_large_blocks_are_given_back_at_once(monkeypatch):
    told = []
    monkeypatch.setattr(
        ctypes, "CDLL", lambda _: type("Library", (), {"mallopt": lambda _, *args: told.append(args)})()
    )
    give_back_at_once()
    assert told == [(-3, 1 << 20)]


@pytest.mark.parametrize("refusal", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, refusal):
    def missing(_):
        raise refusal

    monkeypatch.setattr(ctypes, "CDLL", missing)
    give_back_at_once()
