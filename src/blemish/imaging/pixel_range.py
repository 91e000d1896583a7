"""The pixels that a bundle was trained on: how their values become 0 to 1, and which images do not fit.

| pixels of the training images                          | become 0 to 1 from                                         |
|--------------------------------------------------------|------------------------------------------------------------|
| 8 bit                                                  | 0 to 255                                                   |
| 16 bit                                                 | 0 to 255, 1023, 4095, 16383 or 65535, by the bits in use   |
| float from 0 to 1                                      | 0 to 1                                                     |
| signed and wide whole numbers from 0 on                | as 16 bit                                                  |
| all other numbers; also floats and whole numbers that  | their lowest to their highest value, with a quarter of the |
| use less than a sixteenth of their scale               | span as headroom on both sides                             |
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blemish.arrays import FloatImage, Image
from blemish.files import FrozenModel

PixelType = Literal["uint8", "uint16", "float32"]
FULL_SCALE: dict[str, tuple[float, float]] = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}
BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras
HEADROOM = 1 / 4  # of the span, on both sides
MIN_SPAN = 1 / 16  # of full scale; numbers that span less are stretched
_TAIL = 0.1  # percent of an image's pixels on each side that may be outliers ...
_OUTLIER_SPANS = 4.0  # ... where they make the span so many times as wide
# Share of pixels outside the range in an image that fits. Floats have their headroom; 16 bits get it here.
_MAX_OUTSIDE = {"uint16": 0.01, "float32": 0.1}
_MIN_SPREAD = 1 / 3  # of the smallest spread in a training image
_MIN_SHARE = 1 / 4  # of the smallest deviation, brightness and darkness of a training image
_FLOAT_MARGIN = 0.5  # beyond 0 to 1, which is cut off
_SIZE_RATIO = 2
_ASPECT_TOLERANCE = 0.02  # what rounding to whole pixels, or to a codec's blocks, changes of width / height
_COARSE = 16  # every so many pixels, by which most colour images are known as such

Span = tuple[float, float]  # smallest and largest
Number = TypeVar("Number", int, float)


class PixelSpec(FrozenModel):
    """Types, value ranges and sizes of the images that a bundle was trained on.

    Older bundles lack the fields with a default: what those would tell is then not compared.
    """

    ranges: dict[PixelType, Span]  # by type: the values that become 0 and 1
    spreads: dict[PixelType, float] = Field(default_factory=dict)  # of older bundles: smallest highest - lowest value
    height: tuple[int, int]  # px, smallest and largest
    width: tuple[int, int]
    means: dict[PixelType, Span] = Field(default_factory=dict)  # by type: of one image
    deviations: dict[PixelType, Span] = Field(default_factory=dict)  # standard, of one image, within its channels
    channels: tuple[int, ...] | None = None  # of the images, each number once; grey ones stored as RGB have 1
    aspect: Span | None = None  # width / height

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, where all training images have the same."""
        one = self.height[0] == self.height[1] and self.width[0] == self.width[1]
        return (self.height[0], self.width[0]) if one else None


@dataclass(frozen=True, slots=True)
class PixelValues:
    """Pixel type, extreme values, brightness, channels and size of one image, or of several together."""

    dtype: PixelType
    low: float
    high: float
    core: tuple[float, float]  # low and high without outliers
    whole: bool  # all values are whole numbers
    mean: Span
    deviation: Span  # standard, within channels; of floats without outliers, as the mean
    channels: frozenset[int]  # grey stored as RGB has 1
    height: tuple[int, int]
    width: tuple[int, int]
    aspect: Span  # width / height

    def __or__(self, other: "PixelValues") -> "PixelValues":
        return PixelValues(
            self.dtype,
            min(self.low, other.low),
            max(self.high, other.high),
            (min(self.core[0], other.core[0]), max(self.core[1], other.core[1])),
            self.whole and other.whole,
            _cover(self.mean, other.mean),
            _cover(self.deviation, other.deviation),
            self.channels | other.channels,
            _cover(self.height, other.height),
            _cover(self.width, other.width),
            _cover(self.aspect, other.aspect),
        )


def measure_values(image: Image) -> PixelValues | None:
    """The values of an image (H, W, C) as `read_image` gives it; None where some are not finite."""
    dtype: Any = str(image.dtype)
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(low + high):
        return None
    core, whole, inner = (low, high), True, image
    if dtype == "float32":
        tails = np.percentile(image, (_TAIL, 100 - _TAIL))
        core, whole = (float(tails[0]), float(tails[1])), bool((np.rint(image) == image).all())
        inner = np.clip(image, *core)
    mean, deviation = _mean_and_deviation(inner)
    (height, width), aspect = image.shape[:2], image.shape[1] / image.shape[0]
    return PixelValues(
        dtype,
        low,
        high,
        core,
        whole=whole,
        mean=(mean, mean),
        deviation=(deviation, deviation),
        channels=frozenset((count_channels(image),)),
        height=(height, height),
        width=(width, width),
        aspect=(aspect, aspect),
    )


