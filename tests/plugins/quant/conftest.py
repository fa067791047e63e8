"""What the tests of quantization do: plan, or quantize as a pipeline does, and compare results."""

from dataclasses import dataclass

import numpy as np
import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.plan import plan_quantization
from nncomp_quant.quantize import Quantize

CONV = "float[4,3,1,1] w, float[4,3,1,1] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[4] b"


def prepared(text, opset=18, constants=None):
    found = graph(text, opset=opset, constants=constants) if isinstance(text, str) else text
    found.remove_unused(found.constants())  # templates declare more than each case needs
    infer_types(found)
    return found


@dataclass
class Planned:
    """A plan, by name."""

    graph: nncomp.Graph
    plan: object

    @property
    def static(self):
        return [op.output.name for op in self.plan.static]

    @property
    def dynamic(self):
        return [op.output.name for op in self.plan.dynamic]

    @property
    def scaled(self):
        return [value.name for value in self.plan.scaled]

    @property
    def integer(self):
        return [value.name for value in self.plan.scaled if value in self.plan.integer]

    @property
    def leaders(self):
        return {value.name: self.plan.leader(value).name for value in self.plan.scaled}

    @property
    def left(self):
        return {op.output.name: reason for op, reason in self.plan.left.items()}


@pytest.fixture(scope="session")
def plan():
    """Plan for ``ort``; ``skip`` names outputs of ops."""

    def make(text, *, skip=(), only=None, int8=CAPABILITIES.int8, **options):
        found = prepared(text, options.pop("opset", 18))
        skipped = {op for op in found.ops() if op.output.name in skip}
        alone = None if only is None else {op for op in found.ops() if op.output.name in only}
        return Planned(found, plan_quantization(found, builtin_table(), int8, skip=skipped, only=alone, **options))

    return make


@dataclass
class Quantized:
    """A graph before and after, and what was said."""

    before: nncomp.Graph
    graph: nncomp.Graph
    ctx: nncomp.Context
    feeds: list

    @property
    def notes(self):
        return [(note.event, note.node, note.reason) for note in self.ctx.notes]

    @property
    def warnings(self):
        return [(note.code, note.node, note.reason) for note in self.ctx.notes if note.event == "warning"]

    def constant(self, name):
        return self.graph.array(self.graph.find(name))

    def sqnr(self, *, optimize=True):
        """Return the signal to noise ratio of all outputs over the feeds, in dB."""
        signal = noise = 0.0
        for feed in self.feeds:
            expected, got = run(self.before, feed), run(self.graph, feed, optimize=optimize)
            for name, array in expected.items():
                signal += float(np.square(array, dtype=np.float64).sum())
                noise += float(np.square(array.astype(np.float64) - got[name]).sum())
        return 10 * np.log10(signal / max(noise, 1e-30))

    def off_by(self, feed=None):
        """Return how far optimized results lie from those of the pairs as written, at the most."""
        feed = self.feeds[0] if feed is None else feed
        written, executed = run(self.graph, feed), run(self.graph, feed, optimize=True)
        return max(float(np.abs(written[name] - executed[name]).max()) for name in written)


@pytest.fixture(scope="session")
def quantize():
    """Quantize for ``ort`` in a pipeline; ``data`` is None for none, else feeds; by default four random ones."""

    def run_pass(text, *, data=..., opset=18, constants=None, samples=4, target=CAPABILITIES, threads=1, **options):
        found = prepared(text, opset, constants)
        before = found.clone()
        feeds = [random_feeds(found, seed=seed) for seed in range(samples)] if data is ... else data
        source = None if feeds is None else FeedSource(feeds, found)
        ctx = nncomp.Context(target=target, data=source, threads=threads)
        nncomp.Pipeline([Quantize(**options)]).run(found, ctx)
        return Quantized(before, found, ctx, feeds or [random_feeds(before, seed=seed) for seed in range(samples)])

    return run_pass


@pytest.fixture(scope="session")
def pairs_saturate():
    """Skip where the CPU adds products in 32 bits: there nothing saturates."""
    from pathlib import Path

    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        pytest.skip("the CPU's instructions are not known")
    if "vnni" in flags or "avx2" not in flags:
        pytest.skip("the CPU does not add pairs of products in 16 bits")
