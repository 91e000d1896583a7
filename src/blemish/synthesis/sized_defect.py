"""One synthetic defect of a given kind, length and contrast on an image, for sweeps of both."""

from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatImage, Mask
from blemish.synthesis.apply import apply
from blemish.synthesis.defect_spec import DefectSpec, parse_defect_spec
from blemish.synthesis.scene import PartMask, find_part_mask
from blemish.synthesis.shapes import IRREGULAR_SHAPES, LINES, MIN_WIDTH

SWEPT_KINDS = tuple(IRREGULAR_SHAPES)
LINE_ASPECT = 25  # length over width of scratches and cracks, which are not thinner than a pixel


@dataclass(frozen=True)
class SizedDefect:
    """An image (H, W, C) float32 in [0, 1] with one defect, its mask (H, W), and its size in px.

    `contrast` is measured: the mean absolute change of the pixels of the mask, a share of full scale.
    """

    image: FloatImage
    mask: Mask
    length: float
    width: float
    contrast: float


def draw_sized_defect(
    image: FloatImage,
    kind: str,
    length: float,
    strength: float,
    seed: tuple[int, ...],
    *,
    valid: Mask | None = None,
    level: float = 1.0,
) -> SizedDefect | None:
    """Draw a defect about `length` px long on the part in an image (H, W, C); the same seed gives the same defect.

    `strength` is that of a defect specification: about the largest change, a share of the surface's brightness. Unlike
    there, a defect is drawn however faint it is. Where it fits nowhere it is made smaller; None where that too fails.
    `valid` (H, W) limits where it may lie, `level` is as in `apply`. Raises OptionError for an unknown kind.
    """
    part = PartMask(find_part_mask(image / level), extent=1.0)  # so that lengths of the specification are in px
    scene = apply(_one_defect(kind, length, strength), image, seed, valid=valid, part=part, level=level)
    if not scene.defects:
        return None
    defect = scene.defects[0]
    contrast = float(np.abs(scene.image - image).mean(axis=2)[defect.mask].mean())
    return SizedDefect(scene.image, defect.mask, defect.details["length_px"], defect.details["width_px"], contrast)


def _one_defect(kind: str, length: float, strength: float) -> DefectSpec:
    step = {"kind": kind, "length": length, "strength": strength}
    if kind in LINES:
        step["width"] = max(MIN_WIDTH, length / LINE_ASPECT)
    return parse_defect_spec({"steps": [step], "visible": 0.0}, "the sweep")