def count_channels(image: Image) -> int:
    """Channels of an image (H, W, C) that differ: 1 of a grey one that is stored as RGB."""
    channels = int(image.shape[2])
    if channels != 3:
        return channels
    for part in (image[::_COARSE, ::_COARSE], image):
        if (part[..., 0] != part[..., 1]).any() or (part[..., 0] != part[..., 2]).any():
            return 3
    return 1


def join_values(images: Iterable[PixelValues]) -> dict[PixelType, PixelValues]:
    """The values of all images together, by pixel type."""
    joined: dict[PixelType, PixelValues] = {}
    for values in images:
        joined[values.dtype] = joined[values.dtype] | values if values.dtype in joined else values
    return joined


def make_pixel_spec(images: Iterable[PixelValues]) -> PixelSpec | None:
    """The specification of a bundle that is trained on these images; None without any."""
    joined = join_values(images)
    if not joined:
        return None
    every = list(joined.values())
    return PixelSpec(
        ranges={dtype: value_range(values) for dtype, values in joined.items()},
        height=_cover(*(values.height for values in every)),
        width=_cover(*(values.width for values in every)),
        means={dtype: values.mean for dtype, values in joined.items()},
        deviations={dtype: values.deviation for dtype, values in joined.items()},
        channels=tuple(sorted(frozenset().union(*(values.channels for values in every)))),
        aspect=_cover(*(values.aspect for values in every)),
    )


def value_range(values: PixelValues) -> tuple[float, float]:
    """The values that become 0 and 1, by the table above."""
    if values.dtype == "uint8":
        return FULL_SCALE["uint8"]
    if values.dtype == "uint16":
        return 0.0, float(2 ** (used_bits(values.high) if values.high > 0 else 16) - 1)
    low, high = values.low, values.high
    core = values.core[1] - values.core[0]
    if core > 0 and high - low > _OUTLIER_SPANS * core:
        low, high = values.core
    span = high - low
    if 0 <= low <= high <= 1 and (span >= MIN_SPAN or span == 0):
        return FULL_SCALE["float32"]
    full = float(2 ** used_bits(high) - 1)
    if values.whole and low >= 0 and high <= full and (span >= MIN_SPAN * full or span == 0):
        return 0.0, full
    margin = HEADROOM * span if span > 0 else 0.5
    return low - margin, high + margin


def used_bits(high: float) -> int:
    """Bits of a camera whose highest value is `high`."""
    return next((bits for bits in BIT_DEPTHS if high < 2**bits), BIT_DEPTHS[-1])


def describe_range(values: PixelValues) -> str | None:
    """Text for a range of values that is not the full scale of their type; None for the full scale."""
    low, high = value_range(values)
    if (low, high) == FULL_SCALE[values.dtype]:
        return None
    if values.dtype == "uint16":
        return f"{used_bits(values.high)} bits used of 16"
    if low == 0 and values.whole:
        return f"whole numbers up to {values.high:g}: {used_bits(values.high)} bits used"
    return f"numbers from {values.low:.4g} to {values.high:.4g}, taken from {low:.4g} to {high:.4g}"


