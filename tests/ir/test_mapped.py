"""Constants in files: the same bits as in memory, and memory only while somebody reads."""

import gc
import mmap
import tempfile

import numpy as np
import pytest

from nncomp.errors import ResourceError
from nncomp.ir import ArrayTensor, DataType, MappedTensor, Scratch, raw_bytes

ALL = [kind for kind in DataType if kind not in (DataType.UNDEFINED, DataType.STRING)]


def example(dtype, count=33):
    bits = max(dtype.bits, 8)
    data = np.random.default_rng(0).integers(0, 256, count * bits // 8, dtype=np.uint8)
    if dtype.bits < 8:
        data &= (1 << dtype.bits) - 1
        if dtype in (DataType.INT4, DataType.INT2):
            return (data.view(np.int8) - (1 << (dtype.bits - 1))).astype(dtype.numpy())
    return data.view(dtype.numpy()) if dtype is not DataType.BOOL else (data & 1).view(bool)


@pytest.mark.parametrize("dtype", ALL, ids=lambda dtype: dtype.name)
def test_what_is_kept_is_the_same_bit_for_bit(dtype):
    plain = ArrayTensor(example(dtype).reshape(3, 11), dtype)
    kept = Scratch(spill_from=0).keep(plain.numpy(), dtype)
    assert isinstance(kept, MappedTensor)
    assert (kept.dtype, kept.shape, kept.size, kept.nbytes) == (plain.dtype, plain.shape, plain.size, plain.nbytes)
    assert kept.tobytes() == plain.tobytes() == bytes(raw_bytes(kept)) == bytes(raw_bytes(plain))
    assert kept.numpy().tobytes() == plain.numpy().tobytes()
    assert not kept.numpy().flags.writeable


def test_small_arrays_and_strings_stay_in_memory():
    scratch = Scratch(spill_from=64)
    assert isinstance(scratch.keep(np.zeros(8, np.float32)), ArrayTensor)
    assert isinstance(scratch.keep(np.zeros(16, np.float32)), MappedTensor)
    assert isinstance(scratch.keep(np.array([b"x" * 100], object), DataType.STRING), ArrayTensor)


def test_tensors_lie_side_by_side_and_outlive_the_scratch():
    scratch = Scratch(spill_from=0, segment=256)
    arrays = [np.full(n, n, np.int32) for n in (10, 1, 30, 100, 3)]  # some share a segment, one needs a larger one
    tensors = [scratch.keep(array) for array in arrays]
    del scratch
    gc.collect()
    for tensor, array in zip(tensors, arrays, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_views_keep_the_data_alive():
    tensor = Scratch(spill_from=0).keep(np.arange(1000, dtype=np.int32))
    view = tensor.numpy().reshape(10, 100).T[5:]
    del tensor
    gc.collect()
    assert view[0].tolist() == list(range(5, 1000, 100))


def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile"))


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system takes no advice")
def test_pages_are_given_back_when_the_last_view_dies():
    tensor = Scratch().keep(np.ones(1 << 23, np.float32))  # 32 MiB
    before = resident_kib()
    view = tensor.numpy()[1:]
    assert view.sum() == (1 << 23) - 1
    assert resident_kib() - before > 24 << 10
    del view
    assert resident_kib() - before < 8 << 10
    assert tensor.numpy()[-1] == 1


def test_a_full_disk_is_said(monkeypatch):
    def full(**kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ResourceError) as caught:
        Scratch(spill_from=0).keep(np.zeros(8, np.float32))
    assert caught.value.code == "NNC-E001"
    assert str(caught.value) == f"no room for weights in {tempfile.gettempdir()!r}: No space left on device"
    assert caught.value.hint == "TMPDIR names another folder"


def test_arrays_that_do_not_lie_as_onnx_stores_them_are_copied():
    array = np.arange(12, dtype=np.int16).reshape(3, 4).T
    assert bytes(raw_bytes(ArrayTensor(array))) == ArrayTensor(array).tobytes()
    big_endian = np.arange(3, dtype=">i4")
    assert bytes(raw_bytes(ArrayTensor(big_endian, DataType.INT32))) == np.arange(3, dtype="<i4").tobytes()
    assert bytes(raw_bytes(ArrayTensor(np.zeros((0, 3), np.float32)))) == b""
