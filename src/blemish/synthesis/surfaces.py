"""Good surfaces: brushed metal and woven fabric rendered by rule, and the photographs that scikit-image ships."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np

from blemish.arrays import FloatMap, GreyImage
from blemish.errors import MissingExtraError, OptionError

PHOTOGRAPHS = ("brick", "grass", "gravel")


def check_surfaces(names: Sequence[str]) -> None:
    """Raises OptionError for an unknown, missing or second name, MissingExtraError for one that needs scikit-image."""
    if not names:
        raise OptionError(f"name a surface: {', '.join(SURFACES)}")
    if len(set(names)) < len(names):
        raise OptionError("name every surface once")
    for name in names:
        if name in PHOTOGRAPHS:
            _photograph(name)
        elif name not in RENDERED:
            raise OptionError(f"there is no surface '{name}'; choose from {', '.join(SURFACES)}")


def render_surface(name: str, rng: np.random.Generator, size: int) -> GreyImage:
    """A good surface (size, size) in [0, 1]: a different one at each call, in slightly different light.

    Raises OptionError for an unknown name, MissingExtraError where a photograph needs scikit-image.
    """
    check_surfaces([name])
    picture = RENDERED[name](rng, size) if name in RENDERED else _crop(_photograph(name), rng, size)
    return np.clip(picture * _light(rng, size) + rng.normal(0, 0.006, (size, size)), 0, 1).astype(np.float32)


def metal(rng: np.random.Generator, size: int) -> GreyImage:
    """Brushed metal: grain much longer than wide, at several widths."""
    picture = np.full((size, size), 0.62, np.float32)
    for across, along, strength in ((0.6, 30, 0.16), (1.5, 60, 0.13), (5, 90, 0.10)):
        noise = rng.normal(size=(size, size)).astype(np.float32)
        grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=along * size / 256, sigmaY=across)
        picture += grain / grain.std() * strength * 0.25
    return picture


def fabric(rng: np.random.Generator, size: int) -> GreyImage:
    """Plain weave: warp and weft threads that pass over and under each other."""
    period = size / 32
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    sway = cv2.GaussianBlur(rng.normal(size=(2, size, size)).astype(np.float32)[0], (0, 0), size / 12)
    x, y = x + rng.uniform(0, period) + 12 * sway / sway.std() * 0.1, y + rng.uniform(0, period)
    warp = np.abs(np.sin(math.pi * x / period))
    weft = np.abs(np.sin(math.pi * y / period))
    over = np.sin(math.pi * x / period) * np.sin(math.pi * y / period) > 0
    lint = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 1.0)
    return (0.35 + 0.3 * np.where(over, warp, weft) + 0.025 * lint / lint.std()).astype(np.float32, copy=False)


RENDERED: dict[str, Callable[[np.random.Generator, int], GreyImage]] = {"metal": metal, "fabric": fabric}
SURFACES = (*RENDERED, *PHOTOGRAPHS)


def _light(rng: np.random.Generator, size: int) -> FloatMap:
    """A slow gradient and an overall brightness."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    tilt = rng.uniform(0, 0.12)
    return rng.uniform(0.93, 1.07) * (1 + tilt * (x * math.cos(angle) + y * math.sin(angle)))


def _crop(picture: GreyImage, rng: np.random.Generator, size: int) -> GreyImage:
    side = min(picture.shape[0], 320)
    y, x = (int(v) for v in rng.integers(0, picture.shape[0] - side + 1, 2))
    crop = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.float32)


@cache
def _photograph(name: str) -> GreyImage:
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError(
            f"the surface '{name}' comes with scikit-image; pip install 'blemish[train]', or take {', '.join(RENDERED)}"
        ) from error
    return getattr(data, name)().astype(np.float32) / 255
