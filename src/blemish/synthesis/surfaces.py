"""Good surfaces: brushed metal and woven fabric drawn by rule, and the photographs that scikit-image ships."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import MissingExtraError, OptionError

Floats = NDArray[Any]  # float32
PHOTOGRAPHS = ("brick", "grass", "gravel")


def check_surfaces(names: Sequence[str]) -> None:
    """Raises OptionError for an unknown name or none, MissingExtraError where a photograph needs scikit-image."""
    if not names:
        raise OptionError(f"name a surface: {', '.join(SURFACES)}")
    for name in names:
        if name in PHOTOGRAPHS:
            _photograph(name)
        elif name not in DRAWN:
            raise OptionError(f"there is no surface '{name}'; choose from {', '.join(SURFACES)}")


def surface(name: str, rng: np.random.Generator, size: int) -> Floats:
    """A good surface (size, size) in [0, 1]: another one at each call, under slightly other light.

    Raises OptionError for an unknown name, MissingExtraError where a photograph needs scikit-image.
    """
    check_surfaces([name])
    picture = DRAWN[name](rng, size) if name in DRAWN else _crop(_photograph(name), rng, size)
    return np.clip(picture * _light(rng, size) + rng.normal(0, 0.006, (size, size)), 0, 1).astype(np.float32)


def metal(rng: np.random.Generator, size: int) -> Floats:
    """Brushed metal: grain much longer than wide, at several widths."""
    picture = np.full((size, size), 0.62, np.float32)
    for across, along, strength in ((0.6, 30, 0.16), (1.5, 60, 0.13), (5, 90, 0.10)):
        noise = rng.normal(size=(size, size)).astype(np.float32)
        grain: Floats = cv2.GaussianBlur(noise, (0, 0), sigmaX=along * size / 256, sigmaY=across)
        picture += grain / grain.std() * strength * 0.25
    return picture


def fabric(rng: np.random.Generator, size: int) -> Floats:
    """Plain weave: warp and weft threads that pass over and under each other."""
    period = size / 32
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    sway: Floats = cv2.GaussianBlur(rng.normal(size=(2, size, size)).astype(np.float32)[0], (0, 0), size / 12)
    x, y = x + rng.uniform(0, period) + 12 * sway / sway.std() * 0.1, y + rng.uniform(0, period)
    warp = np.abs(np.sin(math.pi * x / period))
    weft = np.abs(np.sin(math.pi * y / period))
    over = np.sin(math.pi * x / period) * np.sin(math.pi * y / period) > 0
    lint: Floats = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 1.0)
    picture: Floats = 0.35 + 0.3 * np.where(over, warp, weft) + 0.025 * lint / lint.std()
    return picture.astype(np.float32, copy=False)


DRAWN: dict[str, Callable[[np.random.Generator, int], Floats]] = {"metal": metal, "fabric": fabric}
SURFACES = (*DRAWN, *PHOTOGRAPHS)


def _light(rng: np.random.Generator, size: int) -> Floats:
    """A slow gradient and an overall brightness."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    tilt = rng.uniform(0, 0.12)
    light: Floats = rng.uniform(0.93, 1.07) * (1 + tilt * (x * math.cos(angle) + y * math.sin(angle)))
    return light


def _crop(picture: Floats, rng: np.random.Generator, size: int) -> Floats:
    side = min(picture.shape[0], 320)
    y, x = (int(v) for v in rng.integers(0, picture.shape[0] - side + 1, 2))
    part = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    found: Floats = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    return found


@cache
def _photograph(name: str) -> Floats:
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError(
            f"the surface '{name}' comes with scikit-image; pip install 'blemish[train]', or take {', '.join(DRAWN)}"
        ) from error
    picture: Floats = getattr(data, name)().astype(np.float32) / 255
    return picture
