"""Where TVM is not installed, these tests say so."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def needs_tvm():
    if find_spec("tvm") is None:
        pytest.skip("apache-tvm is not installed")
