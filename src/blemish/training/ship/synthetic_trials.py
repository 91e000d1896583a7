"""Synthetic defects of exactly known masks on good images, to teach a bundle's last steps and to judge them.

Two families that share neither shapes nor shading: what is taught on "taught" is judged on "judge", on other images.
The shapes of the synthetic set (`synthesis/exact_shapes.py`) are in neither.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blemish.arrays import FloatImage, Image, Mask
from blemish.dataset.sample import Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.imaging.pixel_range import PixelSpec, restore_pixels, scale_pixels
from blemish.imaging.prepare import to_unit
from blemish.imaging.read import read_image
from blemish.synthesis.apply import apply, used_scale
from blemish.synthesis.defect_spec import parse_defect_spec
from blemish.synthesis.diffuse_defects import DIFFUSE_KINDS, add_diffuse_defect
from blemish.synthesis.judging_defects import JUDGING_KINDS, add_judging_defect
from blemish.synthesis.scene import find_part_mask

Family = Literal["taught", "judge"]
DIFFUSE_EVERY = 3  # of so many taught defects one has no sharp edge
MAX_ATTEMPTS = 4  # seeds tried for one defect

# Every size from a few pixels to most of the part, dark and light, of other colours and of other surface.
TAUGHT = parse_defect_spec(
    {
        "pick": 1,
        "visible": 0.03,
        "steps": [
            {"kind": "scratch", "p": 1, "length": [0.08, 0.6], "width": [0.004, 0.03], "strength": [0.2, 0.9]},
            {"kind": "crack", "p": 1, "length": [0.1, 0.6], "width": [0.006, 0.03], "strength": [0.25, 0.9],
             "tone": "either"},
            {"kind": "pit", "p": 1, "length": [0.015, 0.12], "strength": [0.25, 0.9], "tone": "either"},
            {"kind": "stain", "p": 1, "length": [0.05, 0.3], "strength": [0.15, 0.8]},
            {"kind": "stain", "p": 0.5, "length": [0.3, 0.8], "strength": [0.15, 0.8]},
            {"kind": "overlay", "p": 0.75, "mask": "either", "texture": "random", "area": [0.0005, 0.03],
             "opacity": [0.3, 1]},
            {"kind": "overlay", "p": 0.75, "mask": "either", "texture": "self", "area": [0.0005, 0.03],
             "opacity": [0.5, 1]},
            {"kind": "overlay", "p": 0.5, "texture": "random", "area": [0.03, 0.3], "opacity": [0.4, 1]},
            {"kind": "overlay", "p": 0.5, "texture": "self", "area": [0.03, 0.3], "opacity": [0.6, 1]},
            {"kind": "cutpaste", "p": 0.5, "area": [0.003, 0.15]},
        ],
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticTrial:
    """A good image with one synthetic defect."""

    image: Image  # (H, W, C), of the type of the image that it was made of
    mask: Mask  # (H, W)
    kind: str
    valid: Mask | None  # (H, W), from the masks of the sample; None: all pixels
    sample: Sample  # the good image


def synthetic_trials(
    samples: Sequence[Sample], count: int, seed: int, family: Family, spec: PixelSpec | None = None
) -> Iterator[SyntheticTrial]:
    """At most `count` trials, on the good samples in turn and of all kinds in turn; the same seed gives the same ones.

    `spec` is that of the bundle: defects are as strong as its range of values is wide. A defect that fits nowhere or
    cannot be seen is left out. Raises ImageError for an image that cannot be read.
    """
    kinds = tuple(JUDGING_KINDS)
    for number in range(count if samples else 0):
        sample = samples[number % len(samples)]
        other = samples[(number * 7 + 1) % len(samples)]
        pixels = read_image(sample.image)
        size = (pixels.shape[0], pixels.shape[1])
        masked = any((sample.roi, sample.ignore, sample.mask_classes, sample.ignore_shapes))
        valid = valid_mask(sample, size) if masked else None
        level = used_scale(image := to_unit(scale_pixels(pixels, spec)))
        for attempt in range(MAX_ATTEMPTS):
            own = (seed, number, attempt)
            if family == "taught":
                made = _taught(image, valid, own, level)
            else:
                kind = kinds[(number // len(samples) + number) % len(kinds)]
                made = _judging(image / level, other, valid, kind, own, level, spec)
            if made is not None:
                changed, mask, kind = made
                yield SyntheticTrial(restore_pixels(changed, pixels, spec), mask, kind, valid, sample)
                break


def _taught(
    image: FloatImage, valid: Mask | None, seed: tuple[int, ...], level: float
) -> tuple[FloatImage, Mask, str] | None:
    if seed[1] % DIFFUSE_EVERY == DIFFUSE_EVERY - 1:
        kind = DIFFUSE_KINDS[seed[1] // DIFFUSE_EVERY % len(DIFFUSE_KINDS)]
        unit = image / np.float32(level)
        part = find_part_mask(unit)
        part = part if valid is None else part & valid
        diffuse = add_diffuse_defect(unit, part, kind, np.random.default_rng(seed))
        return None if diffuse is None else (diffuse[0] * np.float32(level), diffuse[1], kind)
    scene = apply(TAUGHT, image, seed, valid=valid, level=level)
    if not scene.defects:
        return None
    return scene.image, np.logical_or.reduce([defect.mask for defect in scene.defects]), scene.defects[0].kind


def _judging(
    image: FloatImage,
    other: Sample,
    valid: Mask | None,
    kind: str,
    seed: tuple[int, ...],
    level: float,
    spec: PixelSpec | None,
) -> tuple[FloatImage, Mask, str] | None:
    part = find_part_mask(image)
    second = to_unit(scale_pixels(read_image(other.image), spec)) / np.float32(level)
    made = add_judging_defect(
        image,
        part if valid is None else part & valid,
        kind,
        np.random.default_rng(seed),
        second if second.shape == image.shape else None,
    )
    return None if made is None else (made[0] * np.float32(level), made[1], kind)
