"""Run a graph on ONNX Runtime: the reference that passes are checked against, and the engine of calibration.

The only module of the core that imports onnxruntime, and only when something is run. Weights are handed over by
reference, so a session costs no second copy of them and no message over protobuf's limit is ever built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from nncomp.errors import NncompError, UnsupportedError
from nncomp.ir import Graph, Tensor, TensorType
from nncomp.narrow import NATIVE, is_narrow, run_with_values
from nncomp.onnx_io import graph_to_proto
from nncomp.onnx_io.tensors import tensor_to_proto
from nncomp.timelimit import OverdueError, TimeLimit

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[np.generic]
Feeds = Mapping[str, Array]

MAX_IR_VERSION: Final = 13
MAX_OPSET: Final = 26
"""The newest that onnxruntime 1.31 accepts without being asked to be lenient."""

_BY_REFERENCE_FROM: Final = 256  # bytes


class RuntimeFailure(NncompError):  # noqa: N818  RuntimeError is Python's
    """ONNX Runtime could not load or run a graph; what it said is the message."""

    exit_status = 4
    default_code = "NNC-T002"


class Session:
    """A graph loaded by ONNX Runtime's CPU provider, of which each run ends: see :mod:`nncomp.timelimit`.

    Args:
        graph: A model's own graph.
        outputs: Names of values to give; default: the graph's outputs. Any value's name may stand here.
        optimize: Let ONNX Runtime rewrite the graph. Off for references: each op runs as it stands.
        threads: Intra-op threads.
        frugal: Do not plan memory for the shapes seen: a little slower, and a third less memory where many values
            are watched.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        outputs: Sequence[str] | None = None,
        optimize: bool = False,
        threads: int = 1,
        frugal: bool = False,
    ) -> None:
        ort = import_onnxruntime()
        options = session_options(threads=threads, optimize=optimize)
        options.enable_mem_pattern = not frugal
        names: list[str] = []
        arrays: list[Array] = []
        # ONNX Runtime takes by reference neither bodies' constants nor those that it drops because nobody reads them.
        read = {value.name for value in graph.values() if graph.users(value) or graph.is_output(value)}

        def by_reference(tensor: Tensor, name: str) -> TensorProto:
            if tensor.nbytes < _BY_REFERENCE_FROM or tensor.dtype not in NATIVE or name not in read:
                return tensor_to_proto(tensor, name)
            names.append(name)
            arrays.append(np.ascontiguousarray(tensor.numpy()))
            proto = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)
            proto.data_location = TensorProto.EXTERNAL
            proto.external_data.add(key="location", value="in-memory")
            return proto

        model = graph_to_proto(graph, write_tensor=by_reference)
        model.ir_version = min(model.ir_version, MAX_IR_VERSION)
        if outputs is not None:
            present = {item.name: item for item in model.graph.output}
            typed = {item.name: item for item in model.graph.value_info}
            del model.graph.output[:]
            for name in outputs:
                item = present.get(name) or typed.get(name)
                model.graph.output.append(item) if item is not None else model.graph.output.add(name=name)
        self.output_names = [item.name for item in model.graph.output]
        self._arrays = arrays  # ONNX Runtime reads them in place for as long as the session lives
        try:
            values = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays]
            options.add_external_initializers(names, values)
            if not optimize:  # what is shared is not copied; but what is optimized must not go by its old name
                for name, value in zip(names, values, strict=True):
                    options.add_initializer(name, value)
            self._values = values
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise RuntimeFailure(_first_line(error)) from error
        self.input_names = [item.name for item in self._session.get_inputs()]
        self._narrow = _has_narrow(self._session)
        self._limit = TimeLimit()

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once; return outputs by name. Narrow types (bfloat16, float8, int4) are arrays of ml_dtypes.

        Raises:
            RuntimeFailure: a kernel failed.
            OverdueError: it took longer than it may (NNC-E003).
        """
        try:
            results = _limited(self._limit, self._session, self.output_names, feeds, narrow=self._narrow)
        except OverdueError:
            raise
        except Exception as error:  # as above
            raise RuntimeFailure(_first_line(error), hint=_misfits(self._session, feeds)) from error
        return dict(zip(self.output_names, results, strict=True))


def run(graph: Graph, feeds: Feeds, *, optimize: bool = False) -> dict[str, Any]:
    """Run a graph once on ONNX Runtime, one thread; return outputs by name.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model or the inputs.
        OverdueError: it took longer than it may (NNC-E003).
    """
    return Session(graph, optimize=optimize).run(feeds)


def run_bytes(model: bytes, samples: Sequence[Mapping[str, Any]], *, optimize: bool = False) -> list[dict[str, Any]]:
    """Run a serialized model just as it stands on each of ``samples``, one thread; return outputs by name.

    For comparing a written model with the one that was read. Samples hold arrays, lists of them, or None.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model or the inputs.
        OverdueError: a run took longer than it may (NNC-E003).
    """
    ort = import_onnxruntime()
    try:
        session = ort.InferenceSession(model, session_options(optimize=optimize), providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs()]
        narrow, limit = _has_narrow(session), TimeLimit()
        results = []
        for sample in samples:
            outputs = _limited(limit, session, names, sample, narrow=narrow)
            results.append(dict(zip(names, outputs, strict=True)))
    except OverdueError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise RuntimeFailure(_first_line(error)) from error
    return results


def _limited(
    limit: TimeLimit, session: Any, names: Sequence[str], feeds: Mapping[str, Any], *, narrow: bool
) -> Sequence[Any]:
    ort = import_onnxruntime()
    if narrow:
        return limit.run(ort.RunOptions(), lambda options: run_with_values(ort, session, names, feeds, options))
    return limit.run(ort.RunOptions(), lambda options: session.run(names, dict(feeds), options))


_NUMPY_NAMES: Final = {"float": "float32", "double": "float64"}
_NUMPY_KINDS: Final = frozenset(
    ["float16", "float32", "float64", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)


def _misfits(session: Any, feeds: Feeds) -> str:
    """Return which inputs a session takes, and what it was given that is something else; "" if all fit by name."""
    wanted = {one.name: (one.type, list(one.shape)) for one in session.get_inputs()}
    lines = [f"{name!r} is no input of the model" for name in feeds if name not in wanted]
    for name, (type_, dims) in wanted.items():
        plain = type_.removeprefix("tensor(").removesuffix(")")
        plain = _NUMPY_NAMES.get(plain, plain)
        text = f"input {name!r} is {plain}[{','.join(str(dim) for dim in dims)}]"
        given = feeds.get(name)
        if given is None:
            lines.append(f"{text}, and was not given")
        elif isinstance(given, np.ndarray) and type_.startswith("tensor("):
            fits = given.ndim == len(dims) and all(
                not isinstance(dim, int) or dim == size for dim, size in zip(dims, given.shape, strict=True)
            )
            if not fits or (plain in _NUMPY_KINDS and given.dtype.name != plain):
                lines.append(f"{text}, and was given {given.dtype.name}[{','.join(str(size) for size in given.shape)}]")
    return "; ".join(lines)


def _has_narrow(session: Any) -> bool:
    return any(is_narrow(item.type) for item in (*session.get_inputs(), *session.get_outputs()))


def session_options(*, threads: int = 1, optimize: bool = True) -> onnxruntime.SessionOptions:
    """Return options for a quiet CPU session."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if not optimize:  # a packed weight goes through another kernel, which rounds differently: bits must not depend on
        options.add_session_config_entry("session.disable_prepacking", "1")  # whether an operand is constant
    return options


