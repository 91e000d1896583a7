"""What an overlay shows: drawn textures, the image itself displaced, or pictures of a folder."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.image_files import images_in
from blemish.errors import OptionError
from blemish.imaging.prepare import match_channels, resize, to_unit
from blemish.imaging.read import read_image
from blemish.synthesis.noise import fractal
from blemish.synthesis.recipe import Overlay, Recipe

Floats = NDArray[Any]


def texture(source: str, image: Floats, rng: np.random.Generator) -> Floats:
    """A texture of the shape of an image (H, W, C), in [0, 1].

    `source`: "drawn", "self", or a folder of pictures; OptionError where the folder holds none.
    """
    if source == "drawn":
        return drawn(rng, *image.shape)
    if source == "self":
        return displaced(image, rng)
    pictures = pictures_of(source)
    return crop_of(pictures[int(rng.integers(len(pictures)))], image.shape, rng)


def drawn(rng: np.random.Generator, height: int, width: int, channels: int) -> Floats:
    """Fractal noise between two random colours, at times with bands or specks of a third."""
    first, second, third = rng.random((3, 1, 1, channels), np.float32)
    ground = fractal(rng, height, width, float(rng.uniform(0.4, 0.9)))[..., None]
    picture = first + (second - first) * ground
    if rng.random() < 0.5:
        marks = fractal(rng, height, width, 0.9, int(2 ** rng.integers(1, 5)))[..., None]
        picture = np.where(marks > rng.uniform(0.45, 0.7), third, picture)
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def displaced(image: Floats, rng: np.random.Generator) -> Floats:
    """The image turned by half or mirrored, shifted round its border, its colours changed."""
    height, width = image.shape[:2]
    moved = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    moved = np.roll(moved, (int(rng.integers(height)), int(rng.integers(width))), (0, 1))
    gain, offset = rng.uniform(0.6, 1.4, image.shape[2]), rng.uniform(-0.2, 0.2)
    return np.asarray(np.clip(gain * moved + offset, 0, 1), np.float32)


def check_textures(recipe: Recipe) -> None:
    """Raises OptionError where a step takes its texture from a folder that holds no pictures."""
    for step in recipe.steps:
        if isinstance(step, Overlay) and step.texture not in ("drawn", "self"):
            pictures_of(step.texture)


@lru_cache(maxsize=8)
def pictures_of(folder: str) -> tuple[Path, ...]:
    """Image files below a folder; raises OptionError where there are none."""
    found = tuple(images_in(Path(folder), deep=True)) if Path(folder).is_dir() else ()
    if not found:
        raise OptionError(f"texture: '{folder}' is neither drawn nor self, nor a folder that holds pictures")
    return found


def crop_of(path: Path, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """A random part of a picture as (H, W, C), enlarged where the picture is smaller."""
    height, width, channels = shape
    picture = read_image(path)
    scale = max(height / picture.shape[0], width / picture.shape[1], rng.uniform(0.3, 1.0))
    size = max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale))
    picture = to_unit(resize(picture, *size))
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(size, (height, width), strict=True))
    part = picture[top : top + height, left : left + width]
    if part.shape[2] != channels and (part.shape[2], channels) not in ((1, 3), (3, 1)):
        part = part.mean(axis=2, keepdims=True).repeat(channels, axis=2)
    return np.asarray(match_channels(np.ascontiguousarray(part), channels), np.float32)


def components(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """8-connected regions of a mask (H, W), each as a mask of the whole."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return [labels == number for number in range(1, count)]
