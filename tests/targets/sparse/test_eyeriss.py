"""The row-stationary machine: its mappings keep to all memories, and none that is published is faster."""

import numpy as np
import pytest

from nncomp.errors import UnsupportedError
from nncomp.ops import LoopNest
from nncomp_sparse.engines.row_stationary import RowMappings, Rows, count_rows, row_mappings
from nncomp_sparse.hardware import load_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer


@pytest.fixture(scope="module")
def layers(table, conv):
    """Return (published row, nest) of each layer of AlexNet."""
    found = []
    for row in table("eyeriss_alexnet")["layers"]:
        groups, outputs, inputs, padded, size, kernel, stride = row["shape"]
        nest = conv(outputs, inputs, size, kernel, stride=stride, batch=4, groups=groups, padded=padded)
        found.append((row, nest))
    return found


def test_the_search_finds_mappings_no_slower_than_the_published_ones(layers):
    machine = load_hardware("eyeriss")
    for row, nest in layers:
        published = count_rows(Rows.of(nest), RowMappings.of([row["mapping"]]), machine.dataflow)
        price = price_layer(Layer.given(row["layer"], nest), machine, "cycles")
        assert price.cycles <= float(published.cycles[0]) * (1 + 1e-9)


def test_mappings_keep_to_all_memories(layers):
    machine = load_hardware("eyeriss")
    for _, nest in layers:
        rows = Rows.of(nest)
        found = row_mappings(rows, machine)
        lines = (found.e - 1) * rows.stride + rows.kernel_rows
        assert (found.q * rows.kernel_cols <= 12).all()
        assert (found.p * found.q * rows.kernel_cols <= 224).all()
        assert (found.p <= 24).all()
        assert (rows.kernel_rows * found.e * found.r * found.t <= 168).all()
        words = found.m * found.n * found.e * rows.width + found.n * found.q * found.r * lines * rows.row_words
        assert (2 * words <= 100 * 1024).all()


@pytest.mark.parametrize(
    "nest",
    [
        LoopNest(batch=8, outputs=64, inputs=128),
        LoopNest(groups=32, spatial=(14, 14), kernel=(3, 3), strides=(1, 1), dilations=(1, 1), sizes=(14, 14)),
        LoopNest(outputs=8, inputs=4, spatial=(50,), kernel=(5,), strides=(2,), dilations=(1,), sizes=(103,)),
        LoopNest(outputs=4, inputs=2, spatial=(6, 6, 6), kernel=(3, 3, 3), strides=(1,) * 3, dilations=(1,) * 3),
    ],
)
def test_other_shapes_have_a_price_too(nest):
    price = price_layer(Layer.given("l", nest), load_hardware("eyeriss"))
    assert price.cycles >= nest.macs / 168
    assert 0 < np.prod(list(price.utilization.values())) <= 1


def test_a_filter_that_no_scratchpad_holds_is_refused():
    nest = LoopNest(outputs=2, inputs=2, spatial=(8, 8), kernel=(12, 13), strides=(1, 1), dilations=(1, 1))
    with pytest.raises(UnsupportedError) as caught:
        price_layer(Layer.given("big", nest), load_hardware("eyeriss"))
    assert caught.value.message == (
        "hardware 'eyeriss': a row of 'big' (12 x 13 filter, 8 outputs) fits neither the scratchpads nor the buffer"
    )


def test_a_filter_with_more_rows_than_the_array_is_refused():
    nest = LoopNest(outputs=2, inputs=2, spatial=(8, 8), kernel=(13, 1), strides=(1, 1), dilations=(1, 1))
    with pytest.raises(UnsupportedError) as caught:
        price_layer(Layer.given("tall", nest), load_hardware("eyeriss"))
    assert caught.value.message == "hardware 'eyeriss': a filter of 'tall' has 13 rows, the array has 12"


def test_sums_are_handed_over_once_for_each_element_that_adds_to_them():
    nest = LoopNest(outputs=4, inputs=4, spatial=(6, 6), kernel=(3, 3), strides=(1, 1), dilations=(1, 1), sizes=(8, 8))
    found = count_rows(Rows.of(nest), RowMappings.of([[4, 1, 6, 4, 2, 1, 1]]), load_hardware("eyeriss").dataflow)
    outputs, kernel_rows, channel_passes = 4 * 6 * 6, 3, 2
    assert int(found.handed_over[0]) == outputs * kernel_rows * channel_passes
