r"""What a recipe may say, and its canonical text.

::

    version = 1
    target = "ort"
    passes = [
        "cleanup",
        "quantize{method=\"mse\"}",
    ]

    [data]
    path = "calibration.npz"     # relative to the recipe

    [budget]
    min_sqnr_db = 20.0
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from nncomp.data import DataOptions

VERSION: Final = 1

Text = Annotated[str, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GateOptions(_Section):
    """How the numeric gate checks each pass."""

    enabled: bool = Field(True, strict=True, description="compare the graph before and after each pass")
    samples: Count = Field(2, ge=1, le=64, description="inputs to compare on, taken from the data's beginning")


class Budget(_Section):
    """What the result may lose against the original; None asks for nothing."""

    min_sqnr_db: Number | None = Field(None, description="signal to quantization noise of the worst output, dB")
    min_cosine: Number | None = Field(None, ge=-1, le=1, description="mean cosine similarity of the worst output")
    min_agreement: Number | None = Field(None, ge=0, le=1, description="share of samples whose best class is the same")
    max_drop: Number | None = Field(None, ge=0, lt=1, description="accuracy lost, as a share; needs labels")

    @property
    def empty(self) -> bool:
        """True when nothing is asked for."""
        return self == Budget()


class SearchOptions(_Section):
    """How long to look for what to leave alone when the result misses the budget."""

    trials: Count = Field(40, ge=0, le=10_000, description="results to compile and compare; 0 does not search")
    seconds: Number = Field(900.0, ge=0, description="wall time")
    samples: Count = Field(16, ge=1, description="samples to see on what each layer's noise is")


class Lock(_Section):
    """Of a locked recipe: with what it was made, so that a replay can say what differs."""

    nncomp: Text = Field("", description="version of nncomp")
    plugins: dict[str, str] = Field(default_factory=dict, description="version of what provides each plugin used")
    model: Text = Field("", description="digest of the model that was compiled")
    data: Text = Field("", description="fingerprint of the data")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a recipe was read: its file ("" for none) and the line of each pass. Recipes do not differ by it."""

    file: str = field(default="", compare=False)
    pass_lines: tuple[int, ...] = field(default=(), compare=False)

    @property
    def folder(self) -> Path:
        """What the recipe's paths are relative to."""
        return Path(self.file).parent if self.file else Path()


class Recipe(_Section):
    """A recipe.

    Attributes:
        version: of this form.
        target: name; "" leaves it to the caller.
        passes: in order, as ``name{option=value, ...}``.
        options: options by name of pass, instead of those that its lines in ``passes`` give.
        seed: of everything random.
        freeze: inputs with defaults become constants, which changes the interface.
        data: calibration and evaluation data.
        gate, budget, search, lock: see there.
    """

    version: Literal[1] = VERSION
    target: Text = ""
    passes: tuple[Text, ...]
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seed: Count = Field(0, ge=0, lt=2**32)
    freeze: bool = Field(False, strict=True)
    data: DataOptions | None = None
    gate: GateOptions = GateOptions()
    budget: Budget = Budget()
    search: SearchOptions = SearchOptions()
    lock: Lock | None = None

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def source(self) -> Source:
        """Where the recipe was read."""
        return self._source

    def located(self, source: Source) -> Recipe:
        """Return the recipe with its source noted."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def to_toml(self) -> str:
        """Return the canonical text: the same bytes for equal recipes, fields at their defaults left out."""
        lines = [f"version = {self.version}"]
        if self.target:
            lines.append(f"target = {quoted(self.target)}")
        lines += (
            ["passes = [", *(f"    {quoted(spec)}," for spec in self.passes), "]"] if self.passes else ["passes = []"]
        )
        if self.seed:
            lines.append(f"seed = {self.seed}")
        if self.freeze:
            lines.append("freeze = true")
        for name, given in self.options.items():
            lines += ["", *options_section(name, given)]
        for name in ("data", "gate", "budget", "search", "lock"):
            section: BaseModel | None = getattr(self, name)
            values = {} if section is None else section.model_dump(mode="json", exclude_defaults=True)
            if values:
                lines += ["", f"[{name}]", *_entries(values)]
        return "\n".join(lines) + "\n"


def options_section(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return the lines of ``[options.NAME]``."""
    return [f"[options.{_key(name)}]", *_entries(options)]


def quoted(text: str) -> str:
    """Return ``text`` as a TOML basic string, which a JSON string is but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _entries(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in values.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)
