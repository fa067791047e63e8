"""Target ``tvm-cuda``: compiled without a GPU, and looked into; run where there is one."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

import nncomp
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_tvm.artifact import last_line
from nncomp_tvm.gating import difference
from nncomp_tvm.target import TvmCudaTarget

NETWORK = """
g (float[1,3,8,8] x) => (float[1,6] y) <float[4,3,3,3] w, float[4,6] v>
{ c = Conv (x, w) r = Relu (c) p = GlobalAveragePool (r) f = Flatten (p) m = MatMul (f, v) y = Sigmoid (m) }
"""

QUANTIZED = """
g (float[2,3,9,8] x) => (float[2,6] y, uint8[2,20,5,4] bq)
<float s = {0.05}, uint8 z = {120}, float t = {0.02}, uint8 n = {3}, float u = {0.01},
 int8[20,3,3,3] w, float[20] v, int8[20,1,3,3] d, int8[20,20,1,1] p, int8[20,6] m>
{
  xq = QuantizeLinear (x, s, z)         xr = DequantizeLinear (xq, s, z)
  wr = DequantizeLinear <axis=0> (w, v) c = Conv <pads=[1,1,1,1]> (xr, wr)    r = Relu (c)
  cq = QuantizeLinear (r, t, n)         cr = DequantizeLinear (cq, t, n)
  dr = DequantizeLinear (d, u)          k = Conv <group=20, strides=[2,2], pads=[1,1,1,1]> (cr, dr)
  kq = QuantizeLinear (k, t, z)         kr = DequantizeLinear (kq, t, z)
  pr = DequantizeLinear (p, u)          l = Conv (kr, pr)
  lq = QuantizeLinear (l, s, z)         lr = DequantizeLinear (lq, s, z)
  a = Add (lr, kr)                      b = Relu (a)
  bq = QuantizeLinear (b, t, n)         br = DequantizeLinear (bq, t, n)
  g = GlobalAveragePool (br)            f = Flatten (g)
  fq = QuantizeLinear (f, t, n)         fr = DequantizeLinear (fq, t, n)
  mr = DequantizeLinear (m, u)          y = MatMul (fr, mr)
}
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


def built(text=NETWORK, *, opset=18, **options):
    ctx = nncomp.Context()
    return TvmCudaTarget.from_options(options).build(graph(text, opset=opset), ctx), ctx


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
    if artifact.unrunnable():  # then what each launch computes is known, and no time
        calls = artifact.kernels({})
        assert all(call.latency_us is None for call in calls)
        assert {"r", "y"} <= {name for call in calls for name in call.outputs}
        assert all(kernel["calls"] > 0 for kernel in artifact.report()["kernels"])
    halves = [line for line in ptx.splitlines() if ".f16" in line]
    assert bool(halves) == bool(options.get("half"))
    assert [note.code for note in ctx.notes] == ([] if artifact.emulated or not artifact.unrunnable() else ["NNC-W063"])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_a_quantized_graph_multiplies_bytes(compiler, arch):
    """The gate lets codes be one step from ONNX Runtime's, on the CPU that runs the kernels in a GPU's place, too."""
    artifact, ctx = built(QUANTIZED, arch=arch)
    assert [note.code for note in ctx.notes] == ([] if artifact.emulated or not artifact.unrunnable() else ["NNC-W063"])
    integer = {kernel.ops: kernel.macs for kernel in artifact.compiled if kernel.integer}
    assert integer == {
        ("nn.conv2d", "nn.relu", "quantize"): 2 * 72 * 20 * 27,
        ("nn.conv2d", "quantize"): 2 * 20 * 20 * 9,
        ("nn.conv2d", "quantize", "dequantize", "add", "nn.relu", "quantize"): 2 * 20 * 20 * 20,
        ("mean", "quantize"): 2 * 20 * 20,
        ("matmul",): 2 * 20 * 6,
    }
    others = {kernel.ops or kernel.name for kernel in artifact.compiled if not kernel.integer}
    assert others == {("quantize",), "transpose", "transpose1", "reshape"}
    code = kernels_of(artifact.files["ptx"].decode())
    multiplying = [name for name in code if "conv2d" in name or "matmul" in name]
    assert sum("dp4a.s32.s32" in code[name] for name in multiplying) == 3  # and the depthwise one, which has no fours
    assert len(multiplying) == 4
    assert not any("fma.rn.f32" in code[name] for name in multiplying)


