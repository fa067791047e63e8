"""The numeric gate: each pass is run against the graph before it, and held to the effect that it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.errors import GateError, NncompError, UnsupportedError, Where
from nncomp.ir import DataType, Graph, TensorType, Value
from nncomp.narrow import widened
from nncomp.passes import Effect
from nncomp.runtime import Feeds, RuntimeFailure, Session, random_feeds

Array: TypeAlias = npt.NDArray[Any]

REASSOCIATION_LIMIT: Final = 1e-5
"""Relative error (L2) that changing the order of float32 sums may cost."""

HALF_LIMIT: Final = 1e-5 * 2**10
"""The same for graphs that compute in float16 or bfloat16, which round 2^13 and 2^16 times as coarsely."""

EXACT_HALF_LIMIT: Final = 2.0**-9
"""What an exact pass may cost such graphs: rounding once more or less between two ops, which ONNX Runtime decides.

That moves a float16 by 2^-11 of itself at the most, and a bfloat16 by 2^-9. Generated graphs moved by up to 6e-4.
"""

_NUDGE: Final = 2.0**-23
_NUDGE_FACTOR: Final = 10.0  # sums of many terms may round that many times


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far outputs lie from a reference's, over all samples.

    Attributes:
        identical: bit for bit (NaN equals NaN).
        relative: max over outputs of ||a - b|| / ||a||, L2.
        sqnr_db: 10 log10(sum a^2 / sum (a - b)^2) over all float outputs; inf when identical.
        cosine: mean cosine similarity of the samples' outputs.
        worst_output: name of the output with the largest relative error.
    """

    identical: bool
    relative: float
    sqnr_db: float
    cosine: float
    worst_output: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate found for one pass; ``skipped`` says why it could not look."""

    effect: Effect
    passed: bool
    deviation: Deviation | None = None
    skipped: str = ""
    first_divergence: str = ""


class Gate:
    """Compares graphs on a few inputs, on ONNX Runtime without optimizations.

    The reference's outputs are kept from one check to the next, so that a pass costs one session.

    Args:
        feeds: Inputs to compare on; None makes random ones from the first graph's input types.
        seed: Of the random inputs.
    """

    def __init__(self, feeds: Sequence[Feeds] | None = None, *, seed: int = 0) -> None:
        self._feeds = list(feeds) if feeds else None
        self._seed = seed
        self._known: tuple[Graph, int, list[dict[str, Any]]] | None = None
        self.skipped = ""

    def check(self, before: Graph, after: Graph, effect: Effect) -> GateResult:
        """Hold the step from ``before`` to ``after`` to ``effect``."""
        expected = self._reference(before)
        if expected is None:
            return GateResult(effect, passed=True, skipped=self.skipped)
        try:
            got = self._outputs(after)
        except RuntimeFailure as error:
            return GateResult(effect, passed=False, first_divergence=f"the result does not run: {error.message}")
        deviation = compare(expected, got)
        limit = _limit(before)
        if effect is Effect.EXACT:
            # On CPU, ONNX Runtime computes half precision in single, and whether it rounds between two ops depends on
            # who else reads the value: without a dead reader, the same ops give other bits.
            passed = deviation.identical or (limit == HALF_LIMIT and deviation.relative <= EXACT_HALF_LIMIT)
        else:
            passed = effect is Effect.LOSSY or deviation.relative <= limit
        if not passed and effect is Effect.REASSOCIATES:
            # Where outputs cancel to nearly nothing, rounding alone moves them by more than any fixed limit: what the
            # smallest change of the inputs does to the *original* is then the measure.
            passed = deviation.relative <= _NUDGE_FACTOR * self._sensitivity(before, expected)
        if passed:
            self._known = (after, after.version, got)
        divergence = "" if passed else self.first_divergence(before, after, effect)
        return GateResult(effect, passed, deviation, first_divergence=divergence)

    def first_divergence(self, before: Graph, after: Graph, effect: Effect) -> str:
        """Return the label of the first op of ``after`` whose output differs from the value of that name before."""
        names = {value.name for value in _comparable(before)}
        shared = [value for value in _comparable(after) if value.name in names]
        if not shared:
            return ""
        wanted = [value.name for value in shared]
        try:
            old, new = Session(before, outputs=wanted), Session(after, outputs=wanted)
            for feed in self._inputs(before):
                a, b = old.run(feed), new.run(feed)
                for value in shared:
                    one = compare([{value.name: a[value.name]}], [{value.name: b[value.name]}])
                    if not one.identical and (effect is Effect.EXACT or one.relative > _limit(before)):
                        return value.producer.label if value.producer is not None else value.name
        except NncompError:
            pass
        return ""

    def _sensitivity(self, graph: Graph, expected: Sequence[Mapping[str, Any]]) -> float:
        """Return how far outputs move, relative, when each float input moves by its last bit."""
        nudged = [{name: _nudged(array) for name, array in one.items()} for one in self._inputs(graph)]
        try:
            session = Session(graph)
            return compare(expected, [session.run(feed) for feed in nudged]).relative
        except RuntimeFailure:
            return 0.0

    def feeds(self, graph: Graph) -> list[Feeds]:
        """Return the inputs that graphs are compared on."""
        return self._inputs(graph)

    def _inputs(self, graph: Graph) -> list[Feeds]:
        if self._feeds is None:
            self._feeds = [random_feeds(graph, seed=self._seed)]
        return self._feeds

    def _reference(self, graph: Graph) -> list[dict[str, Any]] | None:
        if self._known is not None and self._known[0] is graph and self._known[1] == graph.version:
            return self._known[2]
        if self.skipped:
            return None
        try:
            outputs = self._outputs(graph)
        except (RuntimeFailure, UnsupportedError) as error:
            self.skipped = f"the graph cannot be run for comparison: {error.message}"
            return None
        self._known = (graph, graph.version, outputs)
        return outputs

    def _outputs(self, graph: Graph) -> list[dict[str, Any]]:
        feeds = self._inputs(graph)
        session = Session(graph)
        return [session.run(feed) for feed in feeds]


def compare(expected: Sequence[Mapping[str, Any]], got: Sequence[Mapping[str, Any]]) -> Deviation:
    """Compare outputs sample by sample; see :class:`Deviation`. Sequences and maps count element by element."""
    identical = True
    worst, worst_output = 0.0, ""
    signal = noise = 0.0
    cosines: list[float] = []
    for a_run, b_run in zip(expected, got, strict=True):
        for name, a, b in _pairs(a_run, b_run):
            same = _identical(a, b)
            identical &= same
            error = 0.0
            if same and a.dtype.kind == "f" and a.size:
                signal += float(np.square(a, dtype=np.float64)[np.isfinite(a)].sum())
                cosines.append(1.0)
            elif not same:
                error, power, difference, cosine = _distance(a, b)
                signal, noise = signal + power, noise + difference
                cosines.append(cosine)
            if error > worst or not worst_output:
                worst, worst_output = error, name
    sqnr = 10 * (math.log10(max(signal, 1e-300)) - math.log10(noise)) if noise else float("inf")
    return Deviation(identical, worst, sqnr, float(np.mean(cosines)) if cosines else 1.0, worst_output)


def interface(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Return what callers see: names and types of inputs and outputs, symbols apart."""
    return (
        tuple(f"{value.name}: {_seen(value)}" for value in graph.inputs),
        tuple(f"{value.name}: {_seen(value, shape=False)}" for value in graph.outputs),
    )


