"""Rows 79 to 86 of the catalogue of bad inputs: array files."""

import os
import pickle
import tracemalloc
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.data import FolderSource, ImageSource, NpzSource, open_data
from nncomp.data.npy import MAX_READ, amount
from nncomp.errors import DataError
from nncomp.ir import DataType, Graph, TensorType

MIB = 1 << 20


def npy(shape, dtype="<f4", *, body=b"", order="False", version=b"\x01\x00"):
    """Return an .npy whose header says what it is told to."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}\n".encode()
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header + body


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def zeros_zipped(path, shape, name="x"):
    """Write an array of float32 zeros, deflated, a MiB at a time."""
    total = int(np.prod(shape)) * 4
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        member.write(npy(shape))
        for start in range(0, total, MIB):
            member.write(bytes(min(MIB, total - start)))
    return path


@contextmanager
def peak_below(limit):
    """Fail when Python and numpy allocate more than ``limit`` bytes inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def objects(path):
    np.savez(path, x=np.array([{}, None], object))
    return path


def written(path, data):
    path.write_bytes(data)
    return path


def file_in(folder):
    return folder / "data.npz"


HINT_SAVEZ = "write it with numpy.savez(path, x=array)"
OBJECTS = "array 'x' holds Python objects (a pickle), which are never loaded"
HINT_OBJECTS = "save plain numbers: numpy.savez(path, x=x.astype('float32'))"

