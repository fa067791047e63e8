"""A quantized graph in stages: what is computed between two tensors of codes, each on its own.

A number that lies between two codes becomes either, and what follows moves on: at the end of a deep network that cannot
be told from a mistake. So the graph is cut where it quantizes. Each stage is fed the codes that ONNX Runtime has, and
its codes are compared with the real numbers that they round, which leaves no room: 0.5 steps, and what float32 loses.
Where scales are computed from the numbers (DynamicQuantizeLinear), a stage ends in real numbers instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, Value
from nncomp.runtime import Feeds, Session
from nncomp_tvm.lowering.expansion import expand

Array: TypeAlias = NDArray[Any]
Differ: TypeAlias = Callable[[str, Any, Any], str]

QUANTIZING: Final = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})
"""Operators that round to codes."""

SLACK: Final = 1 / 16
"""Steps that a code may lie farther from a number than rounding to it explains: sums of float32 end there."""

_KINDS: Final = {"u1": (0, 255), "i1": (-128, 127), "u2": (0, 65535), "i2": (-32768, 32767)}
"""Codes by numpy's name of their type: lowest and highest."""


def quantizes(graph: Graph) -> bool:
    """Whether a graph, or a body in it, rounds to codes."""
    return any(op.kind in QUANTIZING and not op.domain for _, op in graph.walk())


@dataclass(frozen=True)
class Stage:
    """The end of a stage.

    Attributes:
        value: Name of the tensor: codes, or real numbers that get codes by a scale computed from them.
        layer: What computes it, as users know it.
        fed: Name of the input that stands for it, "" where nobody reads it.
        real: Name of the real numbers that codes round, "" where the stage ends in real numbers.
        scale, zero: Of codes, shaped to broadcast.
    """

    value: str
    layer: str
    fed: str
    real: str = ""
    scale: Array | None = None
    zero: Array | None = None

    def distance(self, real: Array, codes: Array, excused: float = 0.0) -> Array:
        """Return how many steps each code is from the real number that it rounds, beyond what rounding explains.

        Args:
            real: What is rounded.
            codes: What it is rounded to.
            excused: Relative error of real numbers.
        """
        assert self.scale is not None and self.zero is not None
        low, high = _KINDS[codes.dtype.str[1:]]
        with np.errstate(all="ignore"):
            steps = real.astype(np.float64) / self.scale
            target = np.clip(steps + self.zero, low, high)
        loss = max(16 * float(np.finfo(real.dtype).eps), excused) * np.minimum(np.abs(steps), high - low)
        beyond: Array = np.abs(codes.astype(np.float64) - target) - 0.5 - SLACK - loss
        return np.where(np.isfinite(real), np.maximum(beyond, 0), 0)

    def misfit(self, real: Array, codes: Array, excused: float = 0.0) -> str:
        """Say how far codes are from the real numbers that they round, "" if they round them."""
        beyond = self.distance(real, codes, excused)
        if not beyond.any():
            return ""
        count = f"{np.count_nonzero(beyond)} of {beyond.size} codes {self.value!r}"
        return f"{count} lie up to {beyond.max() + 0.5 + SLACK:.2g} steps from the numbers that they round"