def runtime_version() -> str:
    """Return the version of ONNX Runtime, which what it computes depends on."""
    return str(import_onnxruntime().__version__)


def import_onnxruntime() -> Any:
    """Import onnxruntime.

    Raises:
        UnsupportedError: it is not installed (NNC-T001).
    """
    try:
        import onnxruntime
    except ImportError:
        raise UnsupportedError(
            "onnxruntime is not installed", code="NNC-T001", hint="pip install onnxruntime"
        ) from None
    return onnxruntime


def random_feeds(
    graph: Graph, *, seed: int = 0, dims: Mapping[str, int] | None = None, unknown: int = 1
) -> dict[str, Array]:
    """Return random inputs that fit the graph's input types.

    Floats are standard normal; integers are 0 or 1, which are safe as ids, masks and indices; booleans are mixed.

    Args:
        graph: A model's own graph.
        seed: Seed of the generator.
        dims: Sizes of symbolic dimensions.
        unknown: Size of all other dimensions that are not fixed.

    Raises:
        UnsupportedError: an input is no dense numeric tensor.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        if value.default is not None:
            continue
        type_ = value.type
        if not isinstance(type_, TensorType) or not type_.dtype.bits or type_.dtype.name.startswith("COMPLEX"):
            raise UnsupportedError(f"input {value.name!r} is {type_}: only dense numeric tensors can be generated")
        shape = tuple(
            dim if isinstance(dim, int) else (dims or {}).get(dim or "", unknown) for dim in (type_.shape or ())
        )
        dtype = type_.dtype.numpy()
        if type_.dtype.is_floating_point():
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
