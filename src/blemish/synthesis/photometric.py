"""Steps that change how an image looks but not where its defects are. Images (H, W, C) float32 in [0, 1]."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatImage
from blemish.synthesis.defect_spec import Blur, Light, MotionBlur, Noise, SaltAndPepper


def blur(image: FloatImage, step: Blur, rng: np.random.Generator) -> FloatImage:
    """Out of focus: a Gaussian."""
    return _with_channels(cv2.GaussianBlur(image, (0, 0), rng.uniform(*step.sigma)), image)


def motion_blur(image: FloatImage, step: MotionBlur, rng: np.random.Generator) -> FloatImage:
    """The mean along a short straight line."""
    length, turn = rng.uniform(*step.length), math.radians(rng.uniform(*step.turn))
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), np.float32)
    for t in np.linspace(-0.5, 0.5, 8 * side):
        x, y = side // 2 + t * length * math.cos(turn), side // 2 + t * length * math.sin(turn)
        kernel[round(y), round(x)] += 1
    return _with_channels(cv2.filter2D(image, -1, kernel / kernel.sum()), image)


def noise(image: FloatImage, step: Noise, rng: np.random.Generator) -> FloatImage:
    """Gaussian noise, independent in every pixel and channel."""
    return _clipped(image + rng.uniform(*step.sigma) * rng.standard_normal(image.shape, np.float32))


def salt_and_pepper(image: FloatImage, step: SaltAndPepper, rng: np.random.Generator) -> FloatImage:
    """Pixels that are dead or saturated, all channels at once."""
    hit = rng.random(image.shape[:2]) < rng.uniform(*step.share)
    value = (rng.random(image.shape[:2]) < 0.5).astype(np.float32)
    return np.where(hit[..., None], value[..., None], image)


def light(image: FloatImage, step: Light, rng: np.random.Generator) -> FloatImage:
    """A linear fall of brightness across the picture in a random direction, and a gain."""
    height, width = image.shape[:2]
    angle, gradient, gain = rng.uniform(0, 2 * math.pi), rng.uniform(*step.gradient), rng.uniform(*step.gain)
    y, x = np.linspace(-0.5, 0.5, height, dtype=np.float32), np.linspace(-0.5, 0.5, width, dtype=np.float32)
    fall = 1 + gradient * (math.cos(angle) * x[None] + math.sin(angle) * y[:, None])
    return _clipped(gain * fall[..., None] * image)


def _with_channels(result: NDArray[Any], image: FloatImage) -> FloatImage:
    return _clipped(result.reshape(image.shape))  # OpenCV drops a single channel


def _clipped(image: NDArray[Any]) -> FloatImage:
    return np.asarray(np.clip(image, 0, 1), np.float32)
