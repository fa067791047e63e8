"""Writing is all or nothing: at whichever write the disk fills up, what was there is there, and nothing else."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nncomp.errors import ResourceError
from nncomp.onnx_io import load, save, write_atomically
from nncomp.testing import assert_same_function, graph

OLD = "g (float[1,64] x) => (float[1,64] y) <float[64,64] w> { y = MatMul (x, w) }"
NEW = "g (float[1,64] x) => (float[1,64] y) <float[64,64] v> { a = MatMul (x, v)  y = Relu (a) }"
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """Counts the calls that reach the disk, and fails one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.failing = -1
        fdopen, mkstemp, fsync, replace = os.fdopen, tempfile.mkstemp, os.fsync, Path.replace

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **kwargs: Any) -> Any:
                self.count()
                return call(*args, **kwargs)

            return counting

        def opened(*args: Any, **kwargs: Any) -> Any:
            return Writes(self, fdopen(*args, **kwargs))

        monkeypatch.setattr(os, "fdopen", opened)
        monkeypatch.setattr(os, "fsync", counted(fsync))
        monkeypatch.setattr(tempfile, "mkstemp", counted(mkstemp))
        monkeypatch.setattr(Path, "replace", counted(replace))

    def count(self) -> None:
        if self.calls == self.failing:
            self.failing = -1
            raise FULL
        self.calls += 1


class Writes:
    """A file whose writes are counted."""

    def __init__(self, disk: Disk, file: BinaryIO) -> None:
        self.disk, self.file = disk, file

    def __enter__(self) -> Writes:
        return self

    def __exit__(self, *args: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.disk.count()
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def failures(disk: Disk, attempt: Callable[[], object]) -> Iterator[ResourceError]:
    """Fail at the first call that reaches the disk, then at the second, until an attempt goes through."""
    for number in range(100):
        disk.calls, disk.failing = 0, number
        try:
            attempt()
        except ResourceError as error:
            yield error
        else:
            assert number > 0
            return


@pytest.mark.parametrize("limit", [10**6, 4096], ids=["one file", "with a data file"])
def test_a_full_disk_leaves_an_old_model_as_it_was(tmp_path: Path, disk: Disk, limit: int) -> None:
    path = tmp_path / "model.onnx"
    save(graph(OLD), path, protobuf_limit=limit)
    before = content(tmp_path)
    renames = 0
    for error in failures(disk, lambda: save(graph(NEW), path, protobuf_limit=limit)):
        after = content(tmp_path)
        renames += after != before
        assert error.code == "NNC-E001"
        assert error.exit_status == 6
        assert after.keys() == before.keys()
        assert after == before or error.message.startswith("cannot write"), error.message
    # Two files cannot be moved at once: only a failure between the two moves may leave the new data behind.
    assert renames == (limit == 4096)
    assert_same_function(graph(NEW), load(path), exact=True)


@pytest.mark.parametrize("limit", [10**6, 4096], ids=["one file", "with a data file"])
def test_a_full_disk_leaves_nothing_in_an_empty_folder(tmp_path: Path, disk: Disk, limit: int) -> None:
    path = tmp_path / "model.onnx"
    for error in failures(disk, lambda: save(graph(NEW), path, protobuf_limit=limit)):
        assert "model.onnx" not in content(tmp_path)
        assert not [name for name in content(tmp_path) if name.endswith(".tmp")]
        assert error.message.endswith(": No space left on device")
        (tmp_path / "model.onnx.data").unlink(missing_ok=True)
    assert_same_function(graph(NEW), load(path), exact=True)


def test_the_message_names_the_file_that_could_not_be_written(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "model.onnx"
    disk.failing = 1
    with pytest.raises(ResourceError) as error:
        save(graph(NEW), path, protobuf_limit=4096)
    assert error.value.message == f"cannot write {str(path) + '.data'!r}: No space left on device"
    assert error.value.where.file == f"{path}.data"


def test_whatever_stops_a_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.bin", chunks())
    assert content(tmp_path) == {}


def test_what_is_written_is_readable_as_other_files_are(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "a.bin", [b"ab", b"c"])
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "c.bin", [b"x"])
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"x"


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    path = tmp_path / "a" / "c.bin"
    with pytest.raises(ResourceError) as error:
        write_atomically(path, [b"x"])
    assert error.value.message == f"cannot write {str(path)!r}: File exists"


def test_a_name_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(ResourceError) as error:
        write_atomically(path, [b"x"])
    assert error.value.message == f"cannot write {str(path)!r}: File name too long"
    assert content(tmp_path) == {}
