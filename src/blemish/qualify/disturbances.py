"""Disturbed images: what camera, light, fixture and dirt may do to them, in rising strength.

All work on images (H, W, C) of uint8, uint16 or float32 as they are read, and keep type and size. What comes into view
from outside repeats the border.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Image

_DUST_RADIUS = 0.004  # of the longer side
_Rng = np.random.Generator


@dataclass(frozen=True)
class Disturbance:
    """One kind: `apply(image, level, rng)` gives the disturbed image; levels from mild to strong."""

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Image, float, _Rng], Image]


def scale_brightness(image: Image, factor: float, rng: _Rng) -> Image:
    return _from_float(_to_float(image) * factor, image)


def scale_contrast(image: Image, factor: float, rng: _Rng) -> Image:
    """Differences from the image's mean times the factor."""
    grey = _to_float(image)
    mean = grey.mean(axis=(0, 1))
    return _from_float(mean + factor * (grey - mean), image)


def blur(image: Image, sigma: float, rng: _Rng) -> Image:
    return _from_float(_channels(cv2.GaussianBlur(_to_float(image), (0, 0), sigma)), image)


def add_noise(image: Image, sigma: float, rng: _Rng) -> Image:
    """Normal noise of sigma, a share of full scale."""
    return _from_float(_to_float(image) + sigma * rng.standard_normal(image.shape).astype(np.float32), image)


def shift(image: Image, share: float, rng: _Rng) -> Image:
    """By a share of the longer side, into a random direction."""
    angle, distance = rng.uniform(0, 2 * np.pi), share * max(image.shape[:2])
    return _warp(image, np.array([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]]))


def turn(image: Image, degrees: float, rng: _Rng) -> Image:
    """Around the middle, to either side."""
    return _warp(image, cv2.getRotationMatrix2D(_middle(image), degrees * rng.choice((-1, 1)), 1.0))


def resize(image: Image, factor: float, rng: _Rng) -> Image:
    """Larger or smaller by the factor, at random."""
    return _warp(image, cv2.getRotationMatrix2D(_middle(image), 0.0, float(factor ** rng.choice((-1, 1)))))


def compress_jpeg(image: Image, quality: float, rng: _Rng) -> Image:
    """Through 8 bits and a JPEG file; images that have neither one nor three channels go channel by channel."""
    eight = np.round(np.clip(_to_float(image), 0, 1) * 255).astype(np.uint8)
    parts = [eight] if eight.shape[2] in (1, 3) else [eight[..., c : c + 1] for c in range(eight.shape[2])]
    done = []
    for part in parts:
        file = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
        back = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE if part.shape[2] == 1 else cv2.IMREAD_COLOR)
        done.append(_channels(np.asarray(back)))
    return _from_float(np.concatenate(done, axis=2) / np.float32(255), image)


def add_dust(image: Image, specks: float, rng: _Rng) -> Image:
    """Soft dark specks at random places, about 0.4 % of the longer side in radius."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.float32)
    for _ in range(int(specks)):
        radius = max(0.8, _DUST_RADIUS * max(height, width) * rng.uniform(0.6, 1.4))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        rows, columns = np.ogrid[0:height, 0:width]
        cover = np.maximum(cover, np.clip(radius + 0.5 - np.hypot(rows - y, columns - x), 0, 1))
    return _from_float(_to_float(image) * (1 - 0.7 * cover[..., None]), image)


DISTURBANCES = (
    Disturbance("darker", "times the light", (0.95, 0.9, 0.8, 0.7, 0.6, 0.5), scale_brightness),
    Disturbance("brighter", "times the light", (1.05, 1.1, 1.2, 1.3, 1.45, 1.6), scale_brightness),
    Disturbance("lower contrast", "times the contrast", (0.95, 0.9, 0.8, 0.7, 0.6, 0.5), scale_contrast),
    Disturbance("higher contrast", "times the contrast", (1.05, 1.1, 1.2, 1.3, 1.45, 1.6), scale_contrast),
    Disturbance("blur", "σ in px", (0.5, 0.8, 1.2, 1.8, 2.7, 4.0), blur),
    Disturbance("noise", "σ, of full scale", (0.005, 0.01, 0.02, 0.04, 0.08), add_noise),
    Disturbance("shift", "of the longer side", (0.005, 0.01, 0.02, 0.03, 0.05, 0.1), shift),
    Disturbance("turn", "degrees", (0.5, 1.0, 2.0, 3.0, 5.0, 10.0), turn),
    Disturbance("size", "times the size, or less", (1.01, 1.02, 1.05, 1.1), resize),
    Disturbance("JPEG", "quality", (95, 90, 75, 50, 30), compress_jpeg),
    Disturbance("dust", "specks", (1, 3, 10, 30), add_dust),
)


def _to_float(image: Image) -> NDArray[np.float32]:
    """Full scale 1."""
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    return np.asarray(image.astype(np.float32) / full, np.float32)


def _from_float(values: NDArray[Any], image: Image) -> Image:
    """As the image's type, clipped to its range; float images have no upper end."""
    if image.dtype.kind != "u":
        return np.asarray(np.maximum(values, 0), image.dtype)
    full = np.iinfo(image.dtype).max
    return np.asarray(np.round(np.clip(values, 0, 1) * full), image.dtype)


def _warp(image: Image, matrix: NDArray[Any]) -> Image:
    size = image.shape[1], image.shape[0]
    return _channels(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _middle(image: Image) -> tuple[float, float]:
    return (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2


def _channels(image: Image) -> Image:
    """(H, W, C), as OpenCV drops a single channel."""
    return image[..., None] if image.ndim == 2 else image
