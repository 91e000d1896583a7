"""From an image to the network's input, and from the network's geometry back to the image.

Training and inspection both use these functions, so that the network sees in the field what it was trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatImage, Mask
from blemish.errors import ImageError

FitMode = Literal["stretch", "letterbox"]
_OPENCV_CHANNELS = 4  # area interpolation, warps and means support no more at a time


@dataclass(frozen=True, slots=True)
class FitTransform:
    """network = image * scale + offset, for pixel edges (x from 0 to width)."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def to_network(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points (..., 2) or boxes (..., 4) as x y [x y], from image to network."""
        scale, offset = self._along(points)
        return np.asarray(points, np.float64) * scale + offset

    def to_image(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points (..., 2) or boxes (..., 4) as x y [x y], from network to image."""
        scale, offset = self._along(points)
        return (np.asarray(points, np.float64) - offset) / scale

    def _along(self, points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        pairs = np.shape(points)[-1] // 2
        return np.tile([self.scale_x, self.scale_y], pairs), np.tile([self.offset_x, self.offset_y], pairs)


def fit_transform(size: tuple[int, int], height: int, width: int, fit: FitMode) -> FitTransform:
    """How an image of `size` (height, width) is placed in the network's height × width."""
    if fit == "stretch":
        return FitTransform(width / size[1], height / size[0], 0.0, 0.0)
    scale = min(height / size[0], width / size[1])
    inner_height, inner_width = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return FitTransform(
        inner_width / size[1], inner_height / size[0], (width - inner_width) // 2, (height - inner_height) // 2
    )


def to_unit(image: NDArray[Any], out: FloatImage | None = None) -> FloatImage:
    """Full scale = 1: uint8 / 255, uint16 / 65535, float as it is, clipped to [0, 1]; with `out`, written there.

    A float image that is not finite, or plainly on another scale, is an ImageError rather than a white image.
    """
    if image.dtype == np.uint8:
        return np.asarray(np.divide(image, 255, out=out, dtype=np.float32))
    if image.dtype == np.uint16:
        return np.asarray(np.divide(image, 65535, out=out, dtype=np.float32))
    if image.dtype.kind != "f":
        raise ImageError(f"pixels of type {image.dtype} are not understood; give uint8, uint16 or float from 0 to 1")
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not np.isfinite(low + high):
        raise ImageError("the image has pixels that are not finite (NaN or infinity); replace them first")
    if low < -0.5 or high > 1.5:
        raise ImageError(f"float pixels go from {low:.4g} to {high:.4g}; scale them to 0 to 1")
    if out is not None:
        return np.clip(image, 0, 1, out=out, casting="same_kind")
    return np.asarray(np.clip(image, 0, 1), np.float32)


def match_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """(H, W, C) with the wanted number of channels: grey to RGB by repeating, RGB to grey by luminance."""
    have = image.shape[2]
    if have == channels:
        return image
    if have == 1 and channels == 3:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if have == 3 and channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    raise ImageError(f"the image has {have} channels, the network takes {channels}; train on images of the same kind")


def by_channels(image: NDArray[Any], operation: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """An OpenCV operation on an image (H, W, C), a few channels at a time, because it supports no more."""
    groups = [image] if image.shape[2] <= _OPENCV_CHANNELS else _channel_groups(image)
    results = [np.atleast_3d(operation(group)) for group in groups]
    return results[0] if len(results) == 1 else np.concatenate(results, axis=2)


def resize(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(H, W, C) to (height, width, C): means of areas along an axis that shrinks, linear along one that grows."""
    if image.shape[:2] == (height, width):
        return image
    if (height - image.shape[0]) * (width - image.shape[1]) < 0:  # one axis grows: shrink the other first
        image = _resize(image, min(height, image.shape[0]), min(width, image.shape[1]), cv2.INTER_AREA)
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return _resize(image, height, width, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def fit_image(image: NDArray[Any], height: int, width: int, fit: FitMode) -> tuple[NDArray[Any], FitTransform]:
    """Image (H, W, C) placed in (height, width, C), and how; a letterbox is padded with the image's mean."""
    transform = fit_transform((image.shape[0], image.shape[1]), height, width, fit)
    if fit == "stretch":
        return resize(image, height, width), transform
    rows, columns = _inner(transform, (image.shape[0], image.shape[1]))
    inner = resize(image, rows.stop - rows.start, columns.stop - columns.start)
    mean = _mean(inner)
    mean = mean if image.dtype.kind == "f" else np.rint(mean)
    placed = np.empty((height, width, image.shape[2]), image.dtype)
    placed[: rows.start], placed[rows.stop :] = mean, mean
    placed[rows, : columns.start], placed[rows, columns.stop :] = mean, mean
    placed[rows, columns] = inner
    return placed, transform


def fit_mask(mask: Mask, height: int, width: int, fit: FitMode, pad: bool = False) -> Mask:
    """Mask (H, W) placed like its image, nearest pixel; `pad` is what a letterbox's border holds."""
    transform = fit_transform((mask.shape[0], mask.shape[1]), height, width, fit)
    rows, columns = _inner(transform, (mask.shape[0], mask.shape[1]))
    size = (columns.stop - columns.start, rows.stop - rows.start)
    placed = np.full((height, width), pad)
    placed[rows, columns] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    return placed


def prepare(
    image: NDArray[Any], channels: int, height: int, width: int, fit: FitMode, out: FloatImage | None = None
) -> FloatImage:
    """Image (H, W, C) of any depth as the network's (channels, height, width) float32, full scale 1.

    With `out` it is written there.
    """
    fitted, _ = fit_image(match_channels(image, channels), height, width, fit)  # resized before floats: four times less
    return to_unit(np.ascontiguousarray(fitted.transpose(2, 0, 1)), out)


def map_to_image(
    values: NDArray[np.float32], how: FitTransform | FitMode, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Map (h, w) in the network's geometry as (H, W) of the image, linear, without the letterbox's padding.

    A map coarser than the network's input needs the fit's name: its geometry is then that of the map itself.
    """
    transform = (
        how if isinstance(how, FitTransform) else fit_transform(image_size, values.shape[0], values.shape[1], how)
    )
    rows, columns = _inner(transform, image_size)
    inner = np.ascontiguousarray(values[rows, columns], np.float32)
    if inner.shape == image_size:
        return inner
    return np.asarray(cv2.resize(inner, (image_size[1], image_size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _inner(transform: FitTransform, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the network's input that the image fills."""
    top, left = round(transform.offset_y), round(transform.offset_x)
    height, width = round(size[0] * transform.scale_y), round(size[1] * transform.scale_x)
    return slice(top, top + height), slice(left, left + width)


def _mean(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each channel; OpenCV is ten times faster at it than NumPy, but takes four channels at a time."""
    return np.concatenate([cv2.mean(group)[: group.shape[2]] for group in _channel_groups(image)])


def _channel_groups(image: NDArray[Any]) -> list[NDArray[Any]]:
    starts = range(0, image.shape[2], _OPENCV_CHANNELS)
    return [np.ascontiguousarray(image[..., at : at + _OPENCV_CHANNELS]) for at in starts]


def _resize(image: NDArray[Any], height: int, width: int, interpolation: int) -> NDArray[Any]:
    return by_channels(image, lambda layers: cv2.resize(layers, (width, height), interpolation=interpolation))
