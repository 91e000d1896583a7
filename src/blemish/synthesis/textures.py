"""Textures for overlays: random ones, the image itself displaced, or pictures of a folder."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from blemish.arrays import FloatImage
from blemish.dataset.image_files import list_images
from blemish.errors import OptionError
from blemish.imaging.prepare import match_channels, resize, to_unit
from blemish.imaging.read import read_image
from blemish.synthesis.defect_spec import DefectSpec, Overlay
from blemish.synthesis.noise import fractal_noise


def make_texture(source: str, image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """A texture of the shape of an image (H, W, C), in [0, 1].

    `source`: "random", "self", or a folder of pictures; OptionError where the folder holds none.
    """
    if source == "random":
        return random_texture(rng, *image.shape)
    if source == "self":
        return displace(image, rng)
    pictures = list_pictures(source)
    return random_crop(pictures[int(rng.integers(len(pictures)))], image.shape, rng)


def random_texture(rng: np.random.Generator, height: int, width: int, channels: int) -> FloatImage:
    """Fractal noise between two random colours, at times with bands or specks of a third."""
    first, second, third = rng.random((3, 1, 1, channels), np.float32)
    ground = fractal_noise(rng, height, width, float(rng.uniform(0.4, 0.9)))[..., None]
    picture = first + (second - first) * ground
    if rng.random() < 0.5:
        marks = fractal_noise(rng, height, width, 0.9, int(2 ** rng.integers(1, 5)))[..., None]
        picture = np.where(marks > rng.uniform(0.45, 0.7), third, picture)
    return np.clip(picture, 0, 1).astype(np.float32)


def displace(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """The image turned by half or mirrored, shifted round its border, its colours changed."""
    height, width = image.shape[:2]
    moved = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    moved = np.roll(moved, (int(rng.integers(height)), int(rng.integers(width))), (0, 1))
    gain, offset = rng.uniform(0.6, 1.4, image.shape[2]), rng.uniform(-0.2, 0.2)
    return np.clip(gain * moved + offset, 0, 1).astype(np.float32)


def check_textures(spec: DefectSpec) -> None:
    """Raises OptionError where a step takes its texture from a folder that holds no pictures."""
    for step in spec.steps:
        if isinstance(step, Overlay) and step.texture not in ("random", "self"):
            list_pictures(step.texture)


@lru_cache(maxsize=8)
def list_pictures(folder: str) -> tuple[Path, ...]:
    """Image files below a folder; raises OptionError where there are none."""
    files = tuple(list_images(Path(folder), deep=True)) if Path(folder).is_dir() else ()
    if not files:
        raise OptionError(f"texture: '{folder}' is neither random nor self, nor a folder that holds pictures")
    return files


def random_crop(path: Path, shape: tuple[int, ...], rng: np.random.Generator) -> FloatImage:
    """A random crop of a picture as (H, W, C), enlarged where the picture is smaller."""
    height, width, channels = shape
    picture = read_image(path)
    scale = max(height / picture.shape[0], width / picture.shape[1], rng.uniform(0.3, 1.0))
    size = max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale))
    picture = to_unit(resize(picture, *size))
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(size, (height, width), strict=True))
    crop = picture[top : top + height, left : left + width]
    if crop.shape[2] != channels and (crop.shape[2], channels) not in ((1, 3), (3, 1)):
        crop = crop.mean(axis=2, keepdims=True).repeat(channels, axis=2)
    return np.asarray(match_channels(np.ascontiguousarray(crop), channels), np.float32)
