"""CUDA source, run by the CPU: what it computes, what it says of kernels that are wrong, and the gate that uses it."""

import ctypes

import numpy as np
import pytest

import nncomp
from nncomp.errors import GateError
from nncomp.testing import graph
from nncomp_tvm.target import TvmCudaTarget

NETWORK = """
g (float[1,3,8,8] x) => (float[1,6] y) <float[4,3,3,3] w, float[4,6] v>
{ c = Conv (x, w) r = Relu (c) p = GlobalAveragePool (r) f = Flatten (p) m = MatMul (f, v) y = Sigmoid (m) }
"""

KERNELS = r"""
#include <cuda_fp16.h>
extern "C" __global__ void __launch_bounds__(64) reversed_kernel(float* __restrict__ out, const float* __restrict__ x) {
  __shared__ alignas(64) float kept[64];
  int i = (int)threadIdx.x, at = (int)blockIdx.x * 64;
  kept[i] = x[at + i];
  __syncthreads();
  out[at + i] = kept[63 - i];
}
extern "C" __global__ void racing_kernel(float* __restrict__ out, const float* __restrict__ x) {
  __shared__ float kept[64];
  int i = (int)threadIdx.x, at = (int)blockIdx.x * 64;
  kept[i] = x[at + i];
  out[at + i] = kept[63 - i];
}
extern "C" __global__ void summed_kernel(float* __restrict__ out, const float* __restrict__ x) {
  float sum = x[threadIdx.x];
  unsigned mask = __activemask();
  for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(mask, sum, by, 32);
  sum = __shfl_sync(mask, sum, 0, 32);
  out[threadIdx.x] = sum + (float)__popc(__ballot_sync(mask, x[threadIdx.x] > 0));
}
extern "C" __global__ void divergent_kernel(float* __restrict__ out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  }
  out[threadIdx.x] = 0;
}
extern "C" __global__ void absent_kernel(float* __restrict__ out) {
  if (threadIdx.x < 8) out[threadIdx.x] = __shfl_xor_sync(0xffffffff, out[threadIdx.x], 1);
}
extern "C" __global__ void astray_kernel(float* __restrict__ out, int far) { out[(long long)far << 40] = 1; }
extern "C" __global__ void bytes_kernel(int* __restrict__ out, const int* __restrict__ x) {
  out[0] = __dp4a(x[0], x[1], 7);
  out[1] = (int)__dp4a((unsigned)x[0], (unsigned)x[1], 7u);
  char4 a = *(char4*)x;
  out[2] = __dp4a(a, a, 0) + (a.x + a.y);
}
extern "C" __global__ void halves_kernel(half* __restrict__ out, const float* __restrict__ x) {
  half2 two = make_half2((half)x[0], __float2half_rn(x[1]));
  half2 both = two * two;
  out[0] = both.x + both.y;
  out[1] = __hgt(two.x, two.y) ? two.x : two.y;
}
"""
LAUNCHES = ["blockIdx.x", "threadIdx.x"]


@pytest.fixture(scope="module")
def kernels():
    from nncomp_tvm.emulation.compiling import compiled, compiler

    if not compiler():
        pytest.skip("there is no g++ or clang++")
    names = ["reversed", "racing", "summed", "divergent", "absent", "astray", "bytes", "halves"]
    module = compiled(KERNELS, {f"{name}_kernel": LAUNCHES for name in names}, "sm_80")

    def launch(name, *arguments, blocks=1, threads=64):
        given = [ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else one for one in arguments]
        module[f"{name}_kernel"](*given, blocks, threads)

    return launch


def test_threads_of_a_block_share_memory_and_wait_for_each_other(kernels):
    x, out = np.arange(192, dtype=np.float32), np.zeros(192, np.float32)
    kernels("reversed", out, x, blocks=3)
    np.testing.assert_array_equal(out, x.reshape(3, 64)[:, ::-1].ravel())


