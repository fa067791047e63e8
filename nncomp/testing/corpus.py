"""ONNX's own backend tests as a corpus: models with inputs, expected outputs and tolerances.

They come with the onnx package. The node tests are made when their modules are imported; no folder holds them, so who
looks for files finds nothing and passes without a word: :data:`BACKEND_COUNTS` is there to be asserted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, TypeProto, ValueInfoProto, numpy_helper

BACKEND_COUNTS: Final[Mapping[str, int]] = MappingProxyType(
    {"node": 1884, "simple": 23, "real": 9, "pytorch-converted": 82, "pytorch-operator": 35}
)
"""Tests by kind in onnx 1.23; other versions have other numbers."""


@dataclass(frozen=True)
class BackendCase:
    """One backend test.

    Attributes:
        kind: a key of :data:`BACKEND_COUNTS`.
        name: as in onnx, unique within its kind.
        model: the model as onnx wrote it.
        samples: inputs by name and expected outputs by name: arrays, lists of them, or None.
        rtol, atol: how near to the expected outputs counts as passed.
    """

    kind: str
    name: str
    model: ModelProto
    samples: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]
    rtol: float
    atol: float

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind}/{self.name}"


def backend_cases(*kinds: str) -> Iterator[BackendCase]:
    """Yield the tests of the given kinds, default all, one after the other and always in the same order."""
    from onnx.backend.test.loader import load_model_tests

    for kind in kinds or BACKEND_COUNTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making the expected outputs of node tests divides by zero
            found = load_model_tests(kind=kind)
        for test in sorted(found, key=lambda test: test.name):
            if test.model is not None:
                names = [item.name for item in test.model.graph.input], [item.name for item in test.model.graph.output]
                samples = tuple(
                    (_named(names[0], inputs), _named(names[1], outputs)) for inputs, outputs in test.data_sets or ()
                )
                model = test.model
            else:
                path = Path(test.model_dir) / "model.onnx" if test.model_dir else _light_model(test.name)
                model = onnx.load(path)
                samples = tuple(_samples_on_disk(model, path))
            yield BackendCase(kind, test.name, model, samples, test.rtol, test.atol)


def _named(names: list[str], values: Any) -> dict[str, Any]:
    return {name: _array(value) for name, value in zip(names, values, strict=False)}


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if np.isscalar(value) else value


def _light_model(name: str) -> Path:
    import onnx.backend.test

    return Path(onnx.backend.test.__file__).parent / "data" / "light" / f"light_{name.removeprefix('test_')}.onnx"


def _samples_on_disk(model: ModelProto, path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if path.name != "model.onnx":  # a model without its weights, and without inputs: onnx feeds it a ramp
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = {item.name: _ramp(item) for item in model.graph.input if item.name not in weights}
        expected = {
            item.name: numpy_helper.to_array(onnx.load_tensor(f"{path.with_suffix('')}_output_{number}.pb"))
            for number, item in enumerate(model.graph.output)
        }
        yield inputs, expected
        return
    for folder in sorted(path.parent.glob("test_data_set*")):
        yield (
            {item.name: value for item, value in _read_all(folder, "input", model.graph.input)},
            {item.name: value for item, value in _read_all(folder, "output", model.graph.output)},
        )


def _read_all(folder: Path, stem: str, items: Any) -> Iterator[tuple[ValueInfoProto, Any]]:
    for number, item in enumerate(items):
        path = folder / f"{stem}_{number}.pb"
        if path.exists():
            yield item, _value(path.read_bytes(), item.type)


def _value(data: bytes, type_: TypeProto) -> Any:
    if type_.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if type_.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _ramp(item: ValueInfoProto) -> Any:
    shape = tuple(dim.dim_value or 1 for dim in item.type.tensor_type.shape.dim)
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)
