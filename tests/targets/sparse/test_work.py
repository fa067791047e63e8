"""Work left by zeros, the slowest of several elements, and queues: against counting and drawing."""

import numpy as np
import pytest

from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.outer import layer_share
from nncomp_sparse.hardware import Hardware, load_hardware
from nncomp_sparse.layer import Layer, Operand
from nncomp_sparse.price import price_layer
from nncomp_sparse.work import executed_share, expected_maximum, finished_share, queue_cycles


@pytest.mark.parametrize(("trials", "share", "elements"), [(10, 0.3, 4), (200, 0.05, 64), (1000, 0.6, 16)])
def test_the_expected_maximum_is_that_of_drawing(trials, share, elements):
    drawn = np.random.default_rng(0).binomial(trials, share, (20_000, elements)).max(axis=1).mean()
    assert expected_maximum(trials, share, elements) == pytest.approx(drawn, rel=5e-3)


def test_the_maximum_of_one_is_its_mean_and_of_certain_work_is_all():
    assert expected_maximum(10, 0.25, 1) == 2.5
    assert expected_maximum(10, 1.0, 8) == 10
    assert expected_maximum(10, 0.0, 8) == 0


def test_products_are_counted_channel_by_channel_exactly(conv):
    nest = conv(4, 6, 5, 1)
    rng = np.random.default_rng(1)
    weight = rng.random((1, 4, 6, 1, 1)) < 0.4
    data = rng.random((1, 6, 5, 5)) < rng.random((1, 6, 1, 1))
    channels = data.mean(axis=(0, 2, 3))[None]
    layer = Layer(
        "c", "Conv", nest,
        weight=Operand(weight.size, nonzeros=weight.sum(), channels=weight.mean(axis=(1, 3, 4)), mask=weight),
        input=Operand(data.size, nonzeros=data.sum(), channels=channels),
        output=Operand(100),
    )  # fmt: skip
    counted = np.einsum("gmc,ncxy->", weight[..., 0, 0].astype(int), data.astype(int))
    assert executed_share(layer, weight=True, input=True) * layer.macs == pytest.approx(counted)
    assert executed_share(layer, weight=True, input=False) == layer.weight.density
    assert executed_share(layer, weight=False, input=False) == 1


def slow_queue(work, depth):
    """Walk through time cycle by cycle."""
    columns, elements = work.shape
    queues = [[] for _ in range(elements)]
    left = [0] * elements
    sent, cycle = 0, 0
    while sent < columns or any(queues) or any(left):
        for pe in range(elements):
            if not left[pe] and queues[pe]:
                left[pe] = max(int(work[queues[pe].pop(0), pe]), 1)
        if sent < columns and all(len(queue) < depth for queue in queues):
            for pe in range(elements):
                queues[pe].append(sent)
            sent += 1
            for pe in range(elements):
                if not left[pe]:
                    left[pe] = max(int(work[queues[pe].pop(0), pe]), 1)
        left = [max(x - 1, 0) for x in left]
        cycle += 1
    return cycle


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_queues_take_as_long_as_walking_through_time(depth):
    for seed in range(20):
        work = np.random.default_rng(seed).poisson(2.0, (40, 5))
        assert queue_cycles(work, depth) == pytest.approx(slow_queue(work, depth), rel=0.03)


def test_a_deeper_queue_is_never_slower_and_no_queue_waits_for_each_column():
    work = np.random.default_rng(0).poisson(3.0, (200, 8))
    cycles = [queue_cycles(work, depth) for depth in (1, 2, 4, 8, 1000)]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] >= np.maximum(work, 1).sum(axis=0).max()


def test_outputs_that_become_zero_are_cut_short(machine, conv):
    layer = Layer.given("c", conv(8, 8, 6, 3), output=0.4)

    def with_(**speculation):
        plain = machine().model_dump()
        return Hardware.model_validate(plain | {"sparsity": {"speculation": speculation}})

    assert finished_share(layer, with_(mode="sign", exit=0.5), 256) == pytest.approx(0.4 + 0.6 * 0.5)
    assert finished_share(layer, with_(mode="predictor", cost_bits=4, recall=0.9), 256) == pytest.approx(
        16 / 256 + 0.4 * 0.9
    )
    assert finished_share(layer.dense(), with_(mode="sign", exit=0.5), 256) == 1
    full, cut = price_layer(layer, with_()), price_layer(layer, with_(mode="sign", exit=0.5))
    assert 0.7 <= cut.compute_cycles / full.compute_cycles < 0.9  # and the slowest element is waited for
    assert cut.energy < full.energy


def test_condensed_rows_are_counted_as_they_are_and_columns_by_their_channel(conv):
    rng = np.random.default_rng(2)
    weight, channels = rng.random((1, 40, 6, 3, 3)) < 0.3, np.array([[0.0, 0.1, 0.3, 0.5, 0.9, 1.0]])
    layer = Layer(
        "c", "Conv", conv(40, 6, 5, 3),
        weight=Operand(weight.size, nonzeros=weight.sum(), mask=weight),
        input=Operand(6 * 25, nonzeros=25 * channels.sum(), channels=channels),
        output=Operand(40 * 25),
    )  # fmt: skip
    steps = 0.0
    for channel in range(6):
        drawn = rng.random((20_000, 32)) < channels[0, channel]
        left = np.ceil(drawn.sum(axis=1) / 8).mean()
        for tile in (weight[0, :32, channel], weight[0, 32:, channel]):
            steps += left * np.ceil(tile.reshape(len(tile), -1).sum(axis=0) / 16).sum()
    dense = 6 * 4 * (2 + 1) * 9
    assert layer_share(Costing(layer, load_hardware("dual-side-tensor-core"))) == pytest.approx(steps / dense, rel=5e-3)


def test_a_queue_longer_than_all_columns_is_no_longer_than_they_are():
    work = np.random.default_rng(3).integers(0, 5, (20, 4))
    assert queue_cycles(work, 1 << 60) == queue_cycles(work, 20)
