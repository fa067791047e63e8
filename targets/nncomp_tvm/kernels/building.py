"""From a Relax module to an executable: our kernels where they fit, TVM's own for the rest."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.cpu_device import CpuDevice
from nncomp_tvm.kernels.exact import widened, with_exact_extremes
from nncomp_tvm.kernels.extents import dimensions
from nncomp_tvm.kernels.graph import Walk, dtype_of, is_plain, shape_of
from nncomp_tvm.kernels.integers import normalised
from nncomp_tvm.kernels.layout import channels_last
from nncomp_tvm.kernels.parameters import Pool, apart, from_pool, pooled
from nncomp_tvm.kernels.regions import Cut, cut
from nncomp_tvm.kernels.sites import Site, sites_of
from nncomp_tvm.kernels.tiling import Tile
from nncomp_tvm.kernels.tuning import TuningOptions, tune, workload
from nncomp_tvm.library import Constant, relax, tvm
from nncomp_tvm.origins import origin_of


@dataclass(frozen=True)
class KernelInfo:
    """What a kernel of a built module is.

    Attributes:
        name: Of its PrimFunc.
        ops: The operators that it computes, in order.
        integer: Whether it multiplies bytes.
        tile: How it is cut.
        macs: Its multiplications.
        tuned: Whether the tile was measured, not estimated.
        work: What it computes before those that are fused behind it: the key of its anchor.
    """

    name: str
    ops: tuple[str, ...]
    integer: bool
    tile: Tile
    macs: int
    tuned: bool
    work: Hashable


@dataclass(frozen=True)
class CpuBuild:
    """What is built.

    Attributes:
        executable: For TVM's virtual machine; it holds no parameters.
        parameters: Tensors that ``main`` takes behind its inputs, in order.
        kernels: Which of its functions are kernels of ours.
        sites: Calls of functions in ``main``, in order.
    """

    executable: Any
    parameters: tuple[Any, ...]
    kernels: tuple[KernelInfo, ...]
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class Emitted:
    """A module whose regions are calls of kernels.

    Attributes:
        module: Relax's, with a TIR function for each kernel.
        kernels: What is known of those.
        calls: The numbers of the graph's ops that the calls of each kernel compute, in their order.
    """

    module: Any
    kernels: list[KernelInfo] = field(default_factory=list)
    calls: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)


def emit(module: Any, cuts: Mapping[Any, Cut], tuned: Mapping[str, Tile], pool: Pool | None = None) -> Emitted:
    """Replace each region by a call of its kernel; equal kernels are one.

    Args:
        module: What was cut.
        cuts: Regions by the variable of their result.
        tuned: Tiles by workload; others are cut as estimated.
        pool: Where constants that kernels read are placed; without one they stay arguments.
    """
    names: dict[Hashable, Any] = {}
    emitted = Emitted(module)
    inner = {variable for region in cuts.values() for variable in region.inner}
    tiles = {variable: tuned.get(workload(region), region.anchor.tiles[0]) for variable, region in cuts.items()}
    operands = {
        variable: [*region.anchor.arguments(tiles[variable]), *region.operands] for variable, region in cuts.items()
    }
    if pool is not None:
        for operand in chain.from_iterable(operands.values()):
            if isinstance(operand, Constant):
                pool.place(operand)
        pool.close()

    def kernel(walk: Walk, region: Cut) -> Any:
        tile, reads = tiles[region.variable], operands[region.variable]
        stored = tuple(isinstance(operand, Constant) for operand in reads)
        key = (region.anchor.key, region.program, tile, stored)
        if key not in names:
            name = "_".join(part.removeprefix("nn.") for part in region.ops)
            function = region.anchor.write(region.program, tile)
            names[key] = walk.builder.add_func(
                (function if pool is None else pooled(function, reads)).with_attr({"s_tir": True, "op_pattern": 8}),
                f"nncomp_{name}"[:96],
            )
            anchor, name = region.anchor, names[key].name_hint
            known = workload(region) in tuned
            emitted.kernels.append(KernelInfo(name, region.ops, anchor.integer, tile, anchor.macs, known, anchor.key))
        numbers = {origin_of(variable) for variable in (*region.inner, region.variable)}
        ops = tuple(sorted(number for number in numbers if number is not None))
        emitted.calls.setdefault(names[key].name_hint, []).append(ops)
        return names[key]

    def rewrite(walk: Walk, item: Any) -> Any:
        variable, call = item
        region = cuts.get(variable)
        if region is None:
            return call if variable not in inner else None
        arguments = operands[variable]
        symbols = [symbol.value for symbol in region.symbols(arguments)]
        if pool is not None:
            arguments = from_pool(pool, arguments)
        shape, kind = shape_of(variable), dtype_of(variable)
        assert shape is not None
        result = relax.call_tir(
            kernel(walk, region),
            relax.Tuple([*(walk.argument(argument) for argument in arguments), *symbols]),
            relax.TensorType(dimensions(shape), kind),
        )
        output = region.anchor.output
        if output in {shape, ()}:
            return result
        flat = relax.call_tir(result.args[0], result.args[1], relax.TensorType(dimensions(output), kind))
        return relax.op.reshape(walk.emit(flat), dimensions(shape))

    further = [] if pool is None else list(pool.variables.values())
    return replace(emitted, module=Walk(module, rewrite, further).run())


def build_cpu(module: Any, cpu: CpuTarget, *, threads: int = 1, tuning: TuningOptions | None = None) -> CpuBuild:
    """Compile ``main`` of a Relax module for a CPU.

    Args:
        module: ``main`` in NCHW, parameters bound as constants, quantization as ``relax.op.quantize`` and
            ``dequantize``. Operators with symbolic dimensions get TVM's default code, which is right and slow.
        cpu: What to compile for.
        threads: With one, loops are plain; else the outermost of each kernel is parallel.
        tuning: How much to measure; None estimates. Measuring needs the CPU ``cpu`` to be this machine's.

    Raises:
        ResourceError: the tuning database cannot be written (NNC-E001).
    """
    pool = Pool()
    emitted = Emitted(module)
    if is_plain(module["main"]):
        device = CpuDevice(cpu, parallel=threads > 1)
        module = channels_last(normalised(widened(module), device))
        cuts = cut(module["main"], device)
        tuned = {} if tuning is None else tune(list(cuts.values()), cpu, tuning, threads=threads)
        emitted = emit(module, cuts, tuned, pool)
        module = with_exact_extremes(emitted.module)
    with cpu.target:
        module = tvm.transform.Sequential(
            [
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FuseOps(),
            ]
        )(module)
        sites = sites_of(module, emitted.calls)
        module, others = apart(relax.transform.FuseTIR()(module))
        executable = tvm.compile(
            module, target=cpu.target, relax_pipeline=relax.pipeline.default_build_pipeline(), tir_pipeline="s_tir"
        )
    return CpuBuild(executable, (*pool.tensors(), *others), tuple(emitted.kernels), sites)