def test_a_missing_barrier_shows(kernels):
    x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    kernels("racing", out, x)
    assert np.isnan(out).sum() == 32  # what half of the threads read, the other half had yet to write


def test_lanes_of_a_warp_exchange_values(kernels):
    x, out = np.arange(-40, 24, dtype=np.float32), np.zeros(64, np.float32)
    kernels("summed", out, x)
    halves = x.reshape(2, 32)
    expected = halves.sum(axis=1) + (halves > 0).sum(axis=1)
    np.testing.assert_array_equal(out, np.repeat(expected, 32))


def test_bytes_and_halves_are_computed_as_a_gpu_does(kernels):
    x = np.array([[-1, 2, -128, 127], [3, -4, 5, 6]], np.int8)
    out = np.zeros(3, np.int32)
    kernels("bytes", out, x, threads=1)
    a, b = x.astype(np.int32)
    u, v = x.view(np.uint8).astype(np.int32)
    assert out.tolist() == [a @ b + 7, u @ v + 7, a @ a + a[0] + a[1]]
    halves, floats = np.zeros(2, np.float16), np.array([1.0009765625, 3.1], np.float32)
    kernels("halves", halves, floats, threads=1)
    one, other = floats.astype(np.float16)
    assert halves.tolist() == [one * one + other * other, max(one, other)]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("divergent", (np.zeros(64, np.float32),), "24 of 64 threads of a block never reach the barrier at line 25"),
        ("absent", (np.zeros(64, np.float32),), "a warp function at line 30 waits for lanes that do not call it"),
        (
            "astray",
            (np.zeros(64, np.float32), 1 << 20),
            "an address outside of all memory in thread (0, 0, 0) of block (0, 0, 0)",
        ),
    ],
)
def test_what_a_gpu_does_wrong_in_silence_is_an_error(kernels, name, arguments, message):
    with pytest.raises(RuntimeError) as error:
        kernels(name, *arguments)
    assert str(error.value) == f"kernel {name}_kernel: {message}"
    out = np.zeros(64, np.float32)
    kernels("reversed", out, np.ones(64, np.float32))  # and the next run is as if nothing had been
    assert out.tolist() == [1] * 64


@pytest.fixture
def built(monkeypatch):
    """Build the network without NVRTC, whose work no emulation looks at; return the artifact and the context."""
    from nncomp_tvm import building
    from nncomp_tvm.gpu import GpuBuild, gpu_at_hand

    if gpu_at_hand():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(building, "compiler_missing", lambda: "")
    monkeypatch.setattr(building, "build_gpu", lambda code: GpuBuild(code, b"", b"", ()))

    def build(text=NETWORK, *, reproducer=None, data=None, opset=18, **options):
        ctx = nncomp.Context(reproducer=reproducer, data=data)
        return TvmCudaTarget.from_options(options).build(graph(text, opset=opset), ctx), ctx

    return build


@pytest.fixture
def changed(monkeypatch):
    """Return what changes the CUDA source behind TVM's back."""
    from dataclasses import replace

    from nncomp_tvm import building

    def change(old, new):
        written = building.code_for_gpu

        def miswritten(*args, **named):
            code = written(*args, **named)
            return replace(code, source=code.source.replace(old, new))

        monkeypatch.setattr(building, "code_for_gpu", miswritten)

    return change


@pytest.mark.parametrize("options", [{}, {"half": True, "arch": "sm_90"}])
def test_the_gate_runs_the_kernels_on_the_cpu(kernels, built, options):
    artifact, ctx = built(**options)
    assert ctx.notes == []
    assert artifact.report()["emulated_samples"] == 1
    assert artifact.unrunnable() == "there is no GPU; emulated on the CPU, it agrees with ONNX Runtime on 1 sample"


def test_in_half_a_clip_and_a_short_sum_lower(kernels, built):
    text = """
    g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[4,1,3,3] w, float low = {0}, float high = {0.5}>
    { c = Conv <group=4, pads=[1,1,1,1]> (x, w) y = Clip (c, low, high) }
    """
    artifact, ctx = built(text, half=True)
    assert (artifact.emulated, ctx.notes) == (1, [])


