"""What tests share: how hypothesis searches, and a classifier of images that compiles in a blink."""

import os
import signal

import numpy as np
import pytest
from hypothesis import settings

from nncomp.testing import graph

# pytest-xdist sets this for its workers, and tables would be laid out for it.
os.environ.pop("COLUMNS", None)

# On a shared machine the same examples each time, and fewer; at home new ones, for ever.
settings.register_profile("ci", derandomize=True, max_examples=40, deadline=None)
settings.register_profile("home", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "home")

CLASSIFIER = """
classifier (float[N,3,224,224] image) => (float[N,10] scores)
<
   float[8,3,7,7] stem_weight, float[8] stem_scale, float[8] stem_shift, float[8] stem_mean, float[8] stem_var,
   float[16,8,3,3] body_weight, float[16] body_bias, float[10,16] head_weight, float[10] head_bias
>
{
   [stem] a = Conv <strides = [8, 8], pads = [3, 3, 3, 3]> (image, stem_weight)
   [stem_norm] b = BatchNormalization (a, stem_scale, stem_shift, stem_mean, stem_var)
   [stem_relu] c = Relu (b)
   [body] d = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (c, body_weight, body_bias)
   [body_relu] e = Relu (d)
   [pool] f = GlobalAveragePool (e)
   [flatten] g = Flatten (f)
   [head] scores = Gemm <transB = 1> (g, head_weight, head_bias)
}
"""


def pytest_terminal_summary(terminalreporter):
    """Print what tests recorded as ``scoreboard``: counts that a reader wants to see when all is well, too."""
    reports = [report for found in ("passed", "failed") for report in terminalreporter.getreports(found)]
    lines = [text for report in reports for name, text in report.user_properties if name == "scoreboard"]
    if lines:
        terminalreporter.section("scoreboard")
    for line in lines:
        terminalreporter.line(line)


@pytest.fixture
def classifier():
    """Return a float CNN for images of 224x224 that finds class 0 in all of them."""
    bias = np.zeros(10, np.float32)
    bias[0] = 1000
    return graph(CLASSIFIER, constants={"head_bias": bias})


@pytest.fixture
def photos():
    """Return a function that fills a folder with small images in one folder a class."""
    from PIL import Image

    def write(folder, classes=("cat", "dog"), each=4):
        random = np.random.default_rng(0)
        for name in classes:
            (folder / name).mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 256, (60 + number, 80, 3), np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.png")

    return write


@pytest.fixture
def interruptible():
    """Let SIGINT interrupt, here and in child processes: a shell starts what it puts in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path_factory, monkeypatch):
    """Give each test, and the commands that it starts, a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches" / f"{id(request.node):x}"))
