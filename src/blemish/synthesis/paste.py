"""Pasting a cut-out onto an image: colour match, soft edge, Poisson blending."""

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Mask
from blemish.synthesis.cutouts import DefectCutout
from blemish.synthesis.defect_spec import Paste
from blemish.synthesis.scene import MAX_POSITIONS, find_free_position

RIM = 6  # px of a cut-out's surroundings that Poisson blending takes along


def transform_cutout(
    piece: DefectCutout, step: Paste, rng: np.random.Generator, scale: float = 1.0
) -> tuple[DefectCutout, dict[str, Any]]:
    """The cut-out mirrored, turned and scaled, and how.

    One that touches a border of its image is only mirrored: it belongs to a border.
    """
    across, down = (step.mirror and bool(rng.random() < 0.5) for _ in range(2))
    piece = mirror_cutout(piece, across, down)
    details: dict[str, Any] = {"mirror_x": across, "mirror_y": down}
    if any(piece.sides):
        return piece, details
    turn, size = rng.uniform(*step.turn), scale * rng.uniform(*step.size)
    height, width = piece.mask.shape
    c, s = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
    new = (math.ceil(size * (width * c + height * s)), math.ceil(size * (width * s + height * c)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, size)
    matrix[:, 2] += ((new[0] - width) / 2, (new[1] - height) / 2)
    turned = cv2.warpAffine(piece.pixels, matrix, new, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    cover = cv2.warpAffine(piece.mask.astype(np.float32), matrix, new, flags=cv2.INTER_LINEAR)
    details |= {"turn": round(turn, 1), "size": round(size, 3)}
    pixels = np.asarray(turned, np.float32).reshape(new[1], new[0], -1)
    return replace(piece, pixels=pixels, mask=cover >= 0.5), details


def mirror_cutout(piece: DefectCutout, across: bool, down: bool) -> DefectCutout:
    """The cut-out mirrored left to right and upside down; the borders that it touches change sides."""
    left, top, right, bottom = piece.sides
    if across:
        left, right = right, left
    if down:
        top, bottom = bottom, top
    way = np.s_[:: -1 if down else 1, :: -1 if across else 1]
    pixels, mask = np.ascontiguousarray(piece.pixels[way]), np.ascontiguousarray(piece.mask[way])
    return replace(piece, pixels=pixels, mask=mask, sides=(left, top, right, bottom))


def find_paste_position(piece: DefectCutout, free: Mask, rng: np.random.Generator) -> tuple[int, int] | None:
    """Row and column for the upper left corner of the cut-out's patch, or None where it fits nowhere."""
    x, y, width, height = cv2.boundingRect(piece.mask.astype(np.uint8))
    tight = piece.mask[y : y + height, x : x + width]
    if not any(piece.sides):
        at = find_free_position(rng, tight, free)
        return None if at is None else (at[0] - y, at[1] - x)
    left, top, right, bottom = piece.sides
    for _ in range(MAX_POSITIONS):
        room_y, room_x = free.shape[0] - height, free.shape[1] - width
        if room_y < 0 or room_x < 0 or (top and bottom and room_y) or (left and right and room_x):
            return None
        row = 0 if top else room_y if bottom else int(rng.integers(room_y + 1))
        column = 0 if left else room_x if right else int(rng.integers(room_x + 1))
        if not (tight & ~free[row : row + height, column : column + width]).any():
            return row - y, column - x
    return None


def blend_cutout(
    image: FloatImage, part: Mask, piece: DefectCutout, at: tuple[int, int], step: Paste, poisson: bool
) -> FloatImage:
    """A copy of the image (H, W, C) with the cut-out's defect on it; nothing off the part changes."""
    height, width = piece.mask.shape
    pad = RIM + 3
    rows, columns = slice(at[0] - pad, at[0] + height + pad), slice(at[1] - pad, at[1] + width + pad)
    frame = ((pad, pad), (pad, pad))
    patch = np.pad(piece.pixels, (*frame, (0, 0)), mode="edge")
    defect = np.pad(piece.mask, frame)
    inside_rows = slice(max(0, rows.start), min(image.shape[0], rows.stop))
    inside_columns = slice(max(0, columns.start), min(image.shape[1], columns.stop))
    own = np.s_[
        inside_rows.start - rows.start : inside_rows.stop - rows.start,
        inside_columns.start - columns.start : inside_columns.stop - columns.start,
    ]
    patch, defect = patch[own], defect[own]
    target = image[inside_rows, inside_columns]
    allowed = part[inside_rows, inside_columns]
    patch = match_brightness(patch, defect, target, step.match)
    if poisson:
        patch = clone_poisson(patch, defect, target)
    weight = soft_weight(defect, step.edge)[..., None] * allowed[..., None]
    result = image.copy()
    result[inside_rows, inside_columns] = np.clip(target + weight * (patch - target), 0, 1)
    return result


def match_brightness(patch: FloatImage, defect: Mask, target: FloatImage, share: float) -> FloatImage:
    """The patch with its brightness moved so that the ring around the defect looks like its new surroundings.

    By ratios, as light works, where the ring is not dark; each channel by itself.
    """
    ring = cv2.dilate(defect.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~defect
    if not ring.any():
        return patch
    have, want = patch[ring].mean(axis=0), target[ring].mean(axis=0)
    gain = np.clip((want + 0.05) / (have + 0.05), 0.4, 2.5)
    return np.asarray(np.clip(patch * (1 + share * (gain - 1)), 0, 1), np.float32)


def soft_weight(defect: Mask, edge: float) -> FloatMap:
    """Weight (h, w): 1 on the defect, falling to 0 over `edge` px around it."""
    if edge <= 0:
        return defect.astype(np.float32)
    distance = cv2.distanceTransform((~defect).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(np.clip(1 - distance / (edge + 1), 0, 1), np.float32)


def clone_poisson(patch: FloatImage, defect: Mask, target: FloatImage) -> FloatImage:
    """Poisson blending (Pérez et al. 2003) by OpenCV, in 8 bits; the patch itself where it cannot be done."""
    channels = patch.shape[2]
    if channels not in (1, 3):
        return patch
    # OpenCV takes the cut-out's gradients only from 3 px within the mask on: the defect's edge has to lie deeper.
    near = cv2.dilate(defect.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1)))
    near[[0, -1]], near[:, [0, -1]] = 0, 0
    x, y, width, height = cv2.boundingRect(near)
    if width < 3 or height < 3:
        return patch
    source, ground = (
        np.ascontiguousarray(np.round(255 * picture).astype(np.uint8).repeat(3 // channels, axis=2))
        for picture in (patch, target)
    )
    result = cv2.seamlessClone(source, ground, 255 * near, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    blended = (result[..., :channels] / np.float32(255)).astype(np.float32)
    return np.where(near[..., None] > 0, blended, target)