def scale_pixels(image: Image, spec: PixelSpec | None) -> Image:
    """An image (H, W, C) at the scale of the training images: as it is where full scale is theirs, else float32 from 0
    to 1. Values beyond the range are cut off."""
    if spec is None or image.dtype == np.uint8:
        return image
    dtype: Any = str(image.dtype)
    low, high = spec.ranges.get(dtype, FULL_SCALE[dtype])
    if image.dtype == np.uint16 and (low, high) == FULL_SCALE["uint16"]:
        return image
    if (low, high) == FULL_SCALE["float32"]:
        return np.asarray(np.clip(image, 0, 1))
    scaled = (image.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.asarray(np.clip(scaled, 0, 1))


def restore_pixels(image: FloatImage, like: Image, spec: PixelSpec | None) -> Image:
    """The inverse of `to_unit(scale_pixels(…))`: an image (H, W, C) from 0 to 1 in the type and range of `like`."""
    dtype: Any = str(like.dtype)
    low, high = FULL_SCALE[dtype] if spec is None else spec.ranges.get(dtype, FULL_SCALE[dtype])
    values = image * np.float64(high - low) + low
    if like.dtype.kind == "f":
        return np.asarray(values, like.dtype)
    return np.asarray(np.clip(np.rint(values), 0, np.iinfo(like.dtype).max), like.dtype)


def find_misfit(
    image: NDArray[Any],
    spec: PixelSpec | None,
    *,
    tile: tuple[int, int] | None = None,
    sizes: Collection[tuple[int, int]] = (),
) -> tuple[str, str] | None:
    """Why an image (H, W, C) does not fit the training images, and in which way; None where it does.

    The first is "depth", "range" or "size"; the second holds the image's own and the training images' type, values or
    size, as text. An image that is cut into tiles (height, width) need only be as large as one of them. Where `sizes`
    (height, width) are given, no other fits.
    """
    if spec is None:
        return None
    dtype: Any = str(image.dtype)
    if dtype not in spec.ranges:
        return "depth", f"{dtype} ≠ {', '.join(spec.ranges)}"
    if spec.channels is not None and (channels := count_channels(image)) not in spec.channels:
        return "depth", f"{channels} × {dtype} ≠ {'/'.join(map(str, spec.channels))} × {dtype}"
    if (own := _size_misfit(image.shape[0], image.shape[1], spec, tile, sizes)) is not None:
        return "size", own
    own = _range_misfit(image, dtype, spec) or _content_misfit(image, dtype, spec)
    return None if own is None else ("range", own)


def _size_misfit(
    height: int, width: int, spec: PixelSpec, tile: tuple[int, int] | None, sizes: Collection[tuple[int, int]]
) -> str | None:
    own = f"{width}×{height}"
    if sizes and (height, width) not in sizes:
        return f"{own} ≠ {', '.join(f'{other[1]}×{other[0]}' for other in sizes)}"
    trained = f"{own} ≠ {_sides(spec.width)}×{_sides(spec.height)}"
    if tile is not None:  # of which some training images may have been smaller
        fits = height >= min(tile[0], spec.height[0]) and width >= min(tile[1], spec.width[0])
        return None if fits else trained
    aspect = _one_aspect(spec)
    fits = aspect is None or (aspect[0] <= width / height * (1 + _ASPECT_TOLERANCE) and
                              width / height <= aspect[1] * (1 + _ASPECT_TOLERANCE))  # fmt: skip
    return None if fits and _near(height, spec.height) and _near(width, spec.width) else trained


def _one_aspect(spec: PixelSpec) -> Span | None:
    """Width / height of the training images, where all have the same."""
    aspect = spec.aspect
    if aspect is None and spec.size is not None:
        aspect = (spec.size[1] / spec.size[0],) * 2
    return aspect if aspect is not None and aspect[1] <= aspect[0] * (1 + _ASPECT_TOLERANCE) else None


def _range_misfit(image: NDArray[Any], dtype: PixelType, spec: PixelSpec) -> str | None:
    """The values of an image where too many lie outside the training images' range, or they span too little of it."""
    low, high = float(image.min()), float(image.max())
    first, last = spec.ranges[dtype]
    far = dtype == "float32" and (first, last) == (0, 1) and (low < -_FLOAT_MARGIN or high > 1 + _FLOAT_MARGIN)
    outside = 0.0
    if low < first or high > last:
        margin = HEADROOM * (last - first) if dtype == "uint16" else 0.0
        outside = float(((image < first) | (image > last + margin)).mean())
    if far or outside > _MAX_OUTSIDE.get(dtype, 0.0) or high - low < _MIN_SPREAD * spec.spreads.get(dtype, 0.0):
        return f"{low:.4g}…{high:.4g} ≠ {first:.4g}…{last:.4g}"
    return None


def _content_misfit(image: NDArray[Any], dtype: PixelType, spec: PixelSpec) -> str | None:
    """The mean (μ) or standard deviation (σ) of an image far from those of all training images: as of one without
    light, behind a lid, saturated or of nothing. Few pixels, such as hot ones, do not hide that; an image that is
    darker or brighter by far, but not plainer, has a picture."""
    if dtype not in spec.means or dtype not in spec.deviations:
        return None
    (first, last), (darkest, brightest), (low, high) = spec.ranges[dtype], spec.means[dtype], spec.deviations[dtype]
    mean, deviation = _mean_and_deviation(np.clip(image, first, last) if dtype == "float32" else image)
    if deviation < _MIN_SHARE * low:
        return f"σ {deviation:.3g} ≠ {low:.3g}…{high:.3g}"
    extreme = mean - first < _MIN_SHARE * (darkest - first) or last - mean < _MIN_SHARE * (last - brightest)
    if extreme and deviation < low:
        return f"μ {mean:.3g} ≠ {darkest:.3g}…{brightest:.3g}"
    return None


def _mean_and_deviation(image: NDArray[Any]) -> Span:
    """Mean of an image (H, W, C), and its standard deviation within channels: a plain colour has none."""
    found = [cv2.meanStdDev(np.ascontiguousarray(image[..., at : at + 4])) for at in range(0, image.shape[2], 4)]
    means, deviations = (np.concatenate([own[kind].ravel() for own in found]) for kind in (0, 1))
    return float(means.mean()), math.sqrt(float(np.square(deviations).mean()))


def _near(side: int, trained: tuple[int, int]) -> bool:
    return trained[0] / _SIZE_RATIO <= side <= trained[1] * _SIZE_RATIO


def _sides(trained: tuple[int, int]) -> str:
    return f"{trained[0]}" if trained[0] == trained[1] else f"{trained[0]}…{trained[1]}"


def _cover(*spans: tuple[Number, Number]) -> tuple[Number, Number]:
    return min(span[0] for span in spans), max(span[1] for span in spans)
