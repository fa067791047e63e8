"""A task's own metric: a function of the user's that is given what runs a model, and says how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nncomp.data.callables import FUNCTION, imported
from nncomp.data.feeds import plugin_errors
from nncomp.errors import PluginError, UsageError
from nncomp.isolation import isolated
from nncomp.runtime import Feeds

Run: TypeAlias = Callable[[Feeds], Mapping[str, Any]]
Metric: TypeAlias = Callable[[Run], object]
"""Given a function from feeds to outputs by name, returns how good the model is, a finite number; higher is better."""


def load_metric(spec: str) -> Metric:
    """Return the metric that ``module:function`` names, looked for in the working folder, too.

    Raises:
        UsageError: the text has another form.
        PluginError: there is no such function (NNC-P010).
    """
    if not FUNCTION.fullmatch(spec):
        raise UsageError(f"--metric: expected module:function, got {spec!r}")
    return imported(spec, f"metric {spec!r}", Path())


def measured(metric: Metric, run: Run) -> float:
    """Return what the user's metric says.

    Raises:
        PluginError: it failed, or gave no finite number (NNC-P010).
    """
    with plugin_errors("the metric failed"), isolated():
        value = metric(run)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PluginError(f"the metric gave {value!r}, expected a finite number", code="NNC-P010")
    return number
