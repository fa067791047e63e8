"""Preprocess: from decoded pixels to a model's input, in a fixed order of steps.

    resize -> centre crop -> channel order -> (x * scale - mean) / std -> round, for integer inputs -> layout

``x`` runs from 0 to 255. What is left out is taken from the model's input: its height and width, its channels, its
layout and its type. Resizing is Pillow's (antialiased), sizes are rounded as torchvision rounds them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nncomp.data.inputs import InputSpec, fits, only_input
from nncomp.errors import DataError
from nncomp.runtime import Array

if TYPE_CHECKING:
    from PIL.Image import Image

Side = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Layout: TypeAlias = Literal["NCHW", "NHWC"]

MAX_PIXELS: Final = 1024**3 // 12
"""Of one image, as its header says or after resizing: 89 million, which is where Pillow begins to worry."""

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_BGR: Final = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "unit": {"scale": 1 / 255},
    "tf": {"mean": 127.5, "std": 127.5},
    "imagenet": {
        "resize": 256,
        "crop": 224,
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
}
"""``unit``: [0, 1]. ``tf``: [-1, 1]. ``imagenet``: torchvision's, for 224x224."""


class Preprocess(BaseModel):
    """How pixels become numbers. A preset's name stands for its fields; ``preset`` beside others gives the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Side | tuple[Side, Side] | None = Field(
        None,
        description="shorter side, or exact [height, width]; default: cover the model's input, in proportion",
    )
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = Field(
        "bilinear", description="of resizing"
    )
    crop: Side | tuple[Side, Side] | None = Field(
        None, description="centre crop to a square, or [height, width]; default: the model's input"
    )
    scale: Number = Field(1.0, description="factor on pixels, before mean and std")
    mean: Number | tuple[Number, ...] = Field(0.0, description="subtracted; one number, or one a channel")
    std: Number | tuple[Number, ...] = Field(1.0, description="divisor; one number, or one a channel")
    layout: Layout | None = Field(None, description="default: as the model's input looks")
    order: Literal["RGB", "BGR"] = Field("RGB", description="of the channels")
    dtype: Literal["float16", "float32", "float64", "uint8", "int8", "int32"] | None = Field(
        None, description="default: the model's"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        fields = {"preset": value} if isinstance(value, str) else value
        if not isinstance(fields, Mapping) or "preset" not in fields:
            return value
        preset = fields["preset"]
        if not isinstance(preset, str) or preset not in PRESETS:
            near = difflib.get_close_matches(str(preset), PRESETS, 1)
            guess = f": did you mean {near[0]!r}?" if near and isinstance(preset, str) else ""
            raise ValueError(f"unknown preset {preset!r}, expected one of {', '.join(sorted(PRESETS))}{guess}")
        return {**PRESETS[preset], **{key: item for key, item in fields.items() if key != "preset"}}

    @model_validator(mode="after")
    def _divisible(self) -> Preprocess:
        if 0 in np.atleast_1d(self.std):
            raise ValueError("std must not be zero")
        return self

    def for_input(self, spec: InputSpec) -> ImagePlan:
        """Return the plan that makes the input ``spec`` of images.

        Raises:
            DataError: this gives other sizes or channels than the input has (NNC-D003).
        """
        dims = spec.shape or (None,) * 4
        layout = self.layout or layout_of(spec)
        channels, height, width = dims[1:] if layout == "NCHW" else (dims[3], dims[1], dims[2])
        target = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        count = channels if isinstance(channels, int) else 3
        if count not in _MODES:
            raise DataError(
                f"input {spec.name!r} is {spec.type}: images have 1, 3 or 4 channels, not {count}",
                hint="set preprocess.layout if the channels stand elsewhere",
            )
        made = self._size()
        if made is not None and not fits(made, (height, width)):
            raise DataError(
                f"preprocess gives images of {made[0]}x{made[1]}, input {spec.name!r} is {spec.type}",
                hint="in a recipe's [data.preprocess], set crop to the model's height and width"
                f"{f', [{height}, {width}],' if target else ','} and resize to a little more",
            )
        for name in ("mean", "std"):
            given = np.size(getattr(self, name))
            if given not in (1, count):
                raise DataError(f"preprocess.{name} has {given} numbers, input {spec.name!r} has {count} channels")
        dtype = np.dtype(self.dtype or spec.dtype)
        return ImagePlan(spec.name, self, _MODES[count], layout, target, dtype)

    def _size(self) -> tuple[int, int] | None:
        """Return the height and width that all images get, None when they may differ."""
        size = self.crop if self.crop is not None else self.resize if isinstance(self.resize, tuple) else None
        return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Preprocessing for one input, nothing left open.

    Attributes:
        input: name of the input.
        steps: what to do.
        mode: Pillow's word for the channels.
        layout: of the input.
        target: height and width of the input where both are fixed.
        dtype: of the input.
    """

    input: str
    steps: Preprocess
    mode: str
    layout: Layout
    target: tuple[int, int] | None
    dtype: npt.DTypeLike

    def apply(self, image: Image, what: str) -> Array:
        """Return ``image``, which has :attr:`mode`, as a batch of one.

        Raises:
            DataError: the image is smaller than the crop (NNC-D003), or huge after resizing (NNC-D005).
        """
        pixels = np.asarray(self._framed(image, what))
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if self.steps.order == "BGR":
            pixels = pixels[:, :, _BGR[pixels.shape[2]]]
        numbers = pixels * np.float64(self.steps.scale)
        numbers -= self.steps.mean
        numbers /= self.steps.std
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            numbers = np.clip(np.rint(numbers), limits.min, limits.max)
        batch = numbers.astype(dtype)[None]
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2) if self.layout == "NCHW" else batch)

    def apply_array(self, pixels: Array, what: str) -> Array:
        """Return uint8 ``pixels`` (height, width[, channels], or channels first) as a batch of one."""
        from PIL import Image

        if pixels.ndim == 3 and pixels.shape[2] not in _MODES:
            pixels = pixels.transpose(1, 2, 0)
        flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        image = Image.fromarray(np.ascontiguousarray(flat))
        return self.apply(image if image.mode == self.mode else image.convert(self.mode), what)

    def _framed(self, image: Image, what: str) -> Image:
        from PIL.Image import Resampling

        size = self._resized(image.height, image.width)
        if size[0] * size[1] > MAX_PIXELS:
            raise DataError(f"{what} would be {size[0]}x{size[1]} after resizing: too large", code="NNC-D005")
        if size != (image.height, image.width):
            image = image.resize(size[::-1], Resampling[self.steps.interpolation.upper()])
        crop = (self.steps.crop,) * 2 if isinstance(self.steps.crop, int) else self.steps.crop or self.target
        if crop is None or crop == (image.height, image.width):
            return image
        height, width = crop
        if image.height < height or image.width < width:
            raise DataError(
                f"{what} is {image.height}x{image.width} after resizing, smaller than the crop {height}x{width}",
                hint="set preprocess.resize to at least the crop",
            )
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        return image.crop((left, top, left + width, top + height))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        resize = self.steps.resize
        if isinstance(resize, tuple):
            return resize
        if resize is not None:
            short = min(height, width)
            return resize * height // short, resize * width // short
        if self.steps.crop is not None or self.target is None:
            return height, width
        factor = max(self.target[0] / height, self.target[1] / width)
        return max(self.target[0], int(height * factor)), max(self.target[1], int(width * factor))


def image_input(specs: Iterable[InputSpec]) -> InputSpec:
    """Return the input that images are for.

    Raises:
        DataError: the model has not one input of rank 4 (NNC-D003).
    """
    specs = list(specs)
    spec = only_input(specs)
    if spec is None or (spec.shape is not None and len(spec.shape) != 4):
        found = ", ".join(f"{one.name!r} is {one.type}" for one in specs if not one.optional)
        raise DataError(
            f"images fit a model with one input of rank 4; here {found or 'is none'}",
            hint="give an .npz or module:function with all inputs",
        )
    return spec


def layout_of(spec: InputSpec) -> Layout:
    """Return the layout that the input's dimensions tell; channels first when they do not."""
    dims = spec.shape or (None,) * 4
    return "NHWC" if dims[1] not in _MODES and dims[3] in _MODES else "NCHW"
