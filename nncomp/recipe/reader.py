"""Recipe files: plain TOML of bounded size and depth, and errors that name the line."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from nncomp.errors import RecipeError, UsageError, Where
from nncomp.recipe.lines import dotted_too_deep, line_of_key, line_of_twin, pass_lines, position
from nncomp.recipe.schema import Recipe, Source
from nncomp.validation import refusal

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64

_OTHER_SUFFIXES: Final = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON", ".json5": "JSON", ".ini": "INI"}
_TOML_HINT: Final = 'recipes are TOML: passes = ["cleanup"]'


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises:
        UsageError: the file cannot be read (NNC-R021).
        RecipeError: it is not a recipe (NNC-R001 to NNC-R004, NNC-R010); the message begins with file and line.
    """
    path = Path(path)
    where = Where(file=str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"recipe {str(path)!r} is not a regular file", where=where)
        if status.st_size > MAX_BYTES:
            raise RecipeError(
                f"{path}: {status.st_size} bytes, expected at most {MAX_BYTES}", code="NNC-R004", where=where
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read recipe {str(path)!r}: {error.strerror}", where=where) from None
    other = _OTHER_SUFFIXES.get(path.suffix.lower())
    if other and b"!!" not in data:
        raise RecipeError(f"{path}: a {other} file, expected TOML", code="NNC-R003", where=where, hint=_TOML_HINT)
    return parse_recipe(_decoded(data, str(path)), file=str(path))


def parse_recipe(text: str, *, file: str = "") -> Recipe:
    """Return the recipe that ``text`` holds; ``file`` is what messages call it.

    Raises:
        RecipeError: as :func:`load_recipe`.
    """
    table = _parsed(text, file)
    _refuse_deep(table, file)
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise _schema_error(error, text, file) from None
    return recipe.located(Source(file, pass_lines(text)))


def _decoded(data: bytes, file: str) -> str:
    for mark, name in ((b"\xef\xbb\xbf", "a byte order mark"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(mark):
            raise _error(file, 1, 1, f"the file starts with {name}, expected plain UTF-8", hint="save it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode(errors="replace"), error.start)
        raise _error(file, line, column, "not UTF-8", hint="save it as UTF-8") from None
    return text.replace("\r\n", "\n")


def _parsed(text: str, file: str) -> dict[str, Any]:
    if not text.strip():
        raise _error(file, 1, 1, "the recipe is empty", hint=_TOML_HINT)
    deep = dotted_too_deep(text, MAX_DEPTH)
    if deep:
        raise _error(file, deep, 1, f"a key has more than {MAX_DEPTH} parts", code="NNC-R004")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _error(file, 1, 1, f"nested deeper than {MAX_DEPTH}", code="NNC-R004") from None
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, text, file) from None


def _syntax_error(error: tomllib.TOMLDecodeError, text: str, file: str) -> RecipeError:
    message, _, place = str(error).partition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", place)
    lines = text.rstrip("\n").split("\n")
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    if message.startswith(("Cannot overwrite", "Cannot declare", "Duplicate inline")):
        twin = line_of_twin(text, line)
        first = f", first in line {twin}" if twin else ""
        return _error(file, line, column, f"a key is given twice{first}", code="NNC-R002")
    if re.search(r"!!|!<", text):
        hint = "a recipe may hold plain data only, as TOML"
        return _error(file, line, column, "this is YAML with tags", code="NNC-R001", hint=hint)
    start = text.lstrip()
    looks = "JSON" if start.startswith("{") else "YAML" if re.match(r"(---|[\w-]+:(\s|$))", start) else ""
    if looks:
        return _error(file, line, column, f"this looks like {looks}, expected TOML", hint=_TOML_HINT)
    return _error(file, line, column, message[:1].lower() + message[1:], hint="text stands in quotes")


def _refuse_deep(table: dict[str, Any], file: str) -> None:
    pending: list[tuple[Any, int]] = [(table, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise _error(file, 1, 1, f"nested deeper than {MAX_DEPTH}", code="NNC-R004")
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        pending += [(part, depth + 1) for part in inner]


def _schema_error(error: ValidationError, text: str, file: str) -> RecipeError:
    refused = refusal(error, Recipe)
    line = line_of_key(text, list(refused.path))
    code = "NNC-R010" if refused.unknown else "NNC-R003"
    hint = _TOML_HINT if refused.missing else refused.hint()
    return _error(file, line, None, refused.told(), code=code, hint=hint)


def _error(
    file: str, line: int | None, column: int | None, message: str, *, code: str = "NNC-R003", hint: str = ""
) -> RecipeError:
    place = ":".join(str(part) for part in (file or "recipe", line, column) if part is not None)
    return RecipeError(f"{place}: {message}", code=code, where=Where(file=file, line=line), hint=hint)