def check_interface(before: Graph, after: Graph, pass_name: str) -> None:
    """Refuse a changed interface.

    Raises:
        GateError: names, order or types of inputs or outputs changed (NNC-G003).
    """
    for side, old, new in zip(("inputs", "outputs"), interface(before), interface(after), strict=True):
        if old != new:
            raise GateError(
                f"pass {pass_name!r} changed the graph {side} from ({', '.join(old)}) to ({', '.join(new)})",
                code="NNC-G003",
                where=Where(pass_name=pass_name),
            )


def _nudged(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array * array.dtype.type(1 + _NUDGE) if array.dtype.kind == "f" else array


def _limit(graph: Graph) -> float:
    half = any(
        isinstance(value.type, TensorType) and value.type.dtype in (DataType.FLOAT16, DataType.BFLOAT16)
        for value in graph.values()
    )
    return HALF_LIMIT if half else REASSOCIATION_LIMIT


def _seen(value: Value, *, shape: bool = True) -> str:
    if not isinstance(value.type, TensorType):
        return str(value.type)
    return str(value.type) if shape else value.type.dtype.name


def _comparable(graph: Graph) -> list[Value]:
    return [
        value
        for op in graph.ops()
        for value in op.outputs
        if value.name and (value.type is None or isinstance(value.type, TensorType))
    ]


def _pairs(a_run: Mapping[str, Any], b_run: Mapping[str, Any]) -> Iterator[tuple[str, Array, Array]]:
    """Yield the arrays of two results side by side; of results with other elements, the numbers of elements."""
    for name, value in a_run.items():
        a, b = _arrays(value), _arrays(b_run[name])
        if len(a) != len(b):
            a, b = [np.array(len(a))], [np.array(len(b))]
        yield from zip(repeat(name), a, b)


def _arrays(value: Any) -> list[Array]:
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return [array for item in value for array in _arrays(item)]
    return [] if value is None else [widened(np.asarray(value))]


def _identical(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    signs = np.signbit(a.real) == np.signbit(b.real)
    if a.dtype.kind == "c":
        signs &= np.signbit(a.imag) == np.signbit(b.imag)
    return bool((((a == b) & signs) | (np.isnan(a) & np.isnan(b))).all())


def _distance(a: Array, b: Array) -> tuple[float, float, float, float]:
    """Return (relative error, power of a, power of the difference, cosine)."""
    if a.shape != b.shape or a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        return float("inf"), 0.0, float("inf"), 0.0
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if not np.isfinite(x[~same]).all() or not np.isfinite(y[~same]).all():
        return float("inf"), 0.0, float("inf"), 0.0
    x, y = np.where(same & ~np.isfinite(x), 0, x), np.where(same & ~np.isfinite(y), 0, y)
    power, difference = float(x @ x), float((x - y) @ (x - y))
    relative = float(np.sqrt(difference / power)) if power else float("inf")
    norm = float(np.sqrt(power * (y @ y)))
    return relative, power, difference, float(x @ y) / norm if norm else 0.0