def kernels_of(ptx):
    """Return the assembly of each entry."""
    return dict(re.match(r"(\w+)_kernel\b(.*)", text, re.S).groups() for text in ptx.split(".entry ")[1:])


@pytest.mark.slow
def test_the_report_says_what_a_kernel_needs(compiler):
    artifact, _ = built(QUANTIZED, arch="sm_80")
    needs = {kernel["name"]: kernel["resources"] for kernel in artifact.report()["kernels"]}
    assert all(0 < one["registers"] <= 255 and one["stack_bytes"] == 0 for one in needs.values())
    assert needs["nncomp_conv2d_relu_quantize"]["shared_bytes"] > 0
    assert needs["nncomp_quantize"]["shared_bytes"] == 0


@pytest.mark.gpu
@pytest.mark.slow
def test_a_quantized_graph_is_within_a_step_of_onnx_runtime_on_a_gpu(compiler, gpu):
    artifact, _ = built(QUANTIZED)
    model = graph(QUANTIZED, opset=18)
    feeds = random_feeds(model, seed=1)
    assert difference(model, run(model, feeds), artifact.run(feeds)) == ""


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"half": True}])
def test_it_agrees_with_onnx_runtime_on_a_gpu(compiler, gpu, options):
    artifact, _ = built(**options)
    model = graph(NETWORK, opset=18)
    feeds = random_feeds(model, seed=1)
    limit = 1e-2 if options else 1e-4
    np.testing.assert_allclose(artifact.run(feeds)["y"], run(model, feeds)["y"], rtol=limit, atol=limit / 10)


@pytest.mark.parametrize("arch", ["sm_999", "sm_80a"])
def test_an_architecture_that_nvrtc_does_not_know_is_named(compiler, arch):
    with pytest.raises(RecipeError) as refusal:
        built(arch=arch)
    assert (refusal.value.code, refusal.value.exit_status) == ("NNC-R010", 2)
    with pytest.raises(RecipeError):
        TvmCudaTarget.from_options({"arch": arch}).check(graph(NETWORK, opset=18), nncomp.Context())
    assert refusal.value.message == f"arch: NVRTC knows no architecture {arch!r}"
    assert re.fullmatch(r"one of sm_\d+(, sm_\d+)*", refusal.value.hint)
    assert "sm_80" in refusal.value.hint


def test_what_a_compiler_says_is_told_without_the_end_of_its_text():
    assert last_line(RuntimeError("error: no such flag\n\0")) == "error: no such flag"
    assert last_line(RuntimeError("\0")) == "RuntimeError"


def test_without_nvrtc_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.building.compiler_missing", lambda: "pip install 'nncomp[tvm-cuda]'")
    with pytest.raises(UnsupportedError) as refusal:
        built()
    assert refusal.value.message == "target 'tvm-cuda' needs NVRTC: pip install 'nncomp[tvm-cuda]'"
    assert refusal.value.code == "NNC-T001"


def test_what_nvrtc_refuses_is_said_in_its_words(compiler):
    from nncomp_tvm.nvrtc import compiled

    with pytest.raises(UnsupportedError) as refusal:
        compiled("__global__ void f() { g(); }", "sm_80")
    assert refusal.value.message == 'NVRTC refuses the kernels for sm_80: identifier "g" is undefined'
    assert refusal.value.code == "NNC-T001"
    with pytest.raises(UnsupportedError) as refusal:
        compiled("__global__ void f() {}", "sm_1")
    assert refusal.value.message == "NVRTC refuses the kernels for sm_1: invalid value for --gpu-architecture (-arch)"


def test_what_is_listed_and_what_is_checked_say_it_too(monkeypatch):
    monkeypatch.setattr("nncomp_tvm.target.compiler_missing", lambda: "pip install 'nncomp[tvm-cuda]'")
    with pytest.raises(UnsupportedError) as refusal:
        TvmCudaTarget().require()
    assert refusal.value.message == "target 'tvm-cuda' needs apache-tvm and NVRTC: pip install 'nncomp[tvm-cuda]'"
    assert TvmCudaTarget().missing() == "pip install 'nncomp[tvm-cuda]'"