def test_a_sum_of_one_number_lowers(kernels, built):
    text = "g (float[4,1] a, float[1,5] b) => (float[4,5] y) { y = MatMul (a, b) }"
    artifact, ctx = built(text)
    assert (artifact.emulated, ctx.notes) == (1, [])


@pytest.mark.parametrize("op", ["ReduceMax <axes=[1], keepdims=0>", "ReduceMin <axes=[1], keepdims=0>"])
def test_a_maximum_over_nothing_but_minus_infinity_is_that(kernels, built, op):
    x = np.array([[-np.inf] * 3, [np.inf] * 3, [np.nan, 1, 2], [1, -np.inf, np.inf]], np.float32)
    artifact, ctx = built(f"g (float[4,3] x) => (float[4] y) {{ y = {op} (x) }}", data=[{"x": x}], opset=13)
    assert (artifact.emulated, ctx.notes) == (1, [])


def test_a_kernel_that_computes_something_else_is_refused_with_the_smallest_piece(kernels, built, changed, tmp_path):
    changed("+ 127) << 23", "+ 128) << 23")  # the exponent, in Exp
    text = "g (float[2,3] x) => (float[2,3] y) { a = Abs (x) b = Exp (a) y = Neg (b) }"
    with pytest.raises(GateError) as refusal:
        built(text, reproducer=tmp_path / "o.repro")
    assert refusal.value.message.startswith("the compiled model is wrong: output 'y' is ")
    assert refusal.value.hint.startswith("1 op still does; replay: nncomp compile ")


def test_a_kernel_without_its_barriers_is_refused(kernels, built, changed):
    changed("__syncthreads();", "")
    with pytest.raises(GateError) as refusal:
        built()
    assert refusal.value.message.startswith("the compiled model is wrong: output 'y' is ")


def test_a_barrier_that_some_threads_miss_is_refused(kernels, built, changed):
    changed("  __syncthreads();", "  if (threadIdx.x < 5) __syncthreads();")
    with pytest.raises(GateError) as refusal:
        built()
    assert "threads of a block never reach the barrier at line" in refusal.value.message


def warned(ctx):
    return [(note.code, note.reason) for note in ctx.notes]


def test_whoever_asks_has_no_emulation(built):
    artifact, ctx = built(emulate=False)
    assert warned(ctx) == [("NNC-W063", "the gate could not look: there is no GPU, and emulate=false")]
    assert artifact.unrunnable() == "there is no GPU"
    assert "emulated_samples" not in artifact.report()


def test_without_a_compiler_the_gate_says_so(built, monkeypatch):
    monkeypatch.setattr("nncomp_tvm.emulation.judging.compiler", lambda: "")
    _, ctx = built()
    reason = "the gate could not look: there is no GPU, and no g++ or clang++ for the CPU to run the kernels"
    assert warned(ctx) == [("NNC-W063", reason)]


def test_much_work_is_done_only_if_asked_for(kernels, built, monkeypatch):
    monkeypatch.setattr("nncomp_tvm.emulation.judging.MULTIPLICATIONS", 1000)
    _, ctx = built()
    reason = (
        "the gate could not look: there is no GPU, and 0.0 billion multiplications are many for a CPU in its place; "
        "emulate=true runs them all the same"
    )
    assert warned(ctx) == [("NNC-W063", reason)]
    artifact, ctx = built(emulate=True)
    assert (artifact.emulated, warned(ctx)) == (1, [])


def test_a_run_that_takes_too_long_is_given_up(kernels, built, monkeypatch):
    monkeypatch.setattr("nncomp_tvm.emulation.judging.SECONDS", 0.0)
    _, ctx = built()
    reason = (
        "the gate could not look: there is no GPU, and a CPU in its place needs more than 0 seconds for a sample; "
        "emulate=true waits for it"
    )
    assert warned(ctx) == [("NNC-W063", reason)]
