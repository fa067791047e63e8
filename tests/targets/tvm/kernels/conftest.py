"""Small Relax functions, compiled by build_cpu and run."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp_tvm.kernels import CpuTarget, build_cpu
from nncomp_tvm.library import relax, tensor, tirx, tvm


class Bench:
    """Builds ``main`` from a function of Relax variables, and runs it."""

    def __init__(self, cpu):
        self.cpu = cpu

    def build(self, body, *inputs, threads=1, shapes=None):
        """Build ``main``; ``shapes``, one an input, may have letters for open sizes."""
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
        return build_cpu(builder.get(), self.cpu, threads=threads)

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