@dataclass(frozen=True)
class Stages:
    """A graph that is cut.

    Attributes:
        whole: The graph, kernels on codes said as conversions around the float op.
        graph: The same, cut: it takes what stages are fed, and gives what they end in besides its own outputs.
        stages: In the order in which they run.
    """

    whole: Graph
    graph: Graph
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, graph: Graph) -> Stages | None:
        """Cut a model's own graph, which stays as it is; None where it rounds to codes and no cut is possible."""
        whole = graph.clone()
        for op in whole.ops():
            if op.kind in QUANTIZING - {"QuantizeLinear", "DynamicQuantizeLinear"} and not op.domain:
                expand(whole, op)
        infer_types(whole)
        computed = _computed(whole)
        found = {id(op): op for op in whole.ops() if op.kind in QUANTIZING and not op.domain}
        if any(op.kind in QUANTIZING and id(op) not in found for _, op in whole.walk()):
            return None
        ends: dict[str, Stage] = {}
        for op in found.values():
            if op.inputs[0] not in computed:
                continue
            stage = _end(op)
            if stage is None:
                return None
            if stage.real or op.inputs[0] not in whole.inputs:
                ends[stage.value] = stage
        return cls(whole, *_cut(whole, ends))

    def captured(self, feeds: Feeds, *, optimize: bool = False) -> dict[str, Array]:
        """Return what ONNX Runtime has where stages end, and what codes round: by names of values of ``whole``.

        Args:
            feeds: Inputs of the graph.
            optimize: Let it use its integer kernels; the real numbers are not there then.

        Raises:
            RuntimeFailure: ONNX Runtime refuses the graph.
        """
        names = [stage.value for stage in self.stages]
        reals = [] if optimize else [stage.real for stage in self.stages if stage.real]
        outputs = [value.name for value in self.whole.outputs]
        wanted = list(dict.fromkeys([*names, *reals, *outputs]))
        fed = {value.name for value in self.whole.inputs}
        results = Session(self.whole, outputs=[n for n in wanted if n not in fed], optimize=optimize).run(feeds)
        return {**{name: np.asarray(feeds[name]) for name in wanted if name in fed}, **results}

    def feeds(self, feeds: Feeds, captured: Mapping[str, Array]) -> dict[str, Any]:
        """Return the inputs of the cut graph."""
        return {**dict(feeds), **{stage.fed: captured[stage.value] for stage in self.stages if stage.fed}}

    def misfit(
        self, captured: Mapping[str, Array], got: Mapping[str, Any], differ: Differ, *, excused: float = 0.0
    ) -> str:
        """Say which stage gives something else than it should, "" if all are right.

        Args:
            captured: What ONNX Runtime has, without its optimizations.
            got: Results of the cut graph.
            differ: Says how real numbers differ, "" if they do not: name, what is expected, what was found.
            excused: As for :meth:`Stage.distance`.
        """
        for stage in self.stages:
            expected, found = captured[stage.value], np.asarray(got[stage.value])
            if not stage.real or expected.shape != found.shape:
                problem = differ(stage.value, expected, found)
            else:
                problem = stage.misfit(captured[stage.real], found, excused)
            if problem:
                return f"{stage.layer}: {problem}"
        return ""


def _computed(graph: Graph) -> set[Value]:
    """Return the values that depend on inputs."""
    found = set(graph.inputs)
    for op in graph.ops():
        if op.bodies or any(value in found for value in op.inputs):
            found.update(op.outputs)
    return found


def _end(op: Op) -> Stage | None:
    """Return the stage that ends at a quantizer, None where its scale is neither known nor DynamicQuantizeLinear's."""
    real = op.inputs[0]
    assert real is not None
    layer = (real.producer or op).label
    if op.kind == "DynamicQuantizeLinear":
        return Stage(real.name, layer, "")
    known = [value.const for value in op.inputs[1:] if value is not None]
    kind = op.outputs[0].tensor_type
    if None in known or "block_size" in op.attrs or kind is None or kind.dtype.numpy().str[1:] not in _KINDS:
        return None
    scale, *zeros = (tensor.numpy() for tensor in known if tensor is not None)
    zero = zeros[0] if zeros else np.zeros_like(scale)
    if scale.size > 1:
        shape = [1] * len(real.shape or ())
        if not shape:
            return None
        shape[int(op.attr("axis", 1))] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape if zero.size > 1 else (1,))
    return Stage(op.outputs[0].name, layer, "", real.name, scale.astype(np.float64), zero.astype(np.float64))


def _cut(whole: Graph, ends: Mapping[str, Stage]) -> tuple[Graph, tuple[Stage, ...]]:
    graph, stages = whole.clone(), []
    outputs = list(graph.outputs)
    for stage in ends.values():
        value, fed = graph.find(stage.value), ""
        if graph.uses(value):
            twin = graph.add_input(f"{stage.value}_fed", value.type)
            graph.replace_uses(value, twin, keep=lambda use: False)
            fed = twin.name
        outputs += [value] if value not in outputs else []
        stages.append(Stage(stage.value, stage.layer, fed, stage.real, stage.scale, stage.zero))
    graph.set_outputs(outputs)
    return graph, tuple(stages)
