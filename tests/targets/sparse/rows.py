"""The validation table of the sparse machines: what is published, what the model says.

How readings of the sources were chosen, with these numbers in sight or not, is told in docs/accelerator.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.cartesian import cartesian_cycles, dense_twin_cycles
from nncomp_sparse.engines.matvec import entries_by_column, vector_cycles
from nncomp_sparse.engines.outer import condensed_share
from nncomp_sparse.engines.row_stationary import RowMappings, Rows, count_rows, rows_accesses
from nncomp_sparse.hardware import Hardware, load_hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.price import price_layer
from nncomp_sparse.work import queue_cycles

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


def vgg():
    """Eyeriss on VGG-16, whose mappings are not published: the fastest of those that meet its elements and traffic."""
    machine, published = load_hardware("eyeriss"), read("eyeriss_vgg16")
    for row in published["layers"]:
        outputs, inputs, size = row["shape"]
        rows = Rows.of(square(1, outputs, inputs, size + 2, size, 3, 1, batch=published["batch"]))
        given = _mappings(rows, row["active_pes"] // 3, buffer_words=51_200)
        counts = count_rows(rows, given, machine.dataflow)
        off = np.abs(counts.buffer_words * 2 / 2**20 / row["buffer_mb"] - 1)
        best = np.argmin(np.where(off <= off.min() + 0.005, counts.cycles, np.inf))
        yield Row(
            "Eyeriss on VGG-16, processing time, ms", row["layer"], row["processing_ms"], counts.cycles[best] / 2e5
        )


def _mappings(rows, bands, *, buffer_words):
    """Return all mappings that use exactly ``bands`` rows of filters in the array."""
    places = [(e, r, bands // (e * r)) for e in range(1, bands + 1) for r in range(1, bands + 1) if not bands % (e * r)]
    e, r, t = np.array([place for place in places if place[0] <= rows.height]).T
    where, n, p, q = (a.reshape(-1) for a in np.meshgrid(range(len(e)), [1, rows.images], range(1, 25), range(1, 5)))
    e, r, t = e[where], r[where], t[where]
    stored = n * e * rows.width * p * t + n * q * r * (e + rows.kernel_rows - 1) * rows.row_words
    fits = (stored <= buffer_words) & (q * (r - 1) < rows.channels) & (p * (t - 1) < rows.filters)
    n, e, p, q, r, t = (axis[fits] for axis in (n, e, p, q, r, t))
    return RowMappings(np.minimum(p * t, rows.filters), n, e, p, q, r, t)


def eie():
    """EIE: given the work, and from the densities that its table gives, rounded."""
    for row in read("eie")["layers"]:
        shape, active = (row["outputs"], row["inputs"]), row["act_pct"] / 100
        machine = load_hardware("eie")
        plain = {"active": active, "elements": 64, "queue": machine.sparsity.balance.fifo, "spread": 0.0}
        work = row["theoretical_us"] * 800 / (row["inputs"] * active) / (row["outputs"] / 64)
        given = vector_cycles(shape, None, density=work, run_bits=16, **plain) / 800
        alone = vector_cycles(shape, None, density=_density(row), run_bits=4, **plain) / 800
        yield Row("EIE time given the work, us", row["layer"], row["actual_us"], given)
        yield Row("EIE time from rounded densities, us", row["layer"], row["actual_us"], alone)


def _density(row):
    """Return the middle of the densities of weights that all three rounded columns of the table allow."""
    active = row["act_pct"] / 100
    own = [(row["weight_pct"] + half) / 100 for half in (-0.5, 0.5)]
    both = [(row["flop_pct"] + half) / 100 / active for half in (-0.5, 0.5)]
    low, high = max(own[0], both[0]), min(own[1], both[1])
    return (low + high) / 2


def eie_simulator():
    """The simulator of EIE's authors on their layer; here on drawn ones that share its statistics: the mean of three.

    Compared is the time over that of perfect balance, which depends on which columns are active.
    """
    published = read("eie_simulator")
    length, elements, rows = published["length"], published["elements"], published["length"] // published["elements"]
    own = published["per_element"]
    places = np.array([NormalDist().inv_cdf((k + 0.5) / elements) for k in range(elements)])
    low, high = own["mean"] - own["least"], own["most"] - own["mean"]
    wanted = own["mean"] + np.where(places < 0, -places / places[0] * low, places / places[-1] * high)
    times = {depth: [] for depth in published["cycles"]}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        column = np.exp(published["column_spread"] * rng.standard_normal(length))
        drawn = rng.random((length, elements, rows), dtype=np.float32)
        density = np.full(elements, (published["entries"] - published["padding"]) / length**2)
        for _ in range(3):  # until each element has the entries that it should have
            entries = entries_by_column(drawn < density[:, None] * (column / column.mean())[:, None, None], 4)
            density = density * wanted / entries.sum(axis=0)
        active = entries[np.sort(rng.permutation(length)[: published["active"]])]
        for depth, found in times.items():
            found.append(queue_cycles(active, int(depth) - 1) / active.sum() * elements)
    for depth, cycles in published["cycles"].items():
        balanced = cycles / published["balanced_cycles"]
        yield Row("EIE's simulator, time over balance", f"queues of {depth}", balanced, float(np.mean(times[depth])))


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


def energy_googlenet():
    """GoogLeNet's energy as it is, on the same machine; nothing here was chosen with this number in sight."""
    published, machine, total = read("energy_aware"), energy_tool(), 0.0
    batch, stem = published["batch"], published["googlenet"]["stem"]
    for filters, channels, size, kernel, stride, padding, _, data in (
        *stem,
        *read("scnn")["networks"]["GoogLeNet"]["layers"],
    ):
        out = (size + 2 * padding - kernel) // stride + 1
        nest = square(1, filters, channels, size + 2 * padding, out, kernel, stride, batch=batch)
        total += price_layer(Layer.given("conv", nest, input=data, output=0.5), machine, "energy").energy
    nest = LoopNest(batch=batch, outputs=1000, inputs=1024)
    total += price_layer(Layer.given("fc", nest), machine, "energy").energy
    wanted = published["googlenet"]["energy"]
    yield Row("GoogLeNet energy, multiply-accumulates", "original", wanted, total / batch)


SOURCES = (eyeriss, vgg, eie, scnn, dual_side, energy_aware, energy_googlenet)
SLOW = (eie_simulator,)


def summary(rows):
    """Return {table: (mean error, largest error)}, absolute."""
    found = {}
    for row in rows:
        found.setdefault(row.table, []).append(abs(row.error))
    return {table: (float(np.mean(errors)), float(np.max(errors))) for table, errors in found.items()}
