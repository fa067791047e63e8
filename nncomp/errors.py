"""Every exception that nncomp raises for a user, with its stable code and exit status.

A code (``NNC-M002``) names one cause for ever: scripts may match it, messages may get better. The letter is the
family (M model, R recipe or usage, D data, P plugin, T target, G gate, E environment, W warnings); ``CODES`` is the
catalogue.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Final

CODES: Final[dict[str, str]] = {
    "NNC-M001": "the model file is empty",
    "NNC-M002": "the model file is not a readable ONNX protobuf",
    "NNC-M003": "the model file is a Git LFS pointer",
    "NNC-M004": "the model file is of another format",
    "NNC-M005": "the file is a protobuf, but holds no ONNX graph",
    "NNC-M006": "the model path is not a readable regular file",
    "NNC-M007": "the model is nested deeper than protobuf allows",
    "NNC-M010": "external data lies outside the model folder",
    "NNC-M011": "an external data file is missing",
    "NNC-M012": "an external data range does not fit its file or its tensor",
    "NNC-M013": "external data is not a regular file",
    "NNC-M020": "a tensor has impossible dimensions",
    "NNC-M021": "a tensor's data does not match its type and shape",
    "NNC-M022": "a tensor has an unknown data type",
    "NNC-M023": "a name is not valid UTF-8",
    "NNC-M024": "a sparse tensor is malformed",
    "NNC-M030": "the graph has a cycle",
    "NNC-M031": "two things produce one name",
    "NNC-M032": "an input is read that nothing produces",
    "NNC-M033": "an inner graph's name shadows an outer one",
    "NNC-M034": "the graph interface is malformed",
    "NNC-M035": "a node does not follow its schema",
    "NNC-M036": "the opset imports are malformed",
    "NNC-M037": "the IR version is unknown",
    "NNC-M038": "an op is newer than the opset that the model imports",
    "NNC-M039": "a function calls itself",
    "NNC-M040": "types do not fit",
    "NNC-M050": "the model is already quantized",
    "NNC-M051": "quantization parameters are malformed",
    "NNC-M052": "nothing in the model can be changed by this pass",
    "NNC-M053": "a tensor that must be finite holds NaN or infinity",
    "NNC-R001": "a recipe may hold plain data only",
    "NNC-R002": "a key is given twice",
    "NNC-R003": "a value has the wrong form",
    "NNC-R004": "a recipe is too large or too deep",
    "NNC-R010": "an unknown pass, option or value",
    "NNC-R011": "a selector matches nothing or is malformed",
    "NNC-R012": "the passes of a recipe contradict each other or the target",
    "NNC-R020": "an output path may not be written",
    "NNC-R021": "a command-line value is wrong",
    "NNC-D001": "data is not plain arrays",
    "NNC-D002": "data is larger than what the model can take",
    "NNC-D003": "data does not match the model's inputs",
    "NNC-D004": "there is no data",
    "NNC-D005": "an image cannot be read",
    "NNC-D006": "this needs calibration data",
    "NNC-P001": "a plugin failed to load",
    "NNC-P002": "a plugin speaks another API version",
    "NNC-P003": "two plugins provide one name",
    "NNC-P004": "a pass died",
    "NNC-P010": "a data source failed",
    "NNC-P011": "a pass failed",
    "NNC-T001": "a target's library is not installed",
    "NNC-T002": "the target cannot run this model",
    "NNC-T003": "no pass of the recipe can be tuned layer by layer",
    "NNC-T004": "files of a compiled model are damaged, or do not belong together",
    "NNC-G001": "a pass broke what it declares",
    "NNC-G002": "a pass left an invalid graph",
    "NNC-G003": "a pass changed the model's interface",
    "NNC-G004": "the result misses the accuracy budget",
    "NNC-G005": "what a target built gives other results than the graph",
    "NNC-E001": "the disk refused a write",
    "NNC-E002": "memory ran out",
    "NNC-E003": "a run of the model took too long",
    "NNC-W000": "a warning of a plugin that has no code",
    "NNC-W030": "a weight holds NaN or infinity",
    "NNC-W031": "folding would overflow float16; the op stays",
    "NNC-W032": "a value was constant, or never finite, in calibration",
    "NNC-W033": "all weights of a channel are zero",
    "NNC-W034": "samples that are not finite, or empty, are left out where a bias is corrected",
    "NNC-W040": "preprocessing of images was assumed",
    "NNC-W041": "a declared shape is odd or wrong, and is not believed",
    "NNC-W042": "input numbers are rounded to the model's type",
    "NNC-W043": "there is one sample only",
    "NNC-W044": "samples that are not finite are left out",
    "NNC-W045": "images that cannot be read are left out",
    "NNC-W046": "images were converted",
    "NNC-W047": "samples at the end do not fill a batch",
    "NNC-W048": "the data is random",
    "NNC-W050": "external data is read, but is odd",
    "NNC-W060": "the recipe was locked for another model",
    "NNC-W061": "the recipe was locked for other data",
    "NNC-W062": "the recipe was locked with other versions",
    "NNC-W063": "the gate could not look",
    "NNC-W064": "the model stays at an opset that older runtimes of the target do not read",
    "NNC-W070": "a cache entry is damaged; it is computed anew",
    "NNC-W071": "the cache cannot be written; nothing is kept",
    "NNC-W072": "a checkpoint cannot be used; the work begins anew",
    "NNC-X001": "not built yet",
    "NNC-X999": "a bug in nncomp",
}


@dataclass(frozen=True, slots=True)
class Where:
    """The place that a message speaks of; empty fields are unknown."""

    file: str = ""
    graph: str = ""
    node: str = ""
    tensor: str = ""
    line: int | None = None
    pass_name: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields that are known."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


class NncompError(Exception):
    """Base of all errors that are somebody's to mend: one line, a code, a place and, if we know one, a hint."""

    exit_status: ClassVar[int] = 1
    default_code: ClassVar[str] = "NNC-X999"

    def __init__(self, message: str, *, code: str = "", where: Where | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.where = where or Where()
        self.hint = hint

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form that ``--json`` prints."""
        return {"code": self.code, "message": self.message, "where": self.where.as_dict(), "hint": self.hint}


class UsageError(NncompError):
    """A command line, option or API argument is wrong."""

    exit_status = 2
    default_code = "NNC-R021"


class RecipeError(UsageError):
    """A recipe or a pass option is wrong."""

    default_code = "NNC-R010"


class DataError(UsageError):
    """Calibration or evaluation data is wrong."""

    default_code = "NNC-D003"


class ModelError(NncompError):
    """The input model is invalid."""

    exit_status = 3
    default_code = "NNC-M002"


class UnsupportedError(NncompError):
    """The model is valid, but the chosen pass or target cannot take it."""

    exit_status = 4
    default_code = "NNC-T002"


class NotBuiltError(UnsupportedError):
    """A feature that nncomp does not have (yet)."""

    default_code = "NNC-X001"


class GateError(NncompError):
    """A pass broke its contract, or the result misses the user's budget."""

    exit_status = 5
    default_code = "NNC-G001"


class ResourceError(NncompError):
    """Disk, memory or time ran out."""

    exit_status = 6
    default_code = "NNC-E001"


class PluginError(NncompError):
    """A plugin failed."""

    exit_status = 7
    default_code = "NNC-P001"


class NncompWarning(UserWarning):
    """Base of all warnings; ``code`` is stable as for errors."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
