"""Target ``tvm-cuda``: compiled without a GPU, and looked into; run where there is one."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_tvm.target import TvmCudaTarget

NETWORK = """
g (float[1,3,8,8] x) => (float[1,6] y) <float[4,3,3,3] w, float[4,6] v>
{ c = Conv (x, w) r = Relu (c) p = GlobalAveragePool (r) f = Flatten (p) m = MatMul (f, v) y = Sigmoid (m) }
"""


@pytest.fixture
def compiler():
    if find_spec("cuda") is None:
        pytest.skip("NVRTC is not installed: pip install 'nncomp[tvm-cuda]'")


@pytest.fixture
def gpu():
    from nncomp_tvm.gpu import gpu_at_hand

    if not gpu_at_hand():
        pytest.skip("there is no GPU")


def built(*, opset=18, **options):
    ctx = nncomp.Context()
    return TvmCudaTarget.from_options(options).build(graph(NETWORK, opset=opset), ctx), ctx


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "arch"), [({"arch": "sm_80"}, "sm_80"), ({"arch": "sm_90", "half": True}, "sm_90")]
)
def test_a_library_is_built_without_a_gpu_with_a_kernel_for_each_fused_op(compiler, tmp_path, options, arch):
    artifact, ctx = built(**options)
    files = {path.suffix: path for path in artifact.save(tmp_path)}
    assert list(files) == [".so", ".json", ".ptx", ".cubin"]
    ptx, cubin = files[".ptx"].read_text(), files[".cubin"].read_bytes()
    assert f".target {arch}" in ptx
    assert cubin[:4] == b"\x7fELF"
    kernels = re.findall(r"\.entry (\w+)_kernel", ptx)
    assert sorted(kernel.name for kernel in artifact.compiled) == sorted(kernels)
    assert any("conv2d" in name and "relu" in name for name in kernels)
    assert any("matmul" in name and "sigmoid" in name for name in kernels)
    assert all(name.encode() in cubin for name in kernels)
    halves = [line for line in ptx.splitlines() if ".f16" in line]
    assert bool(halves) == bool(options.get("half"))
    if artifact.unrunnable():
        assert [(note.code, note.reason) for note in ctx.notes] == [
            ("NNC-W063", "the gate could not look: there is no GPU")
        ]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"half": True}])
def test_it_agrees_with_onnx_runtime_on_a_gpu(compiler, gpu, options):
    artifact, _ = built(**options)
    model = graph(NETWORK, opset=18)
    feeds = random_feeds(model, seed=1)
    limit = 1e-2 if options else 1e-4
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=limit, atol=limit / 10)


def test_without_nvrtc_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.building.compiler_missing", lambda: "pip install 'nncomp[tvm-cuda]'")
    with pytest.raises(UnsupportedError) as refusal:
        built()
    assert refusal.value.message == "target 'tvm-cuda' needs NVRTC: pip install 'nncomp[tvm-cuda]'"
    assert refusal.value.code == "NNC-T001"


def test_what_is_listed_and_what_is_checked_say_it_too(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.target.compiler_missing", lambda: "pip install 'nncomp[tvm-cuda]'")
    with pytest.raises(UnsupportedError) as refusal:
        TvmCudaTarget().require()
    assert refusal.value.message == "target 'tvm-cuda' needs apache-tvm and NVRTC: pip install 'nncomp[tvm-cuda]'"
    assert TvmCudaTarget().missing() == "pip install 'nncomp[tvm-cuda]'"
