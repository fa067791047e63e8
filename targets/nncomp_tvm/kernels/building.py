"""From a Relax module to an executable: our kernels where they fit, TVM's own for the rest."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.cpu_device import CpuDevice
from nncomp_tvm.kernels.exact import widened, with_exact_extremes
from nncomp_tvm.kernels.extents import dimensions
from nncomp_tvm.kernels.graph import Walk, dtype_of, is_plain, shape_of
from nncomp_tvm.kernels.integers import normalised
from nncomp_tvm.kernels.layout import channels_last
from nncomp_tvm.kernels.regions import Cut, cut
from nncomp_tvm.kernels.tiling import Tile
from nncomp_tvm.kernels.tuning import TuningOptions, tune, workload
from nncomp_tvm.library import relax, tvm


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
    """An executable for TVM's virtual machine, and which of its functions are kernels of ours."""

    executable: Any
    kernels: tuple[KernelInfo, ...]


def emit(module: Any, cuts: Mapping[Any, Cut], tuned: Mapping[str, Tile]) -> tuple[Any, list[KernelInfo]]:
    """Replace each region by a call of its kernel; equal kernels are one.

    Args:
        tuned: Tiles by workload; others are cut as estimated.
    """
    names: dict[Hashable, Any] = {}
    infos: list[KernelInfo] = []
    inner = {variable for region in cuts.values() for variable in region.inner}

    def kernel(walk: Walk, region: Cut, tile: Tile) -> Any:
        key = (region.anchor.key, region.program, tile)
        if key not in names:
            name = "_".join(part.removeprefix("nn.") for part in region.ops)
            names[key] = walk.builder.add_func(
                region.anchor.write(region.program, tile).with_attr({"s_tir": True, "op_pattern": 8}),
                f"nncomp_{name}"[:96],
            )
            anchor, name = region.anchor, names[key].name_hint
            known = workload(region) in tuned
            infos.append(KernelInfo(name, region.ops, anchor.integer, tile, anchor.macs, known, anchor.key))
        return names[key]

    def rewrite(walk: Walk, item: Any) -> Any:
        variable, call = item
        region = cuts.get(variable)
        if region is None:
            return call if variable not in inner else None
        tile = tuned.get(workload(region), region.anchor.tiles[0])
        arguments = [*region.anchor.arguments(tile), *region.operands]
        symbols = [symbol.value for symbol in region.symbols(arguments)]
        shape, kind = shape_of(variable), dtype_of(variable)
        assert shape is not None
        result = relax.call_tir(
            kernel(walk, region, tile),
            relax.Tuple([*(walk.argument(argument) for argument in arguments), *symbols]),
            relax.TensorType(dimensions(shape), kind),
        )
        output = region.anchor.output
        if output in {shape, ()}:
            return result
        flat = relax.call_tir(result.args[0], result.args[1], relax.TensorType(dimensions(output), kind))
        return relax.op.reshape(walk.emit(flat), dimensions(shape))

    return Walk(module, rewrite).run(), infos


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
    kernels: list[KernelInfo] = []
    if is_plain(module["main"]):
        device = CpuDevice(cpu, parallel=threads > 1)
        module = channels_last(normalised(widened(module), device))
        cuts = cut(module["main"], device)
        tuned = {} if tuning is None else tune(list(cuts.values()), cpu, tuning, threads=threads)
        module, kernels = emit(module, cuts, tuned)
        module = with_exact_extremes(module)
    with cpu.target:
        module = tvm.transform.Sequential(
            [
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
            ]
        )(module)
        executable = tvm.compile(
            module, target=cpu.target, relax_pipeline=relax.pipeline.default_build_pipeline(), tir_pipeline="s_tir"
        )
    return CpuBuild(executable, tuple(kernels))