ONE_INPUT = [
    # row, what is written, code, message behind the file's name, hint
    (79, objects, "NNC-D001", f" {OBJECTS}", HINT_OBJECTS),
    (80, lambda p: written(p, b"hello,\nworld\n"), "NNC-D001", " is not an .npz or .npy file, but text", HINT_SAVEZ),
    (80, lambda p: written(p, b""), "NNC-D001", " is not an .npz or .npy file, but empty", HINT_SAVEZ),
    (
        80,
        lambda p: written(p, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        "NNC-D001",
        " is not an .npz or .npy file, but a Git LFS pointer: run `git lfs pull`",
        HINT_SAVEZ,
    ),
    (
        80,
        lambda p: written(p, pickle.dumps([1])),
        "NNC-D001",
        " is not an .npz or .npy file, but a Python pickle, which is never loaded",
        HINT_SAVEZ,
    ),
    (
        80,
        lambda p: written(p, b"\x89PNG\r\n\x1a\n"),
        "NNC-D001",
        " is not an .npz or .npy file, but something else",
        HINT_SAVEZ,
    ),
    (
        80,
        lambda p: written(p, b"PK\x03\x04 and so on"),
        "NNC-D001",
        " is a damaged archive: File is not a zip file",
        HINT_SAVEZ,
    ),
    (80, lambda p: zipped(p, x=b"no header"), "NNC-D001", " array 'x' has no readable .npy header", ""),
    (80, lambda p: zipped(p, x=npy((-1, 3))), "NNC-D001", " array 'x' has an impossible type or shape", ""),
    (80, lambda p: zipped(p, x=npy((1 << 70,))), "NNC-D001", " array 'x' has an impossible type or shape", ""),
    (80, lambda p: zipped(p, x=npy((1,) * 65)), "NNC-D001", " array 'x' has an impossible type or shape", ""),
    (
        82,
        lambda p: zipped(p, x=npy((1 << 39, 8))),
        "NNC-D002",
        " array 'x' claims 16.0 TiB (float[549755813888,8]), but holds 0 bytes",
        "",
    ),
    (
        82,
        lambda p: written(p, npy((2, 8), body=b"1234")),
        "NNC-D002",
        " array 'array' claims 64 bytes (float[2,8]), but holds 4 bytes",
        "",
    ),
    (
        82,
        lambda p: zipped(p, x=npy((2, 8), body=bytes(1000))),
        "NNC-D002",
        " array 'x' claims 64 bytes (float[2,8]), but holds 1000 bytes",
        "",
    ),
    (
        83,
        lambda p: zipped(p, **{"x": npy((1, 8), body=bytes(32)), "../../evil": npy((1, 8), body=bytes(32))}),
        "NNC-D003",
        ": '../../evil' is no input of the model",
        "input       expected    found\nx           float[N,8]  float[1,8]\n../../evil  nothing     float[1,8]",
    ),
    (
        84,
        lambda p: zipped(p, x=npy((2, 9), body=bytes(72))),
        "NNC-D003",
        ": input 'x': expected float[N,8], got float[2,9]",
        "input  expected    found\nx      float[N,8]  float[2,9]",
    ),
    (
        84,
        lambda p: zipped(p, x=npy((2, 8), "<i4", body=bytes(64))),
        "NNC-D003",
        ": input 'x': expected float[N,8], got int32[2,8]",
        "convert integers to float32, as in training\ninput  expected    found\nx      float[N,8]  int32[2,8]",
    ),
    (
        84,
        lambda p: zipped(p, x=npy((2, 8), "|u1", body=bytes(16))),
        "NNC-D003",
        ": input 'x': expected float[N,8], got uint8[2,8]",
        "are these images? then say how they become numbers, as in --preprocess unit\n"
        "input  expected    found\nx      float[N,8]  uint8[2,8]",
    ),
    (
        84,
        lambda p: zipped(p, x=npy((2, 8), "<U2", body=bytes(128))),
        "NNC-D003",
        ": input 'x': expected float[N,8], got string[2,8]",
        "input  expected    found\nx      float[N,8]  string[2,8]",
    ),
    (85, lambda p: zipped(p, x=npy((0, 8))), "NNC-D004", ": 'x' holds no samples: float[0,8]", ""),
    (
        85,
        lambda p: zipped(p, x=npy((1 << 60, 0))),
        "NNC-D003",
        ": input 'x': expected float[N,8], got float[1152921504606846976,0]",
        None,
    ),
    (
        85,
        lambda p: zipped(p, y=npy((3,), body=bytes(12))),
        "NNC-D004",
        " holds no calibration samples, only 'y'",
        "name the array as the model's input, or x_calibration",
    ),
    (
        85,
        zipped,
        "NNC-D004",
        " holds no calibration samples, only nothing",
        "name the array as the model's input, or x_calibration",
    ),
    (
        85,
        lambda p: zipped(p, x_evaluation=npy((1, 8), body=bytes(32))),
        "NNC-D004",
        " holds no calibration samples, only 'x_evaluation'",
        "name the array as the model's input, or x_calibration",
    ),
]


def _row(value):
    return f"row{value}" if isinstance(value, int) else ""


@pytest.mark.row(79, 80, 81, 82, 83, 85)
@pytest.mark.parametrize(("row", "write", "code", "message", "hint"), ONE_INPUT, ids=_row)
def test_a_bad_file_is_refused_before_the_first_sample(tmp_path, model, row, write, code, message, hint):
    path = file_in(tmp_path)
    write(path)
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert caught.value.code == code
    assert caught.value.message == f"data {str(path)!r}{message}"
    assert caught.value.where.file == str(path)
    assert caught.value.exit_status == 2
    if hint is not None:
        assert caught.value.hint == hint
    assert os.listdir(tmp_path) == [path.name]


TWO_INPUTS = [
    (
        {"ids": (4, 8), "mask": (5, 8)},
        ": inputs have different numbers of samples: 4 of 'ids', 5 of 'mask'",
        "stack the samples of every input along its first axis",
    ),
    (
        {"ids": (4, 8)},
        ": input 'mask' is missing",
        "input  expected    found\nids    int64[N,L]  int64[4,8]\nmask   int64[N,L]  missing",
    ),
    (
        {"ids": (4, 8), "attention_mask": (4, 8)},
        ": input 'mask' is missing (and 1 more)",
        "rename 'attention_mask' to 'mask'\n"
        "input           expected    found\n"
        "ids             int64[N,L]  int64[4,8]\n"
        "mask            int64[N,L]  missing\n"
        "attention_mask  nothing     int64[4,8]",
    ),
    (
        {"ids": (4, 8), "mask": (4, 8), "a\n\u202eb": (4, 8)},
        r": 'a\n\u202eb' is no input of the model",
        "input         expected    found\n"
        "ids           int64[N,L]  int64[4,8]\n"
        "mask          int64[N,L]  int64[4,8]\n"
        r"'a\n\u202eb'  nothing     int64[4,8]",
    ),
    (
        {"ids": (4, 2, 8, 1), "mask": (4,)},
        ": input 'ids': expected int64[N,L], got int64[4,2,8,1]",
        "input  expected    found\nids    int64[N,L]  int64[4,2,8,1]\nmask   int64[N,L]  int64[4]",
    ),
]


@pytest.mark.row(84)
@pytest.mark.parametrize(("shapes", "message", "hint"), TWO_INPUTS)
def test_row_84_a_table_says_what_does_not_fit(tmp_path, model, shapes, message, hint):
    path = file_in(tmp_path)
    np.savez(path, **{name: np.zeros(shape, np.int64) for name, shape in shapes.items()})
    with pytest.raises(DataError) as caught:
        NpzSource(path, model(ids="INT64 N L", mask="INT64 N L"))
    assert (caught.value.code, caught.value.message) == ("NNC-D003", f"data {str(path)!r}{message}")
    assert caught.value.hint == hint


@pytest.mark.row(80)
def test_row_80_one_name_twice_is_refused(tmp_path, model):
    path = file_in(tmp_path)
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", npy((1, 8), body=bytes(32)))
        archive.writestr("x.npy", npy((1, 8), body=bytes(32)))
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert (caught.value.code, caught.value.message) == ("NNC-D001", f"data {str(path)!r} holds two arrays 'x'")


@pytest.mark.row(81)
def test_row_81_a_sample_of_more_than_one_gib_is_refused_by_its_header(tmp_path, model):
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:  # a sparse file: it takes no room
        head = npy((2, (MAX_READ + 4) // 4))
        file.write(head)
        file.truncate(len(head) + 2 * (MAX_READ + 4))
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N L"))
    assert (
        caught.value.message
        == f"data {str(path)!r} array 'array' has samples that must be read 1.0 GiB at once, at most 1.0 GiB are"
    )
    assert caught.value.code == "NNC-D002"


@pytest.mark.row(81)
def test_row_81_an_array_by_columns_counts_as_one_sample(tmp_path, model):
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        head = npy((MAX_READ // 16, 8), order="True")
        file.write(head)
        file.truncate(len(head) + MAX_READ * 2)
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert caught.value.message == (
        f"data {str(path)!r} array 'array' is stored by columns (Fortran order) and must be read 2.0 GiB at once, "
        "at most 1.0 GiB are"
    )


@pytest.mark.row(81)
def test_row_81_a_bomb_of_another_shape_is_not_read(tmp_path, model):
    path = zeros_zipped(file_in(tmp_path), (256 * MIB // 4,))
    with peak_below(MIB), pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT 1 3 8 8"))
    assert caught.value.code == "NNC-D003"


@pytest.mark.row(81)
def test_row_81_many_samples_take_the_memory_of_one(tmp_path, model):
    path = zeros_zipped(file_in(tmp_path), (256, 1 << 16))  # 256 KiB a sample, 64 MiB in all
    source = open_data(str(path), model(x="FLOAT N 65536"))
    with peak_below(3 * MIB):
        count = sum(1 for _ in source)
    assert count == 256


@pytest.mark.row(81)
def test_row_81_a_long_header_is_not_read(tmp_path, model):
    path = file_in(tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + (64 * MIB).to_bytes(4, "little"))
        for _ in range(64):
            member.write(b" " * MIB)
    with peak_below(MIB), pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert caught.value.message == f"data {str(path)!r} array 'x' has no readable .npy header"


def test_a_damaged_member_names_the_array(tmp_path, model, error_of):
    path = file_in(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.random((64, 8), np.float32))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    error = error_of(lambda: open_data(str(path), model(x="FLOAT N 8")))
    assert error.code == "NNC-D001"
    assert error.message == f"data {str(path)!r} array 'x' cannot be read: Bad CRC-32 for file 'x.npy'"


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, model):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1 << 12, 8), np.float32))
    stream = iter(open_data(str(path), model(x="FLOAT N 8")))
    next(stream)
    os.truncate(path, 1 << 14)
    with pytest.raises(DataError) as caught:
        list(stream)
    assert caught.value.code == "NNC-D001"
    assert caught.value.message.startswith(f"data {str(path)!r} array 'array' cannot be read: ")
    assert caught.value.message.endswith(" bytes are missing")


def test_an_encrypted_member_is_refused(tmp_path, model):
    path = file_in(tmp_path)
    zipped(path, x=npy((1, 8), body=bytes(32)))
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert caught.value.code == "NNC-D001"
    assert "is encrypted, password required" in caught.value.message


def test_only_regular_files_are_opened(tmp_path, model):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    with pytest.raises(DataError) as caught:
        open_data(str(path), model(x="FLOAT N 8"))
    assert (caught.value.code, caught.value.message) == ("NNC-D001", f"data {str(path)!r} is not a regular file")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_mutation_of_a_file_is_anything_but_a_data_error(tmp_path_factory, data):
    graph = Graph("g")
    graph.set_outputs([graph.add_input("x", TensorType(DataType.FLOAT, ("N", "C")))])
    path = tmp_path_factory.mktemp("fuzz") / "x.bin"
    if data.draw(st.booleans()):
        path.write_bytes(npy((3, 4), body=bytes(48)))
    else:
        zipped(path, x=npy((3, 4), body=bytes(48)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        for feeds in open_data(Path(path), graph):
            assert feeds["x"].dtype == np.float32
    except DataError:
        pass


@given(st.binary(max_size=200), st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
@settings(max_examples=150, deadline=None)
def test_no_header_is_anything_but_a_data_error(tmp_path_factory, header, version):
    graph = Graph("g")
    graph.set_outputs([graph.add_input("x", TensorType(DataType.FLOAT, ("N", "C")))])
    path = tmp_path_factory.mktemp("fuzz") / "x.npy"
    width = 2 if version[0] == 1 else 4
    path.write_bytes(b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header)
    with pytest.raises(DataError):
        list(open_data(path, graph))


@given(
    st.one_of(
        st.text(max_size=12),
        st.integers(),
        st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["<f4", "O", "<U3"]))),
        st.sampled_from(
            ["<f4", ">f8", "|b1", "<M8[s]", "<c8", "|V0", "<S0", "|O", "f4,f4", "(2,)f4", "<V99999999999", "a"]
        ),
    ),
    st.tuples(st.integers(-2, 1 << 70), st.integers(-2, 5)),
)
@settings(max_examples=200, deadline=None)
def test_no_claim_in_a_header_is_anything_but_a_data_error(tmp_path_factory, dtype, shape):
    graph = Graph("g")
    graph.set_outputs([graph.add_input("x", TensorType(DataType.FLOAT, ("N", "C")))])
    path = tmp_path_factory.mktemp("fuzz") / "x.npy"
    path.write_bytes(npy(shape, dtype))
    with pytest.raises(DataError):
        list(open_data(path, graph))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 << 39, "1.5 TiB"), (1 << 80, "more than 1024 EiB")],
)
def test_amounts_are_readable(nbytes, text):
    assert amount(nbytes) == text


def test_a_file_that_goes_away_is_named(tmp_path, model):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 8), np.float32))
    source = open_data(path, model(x="FLOAT N 8"))
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError) as caught:
        list(source)
    assert (
        caught.value.message == f"data {str(path)!r} array 'array' cannot be read: the file changed while it was read"
    )
    path.unlink()
    with pytest.raises(DataError) as caught:
        source.fingerprint()
    assert caught.value.message == f"data {str(path)!r} cannot be read: No such file or directory"


@pytest.mark.parametrize("kind", [NpzSource, FolderSource, ImageSource])
def test_a_path_without_anything_is_named(tmp_path, model, kind):
    path = tmp_path / "nothing"
    with pytest.raises(DataError) as caught:
        kind(path, model(x="FLOAT N 3 8 8"))
    verb = "opened" if kind is NpzSource else "read"
    expected = f"data {str(path)!r} cannot be {verb}: No such file or directory"
    assert (caught.value.code, caught.value.message) == ("NNC-D004", expected)
