"""A contact sheet: each synthetic image next to a copy with its defects outlined and named."""

from collections.abc import Sequence

import cv2
import numpy as np

from blemish.arrays import Picture
from blemish.synthesis.scene import SyntheticDefect, SyntheticScene

CELL, COLUMNS, GAP = 224, 4, 6  # side of an image in px, pairs in a row, px between
OUTLINE = (255, 40, 25)


def render_pair(scene: SyntheticScene) -> Picture:
    """The image, and next to it a copy with its defects outlined: (CELL, 2 CELL, 3)."""
    height, width = scene.image.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    whole = np.round(255 * np.clip(scene.image / scene.level, 0, 1)).astype(np.uint8)
    whole = whole if whole.shape[2] == 3 else np.repeat(whole[..., :1], 3, axis=2)
    picture = cv2.resize(whole, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    marked = picture.copy()
    for defect in scene.defects:
        # Resized by area: by single pixels a small defect could get lost.
        share = cv2.resize(defect.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        grown = cv2.dilate((share > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
        outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(marked, outlines, -1, OUTLINE, 1)
    # White with a black edge; a thicker stroke would also be wider and not lie beneath it.
    edge = [(x, y, 0) for x in (3, 5) for y in (13, 15)]
    for x, y, grey in (*edge, (4, 14, 255)):
        cv2.putText(marked, caption(scene.defects), (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (grey,) * 3, 1, cv2.LINE_AA)
    pair = np.full((CELL, 2 * CELL, 3), 255, np.uint8)
    pair[: size[1], : size[0]], pair[: size[1], CELL : CELL + size[0]] = picture, marked
    return pair


def caption(defects: Sequence[SyntheticDefect]) -> str:
    """Step and class of each defect."""
    names = dict.fromkeys(d.kind if d.kind == d.label else f"{d.kind}: {d.label}" for d in defects)
    return ", ".join(names) or "good"


def make_contact_sheet(cells: Sequence[Picture]) -> Picture:
    """Cells of one size, four in a row, on white: (H, W, 3) uint8."""
    edge = ((0, GAP), (0, GAP), (0, 0))
    padded = [np.pad(one, edge, constant_values=255) for one in cells]
    padded += [np.full_like(padded[0], 255)] * (-len(padded) % COLUMNS if len(padded) > COLUMNS else 0)
    rows = [np.concatenate(padded[i : i + COLUMNS], axis=1) for i in range(0, len(padded), COLUMNS)]
    return np.asarray(np.concatenate(rows), np.uint8)
