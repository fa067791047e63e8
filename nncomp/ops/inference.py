"""Output types of ONNX Runtime's own ops, of which onnx's shape inference knows nothing.

A rule says what it can: a dimension that does not follow is None, a type that does not follow is None.
"""

from __future__ import annotations

from collections.abc import Sequence

from nncomp.ir import DataType, Dim, Op, Shape, TensorType, Type
from nncomp.ops.geometry import channels_last, conv_geometry, convolved_sizes
from nncomp.ops.semantics import Infer


def like_input(slot: int) -> Infer:
    """Return the rule: the first output has the type of the input at ``slot``."""
    return lambda op: _first(op, _type(op, slot))


def broadcast_inputs(*slots: int) -> Infer:
    """Return the rule: the element type of the first of ``slots``, the shape that all of them broadcast to."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        shape: Shape | None = ()
        for slot in slots:
            shape = broadcast(shape, _shape(op, slot))
        return _first(op, _tensor(op, slots[0], shape))

    return infer


def concatenated(*, first: int, step: int) -> Infer:
    """Return the rule: inputs ``first``, ``first + step``, ... one behind the other along ``axis``."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        shapes = [_shape(op, slot) for slot in range(first, len(op.inputs), step)]
        known = [shape for shape in shapes if shape is not None]
        axis, ranks = op.attr("axis", 0), {len(shape) for shape in known}
        if len(known) < len(shapes) or len(ranks) != 1 or not -min(ranks) <= axis < min(ranks):
            return _first(op, _tensor(op, first, None))
        dims = list(known[0])
        sizes = [shape[axis] for shape in known]
        total = [size for size in sizes if isinstance(size, int)]
        dims[axis] = sum(total) if len(total) == len(sizes) else None
        return _first(op, _tensor(op, first, tuple(dims)))

    return infer


def convolved(*, dtype: int = 0) -> Infer:
    """Return the rule for a convolution; the element type is that of the input at ``dtype``."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        geometry, shape = conv_geometry(op), _shape(op, 0)
        if geometry is None or shape is None or len(shape) != len(geometry.kernel) + 2:
            return _first(op, _tensor(op, dtype, None))
        if channels_last(op):
            sizes = convolved_sizes(shape[1:-1], geometry)
            return _first(op, _tensor(op, dtype, (shape[0], *sizes, geometry.out_channels)))
        sizes = convolved_sizes(shape[2:], geometry)
        return _first(op, _tensor(op, dtype, (shape[0], geometry.out_channels, *sizes)))

    return infer


def global_pooled(op: Op) -> tuple[Type | None, ...]:
    """Give every spatial axis one element."""
    shape = _shape(op, 0)
    if shape is None or len(shape) < 3:
        return _first(op, _tensor(op, 0, None))
    ones = (1,) * (len(shape) - 2)
    pooled = (shape[0], *ones, shape[-1]) if channels_last(op) else (*shape[:2], *ones)
    return _first(op, _tensor(op, 0, pooled))


def matmul_type(*, dtype: int = 0) -> Infer:
    """Return the rule for A x B, either of which may be transposed; the element type is of input ``dtype``."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        left = _transposed(_shape(op, 0), batch=op.attr("transBatchA", 0), matrix=op.attr("transA", 0))
        right = _transposed(_shape(op, 1), batch=op.attr("transBatchB", 0), matrix=op.attr("transB", 0))
        return _first(op, _tensor(op, dtype, _product(left, right)))

    return infer


