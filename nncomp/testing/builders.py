"""Graphs from text, with weights and inputs that are random but always the same."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Tensor, TensorType
from nncomp.text import has_header, parse_graph

_POSITIVE: Final = re.compile(r"(^|[^a-z])(var|variance|scale)[0-9_]*$", re.IGNORECASE)
_IR_VERSION: Final = 10
_COMPLEX: Final = (DataType.COMPLEX64, DataType.COMPLEX128)
_TWO_VALUED: Final = (DataType.BOOL, DataType.INT2)


def graph(
    text: str,
    *,
    seed: int = 0,
    opset: int = 17,
    constants: Mapping[str, Tensor | npt.NDArray[Any]] | None = None,
) -> Graph:
    """Return the graph that ``text`` says, with random data for constants that have none.

    Floats are normal with deviation 0.5; those called ``var``, ``variance`` or ``scale`` (also ``bn_var``, ``scale_1``)
    lie in [0.5, 2). Integers are 0, 1 or, where the type has it, 2. The data depends on ``seed`` and the name only.

    Args:
        text: ONNX text syntax; without ``<ir_version: ..., opset_import: ...>`` in front, IR 10 and ``opset`` are
            meant, and any other domain is imported at version 1.
        seed: Seed of the random data.
        opset: Version of ONNX's own opset where the text has no header.
        constants: Data by name, see :func:`nncomp.text.constants_of`.

    Raises:
        UsageError: the text is wrong (NNC-R021).
        ModelError: the model is invalid (NNC-M0xx).
    """

    def fill(key: str, type_: TensorType) -> npt.NDArray[Any]:
        return _random_data(key, type_, np.random.default_rng([seed, zlib.crc32(key.encode())]))

    if has_header(text):
        return parse_graph(text, constants=constants, fill=fill)
    header = f'<ir_version: {_IR_VERSION}, opset_import: ["": {opset}]> '  # on the text's line: places in errors hold
    found = parse_graph(header + text, constants=constants, fill=fill)
    for domain in {op.domain for _, op in found.walk()} | {domain for domain, _, _ in found.info.functions}:
        found.import_opset(domain, 1)
    return found


def feeds(
    graph: Graph, *, seed: int = 0, dims: Mapping[str, int] | None = None, batch: int = 2
) -> dict[str, npt.NDArray[Any]]:
    """Return random inputs that fit the graph's input types; inputs with a default are left out.

    Args:
        graph: A model's own graph.
        seed: Seed of the generator.
        dims: Sizes of symbolic dimensions.
        batch: Size of all other dimensions that are not fixed.

    Raises:
        UnsupportedError: an input is no dense numeric tensor.
    """
    from nncomp.runtime import random_feeds

    return random_feeds(graph, seed=seed, dims=dims, unknown=batch)


def _random_data(name: str, type_: TensorType, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape, dtype = type_.static_shape or (), type_.dtype
    if dtype == DataType.STRING:
        return np.array([f"s{number}" for number in rng.integers(0, 3, shape).reshape(-1)], object).reshape(shape)
    data: npt.NDArray[Any]
    if dtype in _COMPLEX:
        data = rng.normal(0, 0.5, shape) + 1j * rng.normal(0, 0.5, shape)
    elif not dtype.is_floating_point():
        data = rng.integers(0, 2 if dtype in _TWO_VALUED else 3, shape)
    elif _POSITIVE.search(name) or dtype == DataType.FLOAT8E8M0:
        data = rng.uniform(0.5, 2.0, shape)
    else:
        data = rng.normal(0, 0.5, shape)
    return np.asarray(data).astype(dtype.numpy())
