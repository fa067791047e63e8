"""Read a machine: a preset by name, or a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from nncomp.errors import UsageError, Where
from nncomp.validation import refusal
from nncomp_sparse.hardware.schema import Hardware

PRESETS: Final = Path(__file__).parent / "presets"
_LARGEST: Final = 1 << 20


def preset_names() -> tuple[str, ...]:
    """Return the names of the machines that come with nncomp."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def load_hardware(name: str) -> Hardware:
    """Return a machine.

    Args:
        name: A preset's name, or the path of a TOML file (with a suffix or a separator in it).

    Raises:
        UsageError: there is no such machine, or its description is impossible (NNC-R021).
    """
    path = Path(name)
    if not path.suffix and path.name == name:
        path = PRESETS / f"{name}.toml"
        if name not in preset_names():
            near = difflib.get_close_matches(name, preset_names(), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(preset_names())}; or a TOML file"
            raise UsageError(f"unknown hardware {name!r}", hint=hint)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise UsageError(f"the hardware description is larger than {_LARGEST} bytes", where=Where(file=str(path)))
        values = tomllib.loads(text.decode())
    except OSError as error:
        hint = f"known: {', '.join(preset_names())}; or a TOML file"
        raise UsageError(
            f"cannot read hardware {name!r}: {error.strerror}", where=Where(file=str(path)), hint=hint
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"hardware {name!r} is not TOML: {error}", where=Where(file=str(path))) from None
    return parse_hardware(values, file=str(path))


def parse_hardware(values: dict[str, Any], *, file: str = "") -> Hardware:
    """Return the machine that a table describes.

    Raises:
        UsageError: it is impossible; the message names the field and the reason (NNC-R021).
    """
    try:
        return Hardware.model_validate(values)
    except ValidationError as error:
        refused = refusal(error, Hardware)
        raise UsageError(f"hardware: {refused.told()}", where=Where(file=file), hint=refused.hint()) from None
