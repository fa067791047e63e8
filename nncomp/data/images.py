"""A folder of images: decoded one by one, with a bound on what a file may claim, and counts of what was converted."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from nncomp.data.fingerprint import Fingerprint
from nncomp.data.inputs import data_error, input_specs
from nncomp.data.preprocess import MAX_PIXELS, Preprocess, image_input
from nncomp.data.source import DataSource, DataWarning, Numbered
from nncomp.errors import DataError, NncompWarning, Where
from nncomp.ir import Graph
from nncomp.runtime import Feeds

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

_FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP")
# What Pillow's decoders raise on broken files: there is no common base.
_BROKEN: Final = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip


class ImageSource(DataSource):
    """The images in a folder and the folders in it, sorted by path; or one image.

    With ``limit``, images are taken evenly from the sorted list, so that a folder a class gives all classes.

    Args:
        root: Folder, or one file.
        graph: A model with one input of rank 4.
        preprocess: Default: ``unit``, and a warning that nobody said so (none for uint8 inputs, which take pixels).
        skip_bad: How many unreadable images are left out before one is an error.
        limit: How many to take.

    Raises:
        DataError: there are no images (NNC-D004), or the model or the preprocessing does not fit (NNC-D003).
    """

    name: ClassVar[str] = "images"

    def __init__(
        self,
        root: str | os.PathLike[str],
        graph: Graph,
        *,
        preprocess: Preprocess | None = None,
        skip_bad: int = 0,
        limit: int | None = None,
    ) -> None:
        self._root = Path(root)
        spec = image_input(input_specs(graph))
        self._assumed = preprocess is None and np.dtype(spec.dtype) != np.uint8
        self._preprocess = preprocess or Preprocess.model_validate("unit" if self._assumed else {})
        self._plan = self._preprocess.for_input(spec)
        self._skip_bad = skip_bad
        files = [self._root] if self._root.is_file() else image_files(self._root)
        if not files:
            raise DataError(
                f"{self.label} holds no images",
                code="NNC-D004",
                where=Where(file=str(root)),
                hint=f"looked for {', '.join(sorted(SUFFIXES))}",
            )
        self._files = files
        self._chosen = evenly(len(files), len(files) if limit is None else limit)
        self._counts: Counter[str] = Counter()

    @property
    def files(self) -> Sequence[Path]:
        """All images of the folder, in order."""
        return self._files

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    @property
    def size(self) -> int:
        """Number of images that are taken."""
        return len(self._chosen)

    @property
    def label(self) -> str:
        """What messages call this data."""
        return f"data {str(self._root)!r}"

    @property
    def counts(self) -> Mapping[str, int]:
        """``bad images``, and ``MODE to MODE`` for conversions."""
        return dict(self._counts)

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """Assumed preprocessing, images left out, and conversions."""
        found = []
        if self._assumed:
            text = "no preprocessing given, so pixels are divided by 255; the numbers must be those of training"
            found.append(DataWarning(f"{self.label}: {text}", code="NNC-W040"))
        bad = self._counts["bad images"]
        if bad:
            found.append(DataWarning(f"{self.label}: {bad} images cannot be read and are left out", code="NNC-W045"))
        modes = [f"{count} {change}" for change, count in sorted(self._counts.items()) if change != "bad images"]
        if modes:
            found.append(DataWarning(f"{self.label}: images were converted: {', '.join(modes)}", code="NNC-W046"))
        return found

    def __iter__(self) -> Iterator[Feeds]:
        for _, feeds in self.numbered():
            yield feeds

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the place of their image in :attr:`files`."""
        self._counts.clear()
        for number in self._chosen:
            path = self._files[number]
            try:
                image, change = decode(path, self._plan.mode)
                array = self._plan.apply(image, f"image {str(path)!r}")
            except DataError as error:
                self._tolerate(error)
                continue
            self._counts.update([change] if change else [])
            yield (number,), {self._plan.input: array}

    def fingerprint(self) -> str:
        """Return a digest of the images' relative paths and content, and of the preprocessing."""
        digest = Fingerprint("images", self._preprocess.model_dump_json(), str(self._skip_bad))
        for path in (self._files[number] for number in self._chosen):
            digest.text(path.relative_to(self._root).as_posix() if path != self._root else path.name).file(path)
        return digest.digest()

    def _tolerate(self, error: DataError) -> None:
        """Count an image that cannot be read; raise for what is no fault of one file, and for one too many."""
        if error.code != "NNC-D005":
            raise error
        self._counts["bad images"] += 1
        if self._counts["bad images"] > self._skip_bad:
            more = self._skip_bad + 1
            error.hint = f"--skip-bad {more} (in a recipe skip_bad = {more}) would leave it out"
            raise error


def image_files(root: Path) -> list[Path]:
    """Return the images under ``root``, sorted by path; hidden files and folders are not looked at."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    images = [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(images, key=lambda path: path.relative_to(root).parts)


def _refuse(error: OSError) -> None:
    raise data_error(error.filename, f"cannot be read: {error.strerror}", code="NNC-D004")


def evenly(total: int, count: int) -> list[int]:
    """Return ``count`` numbers below ``total``, or all of them, evenly spaced."""
    count = min(count, total)
    return [index * total // count for index in range(count)]


def decode(path: Path, mode: str) -> tuple[Image, str]:
    """Return the image upright and in ``mode``, and what its mode was changed from ("" for nothing).

    Raises:
        DataError: it cannot be decoded, or is too large (NNC-D005).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on broken metadata, which we do not read
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _bad(path, f"is {image.width}x{image.height}: more than {MAX_PIXELS} pixels")
                image.load()
                upright = ImageOps.exif_transpose(image)
                return _converted(upright, mode), f"{image.mode} to {mode}" if image.mode != mode else ""
    except Image.DecompressionBombError:
        raise _bad(path, f"is far larger than {MAX_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise _bad(path, "is not a JPEG, PNG, BMP or WebP image") from None
    except _BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise _bad(path, f"cannot be read: {reason}") from None


def _bad(path: Path, message: str) -> DataError:
    return DataError(f"image {str(path)!r} {message}", code="NNC-D005", where=Where(file=str(path)))


def _converted(image: Image, mode: str) -> Image:
    from PIL import Image as Pillow

    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion clips them at 255
        image = Pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":  # may have transparent colours, which Pillow takes to RGBA only
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
