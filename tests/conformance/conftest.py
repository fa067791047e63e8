"""The corpus, made once a session: its models are as onnx made them, and nobody changes them."""

import pytest

from nncomp.testing.corpus import backend_cases


@pytest.fixture(scope="session")
def cases():
    """Return all of onnx's backend tests."""
    return list(backend_cases())
