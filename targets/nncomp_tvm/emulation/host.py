"""The host's part of a build for a GPU, made for the CPU alone: it calls kernels with pointers to this CPU's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nncomp_tvm.library import pass_instrument, register_tir_pipeline, relax, tirx, tvm

_LAST: Final = ("tirx.MakePackedAPI", "tirx.FP8StorageLegalize", "tirx.BF16StorageLegalize")
"""What follows once host and device are split: there the device comes into the host's code."""


def host_of(module: Any, target: Any) -> tuple[Any, Mapping[str, Sequence[str]]]:
    """Compile the host's part of a module with its tensors on the CPU, and its kernels missing.

    Args:
        module: Relax and scheduled TIR, as compiled for the GPU.
        target: TVM's, of the GPU.

    Returns:
        TVM's executable; and for each kernel that it calls what it passes after the kernel's own arguments, such as
        ``blockIdx.x``.
    """
    launches: dict[str, list[str]] = {}

    def pipeline() -> tuple[Any, Any, Any]:
        usual, of_host, of_device = tvm.tirx.get_tir_pipeline("s_tir")

        def lowered(module: Any) -> Any:
            with tvm.transform.PassContext(instruments=[_Unfinished()]):
                module = usual(module)
            return _finished(_split(module, launches))

        return lowered, of_host, of_device

    register_tir_pipeline(_PIPELINE, pipeline)
    with target:
        executable = relax.build(
            module, target, relax_pipeline=relax.pipeline.default_build_pipeline(), tir_pipeline=_PIPELINE
        )
    return executable, launches


_PIPELINE: Final = "nncomp_emulation"


@pass_instrument
class _Unfinished:
    """Leaves out the last passes of a pipeline."""

    def should_run(self, module: Any, info: Any) -> bool:
        del module
        return info.name not in _LAST


def _split(module: Any, launches: dict[str, list[str]]) -> Any:
    """Return the functions of the host, as a CPU's; note how kernels are launched."""
    cpu = tvm.target.Target({"kind": "llvm"}, host={"kind": "llvm"})
    kept = {}
    for variable, function in module.functions.items():
        extents = function.attrs.get("tirx.kernel_launch_params")
        if extents is not None:
            launches[str(variable.name_hint)] = [str(one) for one in extents]
            continue
        device = function.attrs.get("target")
        on_gpu = device is not None and device.kind.name == "cuda"
        kept[variable] = function.with_attr("target", cpu) if on_gpu else function
    return tvm.IRModule(kept, attrs=module.attrs)


def _finished(module: Any) -> Any:
    names = tirx.transform
    return tvm.transform.Sequential([names.MakePackedAPI(), names.FP8StorageLegalize(), names.BF16StorageLegalize()])(
        module
    )
