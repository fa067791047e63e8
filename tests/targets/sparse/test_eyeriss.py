"""The row-stationary machine against Eyeriss on AlexNet, as published: elements, time, traffic, compression, power."""

import numpy as np
import pytest

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.row_stationary import RowMappings, Rows, count_rows, row_mappings, rows_accesses
from nncomp_sparse.hardware import load_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer


@pytest.fixture(scope="module")
def layers(table):
    """Return (published row, costing, counts, accesses) of each layer."""
    machine, found = load_hardware("eyeriss"), []
    for row in table("eyeriss_alexnet")["layers"]:
        groups, outputs, inputs, padded, size, kernel, stride = row["shape"]
        nest = LoopNest(
            batch=4,
            groups=groups,
            outputs=outputs,
            inputs=inputs,
            spatial=(size, size),
            kernel=(kernel, kernel),
            strides=(stride, stride),
            dilations=(1, 1),
            sizes=(padded, padded),
        )
        layer = Layer.given(row["layer"], nest, input=1 - row["ifmap_zeros"], output=row["output_density"])
        costing, mapping, rows = Costing(layer, machine), RowMappings.of([row["mapping"]]), Rows.of(nest)
        counts = count_rows(rows, mapping, machine.dataflow)
        found.append((row, costing, counts, rows_accesses(costing, rows, mapping)[0]))
    return found


def errors(found, published):
    return np.abs(np.array(found, float) / np.array(published, float) - 1)


def dram_mb(costing, accesses, bits):
    words = {t: float((accesses[0, t].reads + accesses[0, t].updates)[0]) for t in ("weight", "input", "output")}
    return sum(words[tensor] * bits(costing, tensor) for tensor in words) / 8e6


def test_active_elements_are_those_of_the_chip(layers):
    assert [int(counts.elements[0]) for _, _, counts, _ in layers] == [row["active_pes"] for row, *_ in layers]


def test_processing_time_is_within_five_percent(layers):
    found = [float(counts.cycles[0]) / 200e3 for _, _, counts, _ in layers]
    assert errors(found, [row["processing_ms"] for row, *_ in layers]).mean() < 0.05


def test_buffer_traffic_is_within_half_a_percent(layers):
    found = [float(counts.buffer_words[0]) * 2e-6 for _, _, counts, _ in layers]
    assert errors(found, [row["buffer_mb"] for row, *_ in layers]).mean() < 0.005


def test_dram_traffic_and_its_compression_are_within_five_percent(layers):
    stored = [dram_mb(costing, accesses, lambda c, t: c.word_bits(0, t)) for _, costing, _, accesses in layers]
    raw = [dram_mb(costing, accesses, lambda c, t: 16) for _, costing, _, accesses in layers]
    assert errors(stored, [row["dram_mb"] for row, *_ in layers]).mean() < 0.05
    ratios = np.array(raw) / np.array(stored)
    assert errors(ratios, [row["compression"] for row, *_ in layers]).mean() < 0.05


def test_power_is_within_three_percent_with_two_constants_fitted_to_these_layers(layers):
    """Static power, and the unit of the energy table; the preset has the fitted values."""
    found = []
    for row, costing, counts, accesses in layers:
        priced = costing.priced(accesses, np.array([float(counts.cycles[0])]), np.zeros(1))
        dynamic = sum(float(part[0]) for name, part in priced.energy_pj.items() if name != "dram")
        found.append(costing.machine.energy.static_mw + dynamic / row["total_ms"] * 1e-6)
    assert errors(found, [row["power_mw"] for row, *_ in layers]).mean() < 0.03


def test_the_search_finds_mappings_no_slower_than_the_published_ones(layers):
    for _row, costing, counts, _ in layers:
        price = price_layer(costing.layer, costing.machine, "cycles")
        assert price.cycles <= float(counts.cycles[0]) * (1 + 1e-9)


def test_mappings_keep_to_all_memories(layers):
    machine = load_hardware("eyeriss")
    for _, costing, _, _ in layers:
        rows = Rows.of(costing.layer.nest)
        found = row_mappings(rows, machine)
        lines = (found.e - 1) * rows.stride + rows.kernel_rows
        assert (found.q * rows.kernel_cols <= 12).all()
        assert (found.p * found.q * rows.kernel_cols <= 224).all()
        assert (found.p <= 24).all()
        assert (rows.kernel_rows * found.e * found.r * found.t <= 168).all()
        words = found.m * found.n * found.e * rows.width + found.n * found.q * found.r * lines * rows.row_words
        assert (2 * words <= 100 * 1024).all()
