"""Whether NVRTC, which compiles CUDA source without a GPU, is installed; TVM is not imported to find out."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def compiler_missing() -> str:
    """Return the pip command that installs NVRTC and its headers, "" where they are."""
    return "" if toolkit() is not None and importlib.util.find_spec("cuda") else "pip install 'nncomp[tvm-cuda]'"


def toolkit() -> Path | None:
    """Return the folder of NVIDIA's packages that holds CUDA's headers."""
    found = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found is not None else []
    return next(
        (child for place in places for child in sorted(place.glob("cu*")) if (child / "include").is_dir()), None
    )
