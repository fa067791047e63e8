"""Which kernel of ONNX Runtime computes what, and how long each takes: its own profiler, read back.

ONNX Runtime fuses ops, gives kernels names of its own, and changes layouts. To know a kernel again all the same, ops
and values of a copy get names that say their number; kernels keep these, in front of whatever is added, or their
outputs do. An integer kernel keeps that of the op in the middle: not those of the quantizers that it takes in.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.runtime import Feeds, RuntimeFailure, import_onnxruntime, session_options
from nncomp.targets import Kernel
from nncomp.timelimit import OverdueError, TimeLimit
from nncomp_ort.executed import FLOAT_COMPUTE, INTEGER_COMPUTE, loadable, values_that_are_not_float

_MOST_BYTES: Final = 1 << 30
_MOST_EVENTS: Final = 20_000
"""Of all timed runs: the profiler writes hundreds of bytes for each, and they are read at once."""

_RUNS: Final = (5, 20)
"""Timed runs: at the least, however long they take, and at the most; fewer where one alone has so many events."""

_EVENT: Final = "_kernel_time"
_NUMBERED: Final = re.compile(r"(?:fused )?(nncomp_(?:op|value)_\d+)(?!\d)")
_MOVES: Final = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Transpose", "ReorderInput",
        "ReorderOutput", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "Split", "Slice", "Gather",
        "Pad", "Expand", "Shape", "ConstantOfShape", "Tile",
    }
)  # fmt: skip
"""Kernels that move or convert numbers and compute none."""


def profiled(graph: Graph, feeds: Feeds, *, seconds: float, threads: int = 1) -> tuple[Kernel, ...]:
    """Return the kernels of one run of ``graph``, in the order in which they run, each with the median of its times.

    Kernels inside of bodies are part of the If, Loop or Scan around them.

    Args:
        graph: What is run; it stays as it is.
        feeds: Inputs.
        seconds: Wall time at the most, but for five runs, of a large graph for one; 0 runs once, untimed.
        threads: Intra-op threads.

    Raises:
        UnsupportedError: the graph holds more than 1 GiB of weights (NNC-T002).
        RuntimeFailure: ONNX Runtime cannot load or run it.
    """
    held = sum(value.const.nbytes for part in graph.graphs() for value in part.constants() if value.const is not None)
    if held > _MOST_BYTES:
        raise UnsupportedError("kernels are not looked at in models of more than 1 GiB", code="NNC-T002")
    numbered = _Numbered.of(graph)
    with tempfile.TemporaryDirectory(prefix="nncomp-") as folder:
        events, model = _profile(numbered.graph, feeds, Path(folder), seconds, threads)
    times: dict[str, list[float]] = defaultdict(list)
    for event in events if seconds else ():
        times[event["name"].removesuffix(_EVENT)].append(float(event["dur"]))
    not_float = values_that_are_not_float(model.graph)
    seen = _event_names(model, times)
    return tuple(
        Kernel(
            node.op_type,
            outputs,
            _integer(node, not_float),
            float(np.median(times[name])) if name in times else None,
        )
        for node, name, outputs in zip(
            model.graph.node, seen, _computed(graph, numbered, model, not_float), strict=True
        )
    )


def _event_names(model: ModelProto, times: Mapping[str, Sequence[float]]) -> list[str]:
    """Return what the profiler calls each node: one without a name by its kind and a number, in the order of nodes."""
    named = {node.name for node in model.graph.node if node.name}
    unnamed: dict[str, list[str]] = defaultdict(list)
    for name in times:
        if name not in named:
            unnamed[name.rpartition("_")[0]].append(name)
    return [node.name or (unnamed[node.op_type].pop(0) if unnamed[node.op_type] else "") for node in model.graph.node]


def _computed(graph: Graph, numbered: _Numbered, model: ModelProto, not_float: set[str]) -> list[tuple[str, ...]]:
    """Return the values of ``graph`` that each kernel computes.

    ONNX Runtime runs ops that it has no kernel for, such as HardSwish, as several nodes without names. A float one is
    part of the only op in front of its reader that no kernel is known to compute, else of its reader's own op.
    """
    nodes = model.graph.node
    found = [numbered.computed(node) for node in nodes]
    known = {name for names in found for name in names}
    readers = {name: place for place in reversed(range(len(nodes))) for name in nodes[place].input if name}
    for place in reversed(range(len(nodes))):
        reader = next((readers[name] for name in nodes[place].output if name in readers), None)
        if found[place] or nodes[place].name or reader is None or _integer(nodes[place], not_float) is not False:
            continue
        own = found[reader]
        if nodes[reader].name:
            computed = (graph.find(name).producer for name in own)
            sources = [value for op in computed if op is not None for value in op.inputs if value is not None]
            hidden = [value.name for value in sources if value.producer is not None and value.name not in known]
            own = tuple(dict.fromkeys(hidden)) if len(set(hidden)) == 1 else own
        found[place] = own
    return found


@dataclass(frozen=True)
class _Numbered:
    """A copy whose ops and values have names that say their number; inputs and outputs keep theirs.

    Attributes:
        graph: The copy.
        names: The names of values in the graph that was copied, by the new name of the value or of its op.
    """

    graph: Graph
    names: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, graph: Graph) -> _Numbered:
        twin = graph.clone()
        names: dict[str, tuple[str, ...]] = {value.name: (value.name,) for value in twin.outputs}
        number = 0
        for position, op in enumerate(twin.ops()):
            named = tuple(value.name for value in op.outputs if value.name)
            names[f"nncomp_op_{position}"] = named
            twin.set_name(op, f"nncomp_op_{position}")
            for value in op.outputs:
                if value.name and not twin.is_output(value):
                    number += 1
                    names[f"nncomp_value_{number}"] = (value.name,)
                    twin.rename(value, f"nncomp_value_{number}")
        return cls(twin, names)

    def computed(self, node: NodeProto) -> tuple[str, ...]:
        """Return the values of the graph that was copied which a kernel computes."""
        found = [name for output in node.output for name in self.names.get(output, ())]
        told = _NUMBERED.match(node.name)
        if told is not None:
            found += self.names.get(told[1], ())
        return tuple(dict.fromkeys(found))


def _profile(
    graph: Graph, feeds: Feeds, folder: Path, seconds: float, threads: int
) -> tuple[Sequence[Mapping[str, Any]], ModelProto]:
    """Return the profiler's events of all runs but the first, and what was executed."""
    ort = import_onnxruntime()
    options = session_options(threads=threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "executed.onnx")
    # Weights go to a file of their own, which is never read back.
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
    source = loadable(graph, folder)
    model_or_path = source if isinstance(source, bytes) else str(source)
    try:
        session = ort.InferenceSession(model_or_path, options, providers=["CPUExecutionProvider"])
        given = {item.name: feeds[item.name] for item in session.get_inputs() if item.name in feeds}
        limit, started, runs = TimeLimit(), time.monotonic(), 1
        limit.run(ort.RunOptions(), lambda options: session.run(None, given, options))
        model = onnx.load(str(folder / "executed.onnx"), load_external_data=False)
        most = max(min(_MOST_EVENTS // max(len(model.graph.node), 1), _RUNS[1]), 1)
        least = min(_RUNS[0], most)
        while seconds and (runs <= least or (runs <= most and time.monotonic() - started < seconds)):
            limit.run(ort.RunOptions(), lambda options: session.run(None, given, options))
            runs += 1
        found = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    except OverdueError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise RuntimeFailure(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    return _after_first_run([event for event in found if event.get("ph") == "X"]), model


def _after_first_run(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the kernels' events behind the end of the first run, which touches memory for the first time."""
    ends = [event["ts"] + event["dur"] for event in events if event["name"] == "model_run"]
    return [
        event for event in events if event["cat"] == "Node" and event["name"].endswith(_EVENT) and event["ts"] > ends[0]
    ]


def _integer(node: NodeProto, not_float: set[str]) -> bool | None:
    if node.op_type in INTEGER_COMPUTE or node.op_type.startswith("QLinear"):
        return True
    if node.op_type in FLOAT_COMPUTE:
        return False
    if node.op_type in _MOVES:
        return None
    return None if not node.output or set(node.output) <= not_float else False