def gemm_type(*, right: int = 1, dtype: tuple[int, ...] = (0,)) -> Infer:
    """Return the rule for a Gemm: (M, N), of the type of the first of the inputs ``dtype`` that is given."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        a = _transposed(_shape(op, 0), batch=0, matrix=op.attr("transA", 0))
        b = _transposed(_shape(op, right), batch=0, matrix=op.attr("transB", 0))
        given = next((slot for slot in dtype if op.input(slot) is not None), dtype[-1])
        return _first(op, _tensor(op, given, _product(a, b)))

    return infer


def packed_matmul_type(op: Op) -> tuple[Type | None, ...]:
    """Replace the last axis of the first input by ``N``."""
    shape = _shape(op, 0)
    return _first(op, _tensor(op, 0, None if shape is None else (*shape[:-1], op.attr("N"))))


def attention_type(op: Op) -> tuple[Type | None, ...]:
    """Give a query's positions the value's hidden size; None for packed operands."""
    query, value = _shape(op, 0), _shape(op, 2)
    if query is None or value is None or len(query) != 3 or len(value) != 3:
        return _first(op, None)
    return _first(op, _tensor(op, 0, (*query[:2], value[2])))


def packed_attention_type(*, dtype: int = 0) -> Infer:
    """Return the rule for attention that holds the projections: weights are (in, query + key + value)."""

    def infer(op: Op) -> tuple[Type | None, ...]:
        shape, weights, sizes = _shape(op, 0), _shape(op, 1), op.attr("qkv_hidden_sizes")
        if shape is None or not weights or not isinstance(weights[-1], int):
            return _first(op, None)
        return _first(op, _tensor(op, dtype, (*shape[:2], sizes[2] if sizes else weights[-1] // 3)))

    return infer


def normalized_with_skip(op: Op) -> tuple[Type | None, ...]:
    """Give the first output, and the fourth (input + skip), the type of the input."""
    return tuple(_type(op, 0) if slot in (0, 3) else None for slot in range(len(op.outputs)))


def embedded(op: Op) -> tuple[Type | None, ...]:
    """Give (batch, positions) of the indices the hidden size of the table at slot 2; also to the third output."""
    indices, table = _shape(op, 0), _shape(op, 2)
    shape = None if indices is None or not table else (*indices, table[-1])
    return tuple(_tensor(op, 2, shape) if slot in (0, 2) else None for slot in range(len(op.outputs)))


def quantized(op: Op) -> tuple[Type | None, ...]:
    """Give the shape of the input the element type of the zero point, uint8 if there is none."""
    zero_point = op.input(2)
    if zero_point is None:
        return _first(op, TensorType(DataType.UINT8, _shape(op, 0)))
    return _first(op, _tensor(op, 2, _shape(op, 0)))


def dequantized(op: Op) -> tuple[Type | None, ...]:
    """Give the shape of the input the element type of the scale."""
    return _first(op, _tensor(op, 1, _shape(op, 0)))


def broadcast(a: Shape | None, b: Shape | None) -> Shape | None:
    """Return the shape that ``a`` and ``b`` broadcast to; a size beats a symbol, which must be equal or 1."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return tuple(_broadcast_dim(x, y) for x, y in pairs)


def _broadcast_dim(x: Dim, y: Dim) -> Dim:
    if y in (x, 1):
        return x
    if x == 1:
        return y
    sizes = [dim for dim in (x, y) if isinstance(dim, int)]
    return sizes[0] if len(sizes) == 1 else None


def _product(a: Shape | None, b: Shape | None) -> Shape | None:
    if not a or not b:
        return None
    batch = broadcast(a[:-2], b[:-2])
    rows = a[-2:-1]
    columns = b[-1:] if len(b) > 1 else ()
    return None if batch is None else (*batch, *rows, *columns)


def _transposed(shape: Shape | None, *, batch: int, matrix: int) -> Shape | None:
    """Move the first axis behind the batch axes, then swap the last two, as com.microsoft's FusedMatMul says."""
    if shape is None or len(shape) < 2:
        return shape
    if batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if matrix else shape


def _type(op: Op, slot: int) -> TensorType | None:
    value = op.input(slot)
    return None if value is None else value.tensor_type


def _shape(op: Op, slot: int) -> Shape | None:
    type_ = _type(op, slot)
    return None if type_ is None else type_.shape


def _tensor(op: Op, dtype: int, shape: Sequence[Dim] | None) -> TensorType | None:
    type_ = _type(op, dtype)
    return None if type_ is None else TensorType(type_.dtype, None if shape is None else tuple(shape))


def _first(op: Op, type_: Type | None) -> tuple[Type | None, ...]:
    return (type_, *[None] * (len(op.outputs) - 1))
