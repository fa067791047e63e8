"""Tensors and attributes as literals of ONNX text syntax, exactly or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from nncomp.ir import Attribute, AttributeType, DataType, Tensor, TensorType
from nncomp.ir.types import quote_name, quote_text
from nncomp.onnx_io.tensors import SparseConstant
from nncomp.text.digest import strings
from nncomp.text.syntax import can_write_text, can_write_type, has_denotation, is_word, listed

_FLOATS: Final = (DataType.FLOAT, DataType.DOUBLE, DataType.COMPLEX64, DataType.COMPLEX128)
_NAN_BITS: Final = {4: (0x7FC00000, 0xFFC00000), 8: (0x7FF8000000000000, 0xFFF8000000000000)}
_FLOAT6: Final = (DataType.FLOAT6E2M3, DataType.FLOAT6E3M2)
_TYPE_NAMES: Final[dict[AttributeType, str]] = {
    type_: type_.name.lower() for type_ in AttributeType if type_ is not AttributeType.UNDEFINED
}


def tensor_type(tensor: Tensor) -> TensorType:
    """Return the type of a tensor's data."""
    return TensorType(tensor.dtype, tuple(int(dim) for dim in tensor.shape))


def tensor_literals(tensor: Tensor, max_elements: int) -> list[str] | None:
    """Return a literal for each number, or None when there are too many or one has no exact literal.

    Types that the syntax has no numbers for (float16, int4, ...) are written as their bits, as it asks.
    """
    if isinstance(tensor, SparseConstant) or (tensor.size > max_elements and tensor.size > 0):
        return None
    if tensor.dtype == DataType.STRING:
        return _string_literals(strings(tensor))
    array = np.ascontiguousarray(tensor.numpy()).reshape(-1)
    if tensor.dtype in _FLOATS:
        return _float_literals(array.view(array.real.dtype))
    if array.dtype.kind in "iu":
        return [str(number) for number in array.tolist()]
    return [str(number) for number in _bits(tensor, array).tolist()]


def is_written_as_bits(tensor: Tensor) -> bool:
    """True when the literals are bit patterns, which a reader should see as numbers beside them."""
    if tensor.dtype in (DataType.STRING, DataType.BOOL, *_FLOATS):
        return False
    return np.asarray(tensor.numpy()).dtype.kind not in "iu"


def plain_numbers(tensor: Tensor) -> str:
    """Return the numbers as a reader writes them, for a comment."""
    return ", ".join(f"{number:g}" for number in np.asarray(tensor.numpy()).reshape(-1).astype(np.float64).tolist())


def attribute_pieces(name: str, attr: Attribute) -> list[str] | None:
    """Return ``name = value`` as pieces between which a line may be broken; None when the syntax cannot say it.

    Tensors are not for here: they may be elided.
    """
    if not is_word(name):
        return None
    if attr.ref:
        typed = f"{name}: {_TYPE_NAMES[attr.type]}" if attr.type in _TYPE_NAMES else name
        return [f"{typed} = @{quote_name(attr.ref)}"]
    literals = _attribute_literals(attr)
    if literals is None:
        return None
    if isinstance(literals, str):
        return [f"{name} = {literals}"]
    if not literals:
        return [f"{name}: {_TYPE_NAMES[attr.type]} = []"]
    return listed(literals, f"{name} = [", "]")


def attribute_tensor(name: str, attr: Attribute) -> Tensor | None:
    """Return the data of an attribute that is one dense tensor and that the syntax can name."""
    one = attr.type == AttributeType.TENSOR and not attr.ref and is_word(name)
    return cast(Tensor, attr.value) if one else None


def float_literal(number: float) -> str:
    """Return the shortest literal that reads as the same float32, with a sign that it is no integer."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if np.isnan(single):
        return "-nan" if np.signbit(single) else "nan"
    return str(single)


def _attribute_literals(attr: Attribute) -> str | list[str] | None:
    value: Any = attr.value
    match attr.type:
        case AttributeType.INT:
            return str(int(value))
        case AttributeType.FLOAT:
            return float_literal(value)
        case AttributeType.STRING:
            return quote_text(value) if can_write_text(value) else None
        case AttributeType.TYPE_PROTO:
            return str(value) if can_write_type(value) and not has_denotation(value) else None
        case AttributeType.INTS:
            return [str(int(item)) for item in value]
        case AttributeType.FLOATS:
            return [float_literal(item) for item in value]
        case AttributeType.STRINGS:
            return [quote_text(item) for item in value] if all(map(can_write_text, value)) else None
        case AttributeType.TENSORS | AttributeType.SPARSE_TENSORS | AttributeType.TYPE_PROTOS if not value:
            return []
        case _:
            return None


def _string_literals(items: Iterable[bytes]) -> list[str] | None:
    try:
        texts = [item.decode() for item in items]
    except UnicodeDecodeError:
        return None
    return [quote_text(text) for text in texts] if all(map(can_write_text, texts)) else None


def _float_literals(array: npt.NDArray[Any]) -> list[str] | None:
    """Return float32 or float64 literals; None when a NaN is not the one that its literal is read as."""
    nans = np.isnan(array)
    texts = [str(number).removesuffix(".0") for number in array]
    if nans.any():
        plain, negative = _NAN_BITS[array.itemsize]
        bits = array.view(f"u{array.itemsize}")
        if not np.isin(bits[nans], (plain, negative)).all():
            return None
        texts = ["-nan" if bit == negative else text for text, bit in zip(texts, bits.tolist(), strict=True)]
    return texts


def _bits(tensor: Tensor, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if tensor.dtype in _FLOAT6 or tensor.dtype == DataType.BOOL:
        return array.view(np.uint8)  # one element a number, whatever the packing in a file
    width = max(int(tensor.dtype.itemsize), 1)
    return np.frombuffer(tensor.tobytes(), dtype=f"<u{width}")
