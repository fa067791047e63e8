"""How TVM's own loop nests are spread over a GPU: dlight's rules, and one for what they do badly."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from nncomp_tvm.library import dlight, s_tir, tirx

_SHORT: Final = 64
"""Elements that one thread reduces; dlight gives a block of 256 threads to each sum, be it of nine numbers."""

_THREADS: Final = 128


def scheduled() -> Any:
    """Return the pass that schedules every function that is not yet."""
    rules = (dlight.gpu.Matmul, dlight.gpu.GEMV, dlight.gpu.Reduction, dlight.gpu.GeneralReduction, dlight.gpu.Fallback)
    matmul, *others = (rule() for rule in rules)
    return dlight.ApplyDefaultSchedule(matmul, OwnReduction(), ShortReduction(), *others)


class OwnReduction(dlight.ScheduleRule):  # type: ignore[misc]  # TVM has no types
    """A thread for each result of a reduction that chooses: threads can share only those that TVM knows by name."""

    def apply(self, function: Any, target: Any, tunable: bool) -> Any:
        """Return the schedule, None for functions without such a reduction."""
        if not isinstance(function, tirx.PrimFunc):
            return None
        schedule = s_tir.Schedule(function)
        infos = dlight.normalize_prim_func(schedule)
        if not any(info.is_reduction() and _chooses(schedule, info) for info in infos or ()):
            return None
        return dlight.gpu.Fallback().apply(function, target, tunable)


def _chooses(schedule: Any, info: Any) -> bool:
    body = schedule.get(info.block_rv).body
    return not isinstance(body, tirx.BufferStore) or isinstance(body.value, tirx.Select)


class ShortReduction(dlight.ScheduleRule):  # type: ignore[misc]  # TVM has no types
    """A thread for each result of a short reduction, with the elementwise work behind it in the same thread."""

    def apply(self, function: Any, target: Any, tunable: bool) -> Any:
        """Return the schedule, None for what is no short reduction."""
        del target, tunable
        if not isinstance(function, tirx.PrimFunc):
            return None
        schedule = s_tir.Schedule(function)
        infos = dlight.normalize_prim_func(schedule)
        infos = None if infos is None else dlight.try_inline_contiguous_spatial(schedule, infos)
        if not infos or len(infos) > 2 or not infos[0].is_reduction():
            return None
        sums = infos[0]
        if sums.dom_kind().lstrip("S").strip("R") or (len(infos) == 2 and not infos[1].is_injective()):
            return None
        reduced = [one.dom for one in sums.iters if one.kind == "R"]
        if not all(isinstance(one, int) for one in reduced) or prod(reduced) > _SHORT:
            return None
        if len(infos) == 2:
            schedule.set_scope(sums.block_rv, 0, "local")
            last = infos[1].block_rv
        else:
            last = schedule.cache_write(sums.block_rv, 0, "local")
        loops = schedule.get_loops(last)
        if not loops:
            return None
        block, thread = schedule.split(schedule.fuse(*loops), [None, _THREADS])
        schedule.bind(block, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        schedule.compute_at(sums.block_rv, thread)
        inner = schedule.get_loops(sums.block_rv)[2:]
        if inner:  # a sum of one number has no loop
            schedule.decompose_reduction(sums.block_rv, inner[0])
        return schedule
