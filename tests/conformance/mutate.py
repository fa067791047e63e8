"""Mutate small models and load each: run by test_mutation.py in a process of its own, with a limit on memory.

    python tests/conformance/mutate.py COUNT SEED FOLDER

Prints JSON: how many were tried, loaded and refused, and every other end. FOLDER/current.onnx is the mutation at hand,
so that a crash leaves what caused it.
"""

import json
import random
import resource
import signal
import sys
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor

from nncomp.errors import NncompError
from nncomp.infer import infer_types
from nncomp.onnx_io import from_bytes, to_bytes
from nncomp.testing import graph
from nncomp.testing.corpus import backend_cases
from nncomp.text import print_graph
from nncomp.verify import verify

MORE_MEMORY = 1 << 30
SECONDS_OF_CPU = 5
LARGEST = 20_000  # bytes of a model
NUMBERS = (0, 1, -1, 2, 7, 127, 128, 2**31 - 1, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1)
TEXTS = (
    "g (float[2,4] x) => (float[2,3] y) <float[4,3] w, float[3] b> { a = MatMul (x, w) y = Add (a, b) }",
    "g (float[1,2,4,4] x) => (y) <float[2,2,3,3] w> { c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu (c) }",
    "g (string[2] s) => (string[2] t) <string[2] c> { t = Identity (s) }",
    "g (float[4] x, bool c) => (float[4] y) { y = If (c) <then_branch = a () => (float[4] u) { u = Relu (x) },"
    " else_branch = b () => (float[4] v) { v = Neg (x) }> }",
    "g (float[4] x) => (float[4] y) <float s, uint8 z> { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }",
)


def models():
    """Return about 30 small models as bytes, with functions, bodies, sparse and packed tensors among them."""
    found = [case.model.SerializeToString() for case in backend_cases("pytorch-operator", "simple")]
    found = [data for data in found if len(data) < LARGEST][:24] + [to_bytes(graph(text)) for text in TEXTS]
    model = onnx.ModelProto.FromString(found[-1])
    model.functions.add(name="f", domain="my", input=["a"], output=["b"]).node.add(
        op_type="Relu", input=["a"], output=["b"]
    )
    sparse = model.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.np.ones(1, "float32"), "sp"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.np.ones(1, "int64"), "ind"))
    model.graph.initializer.add(name="i4", dims=[3], data_type=22, raw_data=b"12")
    return [*found, model.SerializeToString()]


def bytes_changed(data, others, rng):
    """Flip, cut, repeat, insert, splice, or write a huge length."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 64)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 64)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                data[at : at + 32] = other[start : start + 32]
            case _:
                data[at : at + 1] = b"\xff" * rng.randrange(1, 9) + b"\x07"
        data = data or bytearray(b"\x08")
    return bytes(data)


def fields_changed(data, rng):
    """Set, clear, double or drop fields of the message, at any depth."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        message = model
        while True:
            inner = [
                (field, value) for field, value in message.ListFields() if field.type == FieldDescriptor.TYPE_MESSAGE
            ]
            if not inner or rng.random() < 0.25:
                break
            value = rng.choice(inner)[1]
            repeated = hasattr(value, "append") or hasattr(value, "add")
            if repeated and rng.random() < 0.2:
                change_list(value, rng)
                break
            message = rng.choice(list(value)) if repeated else value
        else:
            continue
        change_field(message, rng)
    return model.SerializeToString()


def change_list(values, rng):
    kept = list(values)
    match rng.randrange(3):
        case 0:
            kept.append(rng.choice(kept))
        case 1:
            del kept[rng.randrange(len(kept))]
        case _:
            rng.shuffle(kept)
    copies = [type(item).FromString(item.SerializeToString()) for item in kept]
    del values[:]
    values.extend(copies)


def change_field(message, rng):
    field = rng.choice(message.DESCRIPTOR.fields)
    if rng.random() < 0.3:
        message.ClearField(field.name)
        return
    numbers = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63, FieldDescriptor.TYPE_UINT64: 64}
    if field.type in numbers:
        limit = 2 ** numbers[field.type]
        value = rng.choice([n for n in NUMBERS if (0 if field.type == 4 else -limit) <= n < limit])
    elif field.type == FieldDescriptor.TYPE_ENUM:
        value = rng.choice(list(field.enum_type.values_by_number))
    elif field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        value = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    elif field.type == FieldDescriptor.TYPE_STRING:
        value = rng.choice(("", "x", "y", "../x", "\0", "a" * 1000, "com.acme", "\u202e"))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        value = rng.randbytes(rng.choice((0, 1, 3, 16)))
    else:
        getattr(message, field.name)
        return
    current = getattr(message, field.name)
    if hasattr(current, "append"):
        current.append(value)
    else:
        setattr(message, field.name, value)


def load(data):
    """Do what the compiler does with a file before any pass; return whether it is a valid model."""
    try:
        found = from_bytes(data)
        verify(found)
        infer_types(found)
    except NncompError:
        return False
    print_graph(found)
    again = from_bytes(to_bytes(found))
    return bool(again.values() or True)


def too_long(number, frame):
    raise TimeoutError(f"more than {SECONDS_OF_CPU} s of CPU")


def main(count, seed, folder):
    rng = random.Random(seed)
    originals = models()
    signal.signal(signal.SIGVTALRM, too_long)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    loaded, failures = 0, []
    for number in range(count):
        original = rng.choice(originals)
        data = bytes_changed(original, originals, rng) if number % 2 else fields_changed(original, rng)
        (Path(folder) / "current.onnx").write_bytes(data)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_OF_CPU)
        try:
            loaded += load(data)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the finding
            failures.append(f"{number}: {type(error).__name__}: {str(error)[:200]}")
            (Path(folder) / f"failure-{number}.onnx").write_bytes(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps({"models": len(originals), "tried": count, "loaded": loaded, "failures": failures}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
