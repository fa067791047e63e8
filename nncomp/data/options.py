"""DataOptions: the ``[data]`` table of a recipe, and what ``--data`` and its companions say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from nncomp.data.members import Part
from nncomp.data.preprocess import Preprocess

Count: TypeAlias = Annotated[int, Field(strict=True)]


class DataOptions(BaseModel):
    """Which data, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field("", strict=True, description="file or folder, from the recipe's folder; or random")
    preprocess: Preprocess | None = Field(None, description="how pixels become numbers: a preset's name, or its fields")
    limit: Count | None = Field(None, ge=1, description="samples to look at: the first; of images, evenly chosen")
    batch: Count = Field(1, ge=1, description="samples in one run, if the model leaves that free")
    skip_bad: Count = Field(0, ge=0, description="unreadable images that are left out before one is an error")
    part: Part = Field("calibration", description="which of x_calibration and x_evaluation to take, if there are such")


def resolve_path(path: str, base: Path | None) -> Path:
    """Return ``path`` relative to ``base``, the recipe's folder; ``~`` and ``$VAR`` are names like any other."""
    return Path(path) if base is None else base / path
