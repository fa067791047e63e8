"""What the tests of weight-only quantization do: run the pass in a pipeline, and compare results."""

from dataclasses import dataclass

import numpy as np
import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.weight_only.quantize_weights import QuantizeWeights


@dataclass
class Made:
    """A graph before and after, and what was said."""

    before: nncomp.Graph
    graph: nncomp.Graph
    ctx: nncomp.Context
    feeds: list

    @property
    def notes(self):
        return [(note.event, note.node, note.reason) for note in self.ctx.notes]

    @property
    def kinds(self):
        return [op.kind for _, op in self.graph.walk()]

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


@pytest.fixture(scope="session")
def quantize_weights():
    """Run the pass for ``ort``; ``data`` is feeds, by default four random ones."""

    def run_pass(text, *, data=None, opset=18, constants=None, target=CAPABILITIES, threads=1, **options):
        found = graph(text, opset=opset, constants=constants) if isinstance(text, str) else text
        found.remove_unused(found.constants())
        infer_types(found)
        before = found.clone()
        feeds = [random_feeds(found, seed=seed) for seed in range(4)] if data is None else data
        ctx = nncomp.Context(target=target, data=FeedSource(feeds, found), threads=threads)
        nncomp.Pipeline([QuantizeWeights(**{"method": "rtn"} | options)]).run(found, ctx)
        return Made(before, found, ctx, feeds)

    return run_pass
