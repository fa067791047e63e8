"""Small Relax functions, compiled and run: by build_cpu, or as CUDA, which the CPU runs in a GPU's place."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp_tvm.emulation import Emulator, compiler
from nncomp_tvm.gpu import code_for_gpu
from nncomp_tvm.kernels import CpuTarget, build_cpu
from nncomp_tvm.library import VERSION, relax, tensor, tirx, tvm
from nncomp_tvm.manifest import Manifest, Port


def module_of(body, inputs, shapes=None):
    """Return ``main``; ``shapes``, one an input, may have letters for open sizes."""
    builder, letters = relax.BlockBuilder(), {}
    variables = []
    for i, value in enumerate(inputs):
        shape = [
            letters.setdefault(size, tirx.Var(size, "int64")) if isinstance(size, str) else size
            for size in (value.shape if shapes is None else shapes[i])
        ]
        variables.append(relax.Var(f"x{i}", relax.TensorType(shape, str(value.dtype))))
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(body(builder, *variables)))
        builder.emit_func_output(result)
    return builder.get()


class Bench:
    """Builds ``main`` from a function of Relax variables, and runs it."""

    def __init__(self, cpu):
        self.cpu = cpu

    def build(self, body, *inputs, threads=1, shapes=None):
        return build_cpu(module_of(body, inputs, shapes), self.cpu, threads=threads)

    def run(self, body, *inputs, threads=1):
        built = self.build(body, *inputs, threads=threads)
        machine = relax.VirtualMachine(built.executable, tvm.cpu())
        return machine["main"](*[tensor(value) for value in inputs], *built.parameters).numpy(), built

    def runner(self, body, shapes, dtypes, threads=1):
        """Return what is built for open sizes, and a function that runs it on arrays."""
        like = [
            np.zeros([0 if isinstance(size, str) else size for size in shape], dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        built = self.build(body, *like, threads=threads, shapes=shapes)
        main = relax.VirtualMachine(built.executable, tvm.cpu())["main"]
        return built, lambda *inputs: main(*[tensor(value) for value in inputs], *built.parameters).numpy()


class GpuBench:
    """Writes CUDA for ``main``, and has the CPU run it."""

    def build(self, body, *inputs, shapes=None, half=False):
        code = code_for_gpu(module_of(body, inputs, shapes), "sm_80", half=half)
        return SimpleNamespace(code=code, kernels=code.written)

    def run(self, body, *inputs, shapes=None, outputs=1, half=False):
        """Return the result, or so many of them, and what was built."""
        built = self.build(body, *inputs, shapes=shapes, half=half)
        ports = [Port(f"x{i}", str(value.dtype), value.shape) for i, value in enumerate(inputs)]
        manifest = Manifest(ports, [Port(f"y{i}", "", None) for i in range(outputs)], "cuda", {}, VERSION)
        found = Emulator(built.code, manifest).run({port.name: x for port, x in zip(ports, inputs, strict=True)})
        return found["y0"] if outputs == 1 else list(found.values()), built


@pytest.fixture(scope="session")
def gpu():
    if not compiler():
        pytest.skip("there is no g++ or clang++")
    return GpuBench()


@pytest.fixture(scope="session")
def bench():
    return Bench(CpuTarget.host())


@pytest.fixture(params=["host", "haswell", "x86-64"])
def any_bench(request):
    """The host, and older CPUs whose code the host runs, too."""
    return Bench(CpuTarget.host() if request.param == "host" else CpuTarget.named(request.param))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
