"""Where results go: all or nothing, and never over what is not ours."""

import os
from pathlib import Path

import pytest

from nncomp.compiler import (
    CompileRequest,
    compile_model,
    model_files,
)
from nncomp.errors import (
    GateError,
    ResourceError,
    UsageError,
)
from nncomp.onnx_io import load, save
from nncomp.testing import graph


def compiled(registry, model, **request):
    return compile_model(CompileRequest(model=model, **{"target": "acme", **request}), registry)


def files_in(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ------------------------------------------------------------------ where results go


def refused(registry, model, out, **request):
    with pytest.raises(UsageError) as caught:
        compiled(registry, model, out=out, **request)
    assert (caught.value.code, caught.value.exit_status) == ("NNC-R020", 2)
    return caught.value.message


@pytest.mark.row(101)
def test_the_input_is_never_overwritten_however_it_is_named(registry, model, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "model.onnx"
    model.rename(path)
    before = path.read_bytes()
    assert refused(registry, path, folder, force=True) == f"output {str(path)!r} is the input model"
    link, hard = tmp_path / "link.onnx", tmp_path / "hard.onnx"
    link.symlink_to(path)
    os.link(path, hard)
    for name in (link, hard):
        assert refused(registry, name, folder, force=True) == f"output {str(path)!r} is the input model"
    assert path.read_bytes() == before


@pytest.mark.row(24, 101)
def test_external_data_of_the_input_is_never_overwritten(registry, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    net = graph("g (float[1,512] x) => (float[1,3] y) <float[512,3] w> { y = MatMul (x, w) }")
    save(net, folder / "model.onnx", protobuf_limit=100)
    assert model_files(folder / "model.onnx") == [folder / "model.onnx", folder / "model.onnx.data"]
    (folder / "model.onnx").rename(folder / "net.onnx")
    refused_message = refused(registry, folder / "net.onnx", folder, force=True)
    assert refused_message == f"output {str(folder / 'model.onnx.data')!r} is the input model"


@pytest.mark.row(24)
def test_foreign_files_stay_and_foreign_models_are_not_replaced_without_force(registry, model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"precious")
    (out / "notes.txt").write_text("mine")
    message = refused(registry, model, out)
    assert message == f"output {str(out / 'model.onnx')!r} exists, and no compilation wrote it"
    assert (out / "model.onnx").read_bytes() == b"precious"
    compiled(registry, model, out=out, force=True)
    assert load(out / "model.onnx")
    assert (out / "notes.txt").read_text() == "mine"
    compiled(registry, model, out=out)  # now it is ours


def test_a_file_where_a_folder_should_be_is_refused(registry, model, tmp_path):
    (tmp_path / "out").write_text("")
    assert refused(registry, model, tmp_path / "out").endswith("is a file, expected a folder")
    assert refused(registry, model, tmp_path / "new.onnx").endswith("looks like a file, expected a folder")


@pytest.mark.row(95)
def test_a_disk_that_refuses_any_write_leaves_nothing_behind(registry, model, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    out = tmp_path / "out"
    compiled(registry, model, out=out)
    before = {path: (out / path).read_bytes() for path in files_in(out)}
    write = files._write_chunks
    for failing in range(10):
        count = iter(range(100))

        def refuse(file, chunks, *, count=count, failing=failing):
            if next(count) == failing:
                raise OSError(28, "No space left on device")
            write(file, chunks)

        monkeypatch.setattr(files, "_write_chunks", refuse)
        try:
            compiled(registry, model, out=out, passes=("blur{amount=0.5}",))
            break
        except ResourceError as error:
            assert (error.code, error.exit_status) == ("NNC-E001", 6)
        assert {path: (out / path).read_bytes() for path in files_in(out)} == before
        assert files_in(tmp_path) == ["net.onnx", "out", *(f"out/{name}" for name in before)]
    else:
        pytest.fail("no run got through")
    assert failing == 4  # model, report, page, lock


def test_a_failed_first_run_does_not_leave_folders(registry, model, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    def refuse(file, chunks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_chunks", refuse)
    with pytest.raises(ResourceError, match="No space left on device"):
        compiled(registry, model, out=tmp_path / "deep" / "er" / "out")
    assert files_in(tmp_path) == ["net.onnx"]


def test_the_folder_that_we_are_in_may_be_the_output(registry, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compiled(registry, Path("net.onnx"), out=Path("."))
    assert result.files[0] == Path("model.onnx")
    with pytest.raises(GateError):
        compiled(registry, Path("net.onnx"), out=Path("."), passes=("liar",))
    assert (tmp_path.parent / f"{tmp_path.name}.repro" / "before.onnx").exists()
