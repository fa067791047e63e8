"""The validation table of the sparse machines: what is published, what the model says.

How readings of the sources were chosen, with these numbers in sight or not, is told in docs/accelerator.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.cartesian import cartesian_cycles, dense_twin_cycles
from nncomp_sparse.engines.matvec import vector_cycles
from nncomp_sparse.engines.outer import condensed_share
from nncomp_sparse.engines.row_stationary import RowMappings, Rows, count_rows, rows_accesses
from nncomp_sparse.hardware import Hardware, load_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer

TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Row:
    """One published number and ours."""

    table: str
    item: str
    published: float
    found: float

    @property
    def error(self) -> float:
        return self.found / self.published - 1


def read(name):
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


def square(groups, outputs, inputs, padded, size, kernel, stride, batch=1):
    return LoopNest(
        batch=batch,
        groups=groups,
        outputs=outputs,
        inputs=inputs,
        spatial=(size, size),
        kernel=(kernel, kernel),
        strides=(stride, stride),
        dilations=(1, 1),
        sizes=(padded, padded),
    )


def eyeriss():
    """Eyeriss on AlexNet with its published mappings."""
    machine = load_hardware("eyeriss")
    for row in read("eyeriss_alexnet")["layers"]:
        nest = square(*row["shape"], batch=4)
        layer = Layer.given(row["layer"], nest, input=1 - row["ifmap_zeros"], output=row["output_density"])
        costing, mapping, rows = Costing(layer, machine), RowMappings.of([row["mapping"]]), Rows.of(nest)
        counts = count_rows(rows, mapping, machine.dataflow)
        accesses = rows_accesses(costing, rows, mapping)[0]
        words = {t: float((accesses[0, t].reads + accesses[0, t].updates)[0]) for t in ("weight", "input", "output")}
        stored = sum(words[t] * costing.word_bits(0, t) for t in words) / 8e6
        raw = sum(words.values()) * 16 / 8e6
        priced = costing.priced(accesses, np.array([float(counts.cycles[0])]), np.zeros(1))
        dynamic = sum(float(part[0]) for name, part in priced.energy_pj.items() if name != "dram")
        name = row["layer"]
        yield Row("Eyeriss active elements", name, row["active_pes"], float(counts.elements[0]))
        yield Row("Eyeriss processing time, ms", name, row["processing_ms"], float(counts.cycles[0]) / 200e3)
        yield Row("Eyeriss buffer traffic, MB", name, row["buffer_mb"], float(counts.buffer_words[0]) * 2e-6)
        yield Row("Eyeriss DRAM traffic, MB", name, row["dram_mb"], stored)
        yield Row("Eyeriss DRAM compression", name, row["compression"], raw / stored)
        power = machine.energy.static_mw + dynamic / row["total_ms"] * 1e-6
        yield Row("Eyeriss power, mW", name, row["power_mw"], power)


def eie():
    """EIE: given the work, and from rounded densities alone."""
    for row in read("eie")["layers"]:
        shape, active = (row["outputs"], row["inputs"]), row["act_pct"] / 100
        machine = load_hardware("eie")
        plain = {"active": active, "elements": 64, "queue": machine.sparsity.balance.fifo, "spread": 0.0}
        work = row["theoretical_us"] * 800 / (row["inputs"] * active) / (row["outputs"] / 64)
        given = vector_cycles(shape, None, density=work, run_bits=16, **plain) / 800
        alone = vector_cycles(shape, None, density=row["weight_pct"] / 100, run_bits=4, **plain) / 800
        yield Row("EIE time given the work, us", row["layer"], row["actual_us"], given)
        yield Row("EIE time from rounded densities, us", row["layer"], row["actual_us"], alone)


def scnn():
    """SCNN over its dense twin."""
    machine, published = load_hardware("scnn"), read("scnn")
    for name, network in published["networks"].items():
        sparse = dense = 0.0
        for filters, channels, size, kernel, stride, padding, weight, data in network["layers"]:
            out = (size + 2 * padding - kernel) // stride + 1
            nest = square(1, filters, channels, size, out, kernel, stride)
            sparse += cartesian_cycles(nest, machine, weight, data)
            dense += dense_twin_cycles(nest, machine)
        yield Row("SCNN speed-up over its dense twin", name, network["speedup"], dense / sparse)


def dual_side():
    """The dual-side tensor core, relative to its dense time."""
    flow, points = load_hardware("dual-side-tensor-core").dataflow, read("dual_side")["points"]
    dense = points[0][2]
    for left, right, latency in points[1:]:
        item = f"{left:g} x {right:g}"
        yield Row("Dual-side tensor core, relative time", item, latency / dense, condensed_share(flow, left, right))


def energy_tool() -> Hardware:
    """The machine of the energy-aware pruning paper: Eyeriss, both operands compressed and gated, relative energies."""
    plain = load_hardware("eyeriss").model_dump()
    form = {"format": "bitmask", "at": ["dram"], "bypass": True}
    plain["sparsity"] = {"weight": form | {"action": "gate"}, "input": form | {"action": "gate"}, "output": form}
    plain["energy"] = {"table": "eyeriss-65nm-relative", "mac_pj": 1.0, "process_nm": 65.0}
    return Hardware.model_validate(plain)


def energy_aware():
    """AlexNet's energy dense, after Deep Compression, after energy-aware pruning; relative to the first."""
    published, machine = read("energy_aware"), energy_tool()
    conv, fc, batch = published["conv"], published["fc"], published["batch"]

    def layers(densities):
        for row, density in zip(conv, densities[: len(conv)], strict=True):
            yield Layer.given("conv", square(*row[:7], batch=batch), weight=density, input=row[7], output=row[8])
        for row, density in zip(fc, densities[len(conv) :], strict=True):
            nest = LoopNest(batch=batch, outputs=row[0], inputs=row[1])
            yield Layer.given("fc", nest, weight=density, input=row[2], output=0.36)

    def energy(densities):
        return sum(price_layer(layer, machine, "energy").energy / batch for layer in layers(densities))

    compressed = [row[-1] for row in (*conv, *fc)]
    wanted = published["energy_aware"]
    dense_products = [layer.macs * layer.input.density / batch for layer in layers([1] * len(compressed))]
    dense_weights = [layer.weight.elements for layer in layers([1] * len(compressed))]
    split = len(conv)
    in_conv = in_fc = 1.0
    for _ in range(20):
        products = [d * p for d, p in zip(compressed, dense_products, strict=True)]
        weights = [d * w for d, w in zip(compressed, dense_weights, strict=True)]
        in_conv = (wanted["products"] - in_fc * sum(products[split:])) / sum(products[:split])
        in_fc = (wanted["nonzero_weights"] - in_conv * sum(weights[:split])) / sum(weights[split:])
    aware = [d * (in_conv if number < split else in_fc) for number, d in enumerate(compressed)]
    found = {"original": energy([1] * len(compressed)), "deep compression": energy(compressed)}
    found["energy-aware"] = energy(aware)
    table = published["energy"]
    for name in ("deep compression", "energy-aware"):
        yield Row(
            "AlexNet energy relative to dense", name, table[name] / table["original"], found[name] / found["original"]
        )
    for name, value in found.items():
        yield Row("AlexNet energy, multiply-accumulates", name, table[name], value)


SOURCES = (eyeriss, eie, scnn, dual_side, energy_aware)


def summary(rows):
    """Return {table: (mean error, largest error)}, absolute."""
    found = {}
    for row in rows:
        found.setdefault(row.table, []).append(abs(row.error))
    return {table: (float(np.mean(errors)), float(np.max(errors))) for table, errors in found.items()}
