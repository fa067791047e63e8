"""Choose tiles by measuring: candidates of each kernel are compiled and run in turn, and the fastest is kept.

A tile says all that there is to choose about a kernel, and the cost model of ``tiling`` sorts candidates well: a dozen
measurements a kernel go far. What was found goes into a database of JSON lines, one a workload, keyed by the kernel
(shapes, types and the operators behind it), the CPU and TVM's version; it is written whole after each workload, by
renaming, so that an interrupted tuning goes on where it stopped and a repeated one measures nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from nncomp.errors import ResourceError
from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.graph import array_of, dtype_of, shape_of
from nncomp_tvm.kernels.regions import Cut
from nncomp_tvm.kernels.tiling import Tile
from nncomp_tvm.library import VERSION, tvm

_FORMAT: Final = 2  # of the kernels: a change of what a tile means makes old records worthless

_GAIN: Final = 0.98  # a tile is taken if it needs less than this part of the default's time; below that is noise

_ROUNDS: Final = 7

_MOST: Final = 16  # candidates of a kernel


@dataclass(frozen=True)
class TuningProgress:
    """Where tuning stands.

    Attributes:
        kernel: What is measured.
        done: Kernels that are done, of ``total``.
        trials: Measured candidates so far.
        default_us: Time of the default tile.
        best_us: Time of the best so far.
    """

    kernel: str
    done: int
    total: int
    trials: int
    default_us: float
    best_us: float


@dataclass(frozen=True)
class TuningOptions:
    """How much to measure.

    Attributes:
        trials: Candidates in all; 0 measures nothing and only reads the database.
        seconds: Wall-clock time in all; a kernel that has begun is finished.
        database: Where results are kept; None forgets them.
        progress: Told after each kernel.
    """

    trials: int = 512
    seconds: float = 600.0
    database: Path | None = None
    progress: Callable[[TuningProgress], None] | None = None


@dataclass(frozen=True)
class Record:
    """A line of the database: the best tile of a workload, and times of it and of the default."""

    workload: str
    kernel: str
    cpu: str
    tvm: str
    format: int
    rows: int
    vectors: int
    panels_first: bool
    us: float
    default_us: float
    trials: int

    @property
    def tile(self) -> Tile:
        """The tile."""
        return Tile(self.rows, self.vectors, self.panels_first)


class Database:
    """Records by workload, for one CPU; other records of the file are kept."""

    def __init__(self, path: Path | None, cpu: CpuTarget) -> None:
        self._path, self._cpu = path, f"{cpu.mcpu}/{cpu.vector_bytes}/{cpu.dot}"
        self._foreign: list[str] = []
        self._records: dict[str, Record] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else ():
            record = _parsed(line)
            if record is not None and (record.cpu, record.tvm, record.format) == (self._cpu, VERSION, _FORMAT):
                self._records[record.workload] = record
            elif line.strip():
                self._foreign.append(line)

    def find(self, region: Cut) -> Record | None:
        """Return what is known of a kernel."""
        return self._records.get(workload(region))

    def add(self, region: Cut, tile: Tile, *, us: float, default_us: float, trials: int) -> None:
        """Keep a result, on the disk, too.

        Raises:
            ResourceError: the file cannot be written.
        """
        key = workload(region)
        self._records[key] = Record(
            key, "+".join(region.ops), self._cpu, VERSION, _FORMAT, tile.rows, tile.vectors, tile.panels_first,
            round(us, 3), round(default_us, 3), trials,
        )  # fmt: skip
        if self._path is None:
            return
        lines = [*self._foreign, *(json.dumps(asdict(record)) for _, record in sorted(self._records.items()))]
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            raise ResourceError(f"{self._path}: cannot write the tuning database: {error.strerror}") from None


def _parsed(line: str) -> Record | None:
    """Return a record, or None for a line that is none (of another version, or cut short)."""
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError):
        return None


def workload(region: Cut) -> str:
    """Return what identifies a kernel: its shapes and types and the operators behind it, not its weights."""
    return sha256(repr((region.anchor.key, region.program)).encode()).hexdigest()[:24]


def tune(regions: Iterable[Cut], cpu: CpuTarget, options: TuningOptions, *, threads: int) -> Mapping[str, Tile]:
    """Return the best known tile by workload, measuring those that the database does not know.

    The costliest kernels (multiplications x occurrences) come first and get more trials.
    """
    database = Database(options.database, cpu)
    counts = Counter(workload(region) for region in regions)
    distinct = {
        workload(region): region
        for region in regions
        if len(region.anchor.tiles) > 1 and not region.symbols(region.operands)  # of no size to measure
    }
    found = {key: record.tile for key, region in distinct.items() if (record := database.find(region)) is not None}
    missing = [key for key in distinct if key not in found]
    missing.sort(key=lambda key: (-distinct[key].anchor.macs * counts[key], key))
    weights = np.array([max(distinct[key].anchor.macs * counts[key], 1) for key in missing], np.float64) ** 0.5
    end, trials = time.monotonic() + options.seconds, 0
    for done, (key, weight) in enumerate(zip(missing, weights, strict=True), 1):
        share = int(options.trials * weight / weights.sum())
        if share < 2 or time.monotonic() > end:
            continue
        region = distinct[key]
        tiles = _candidates(region, share)
        times = _measured(region, tiles, cpu, threads=threads)
        best = min(range(len(tiles)), key=times.__getitem__)
        if times[best] > _GAIN * times[0]:
            best = 0
        trials += len(tiles)
        database.add(region, tiles[best], us=times[best], default_us=times[0], trials=len(tiles))
        found[key] = tiles[best]
        if options.progress is not None:
            options.progress(TuningProgress("+".join(region.ops), done, len(missing), trials, times[0], times[best]))
    return found


def _candidates(region: Cut, count: int) -> list[Tile]:
    """Return the default and the most promising others, each with both orders of its loops."""
    default, *others = region.anchor.tiles
    other_way = [Tile(tile.rows, tile.vectors, not tile.panels_first) for tile in (default, *others[: count // 4])]
    chosen = [default, other_way[0], *others[: max(count - 1 - len(other_way), 1)], *other_way[1:]]
    return list(dict.fromkeys(chosen))[: min(count, _MOST)]


def _measured(region: Cut, tiles: Sequence[Tile], cpu: CpuTarget, *, threads: int) -> list[float]:
    """Return microseconds a call for each tile: the least of several rounds, in which all take turns."""
    functions = {
        f"k{i}": region.anchor.write(region.program, tile).with_attr({"global_symbol": f"k{i}", "s_tir": True})
        for i, tile in enumerate(tiles)
    }
    library = tvm.tirx.build(tvm.IRModule(functions), target=cpu.target)
    rng = np.random.default_rng(0)
    calls = []
    fixed: dict[int, Any] = {}
    for i, tile in enumerate(tiles):
        operands = [*region.anchor.arguments(tile), *region.operands]
        tensors = [_filled(operand, rng, fixed) for operand in operands]
        shape: Any = region.anchor.output
        dtype = region.program.dtype
        calls.append((library[f"k{i}"], [*tensors, tvm.runtime.tensor(np.zeros(shape, dtype))]))
    clock = time.thread_time if threads == 1 else time.perf_counter

    def run(call: Any, times: int) -> float:
        function, arguments = call
        start = clock()
        for _ in range(times):
            function(*arguments)
        return (clock() - start) * 1e6 / times

    first = [run(call, 2) for call in calls]
    repeats = max(1, int(1000 / max(min(first), 1.0)))
    return [min(times) for times in zip(*([run(call, repeats) for call in calls] for _ in range(_ROUNDS)), strict=True)]


def _filled(operand: Any, rng: np.random.Generator, fixed: dict[int, Any]) -> Any:
    """Return an operand's value, or, for one that is computed, numbers of its shape, the same for each tile."""
    array = array_of(operand)
    if array is not None:
        return tvm.runtime.tensor(array)
    if hash(operand) not in fixed:
        shape: Any = shape_of(operand)
        dtype = dtype_of(operand)
        made = rng.standard_normal(shape) if dtype.startswith("float") else rng.integers(0, 100, shape)
        fixed[hash(operand)] = tvm.runtime.tensor(np.asarray(made).astype(dtype))
    return fixed[hash(operand)]
