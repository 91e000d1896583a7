"""A picture of a camera to set it up: histogram of exposure, focus figure and grid; kept ones become a data set."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import OptionError
from blemish.imaging.quality import measure_quality
from blemish.imaging.read import encode, write_image

BINS = 64
SHOWN_SIDE = 800  # px
GRID_CELLS = 8
_NAME = re.compile(r"[\w-]{1,60}")


@dataclass(frozen=True, slots=True)
class LivePicture:
    """What a page shows of one picture."""

    png: bytes  # not larger than SHOWN_SIDE
    histogram: list[int]  # pixels in each of BINS equal ranges of grey, from black to full scale
    black: float  # share of pixels at 0
    white: float  # share of pixels at full scale: their values are lost
    brightness: float  # mean, 0 to 1
    focus: float  # standard deviation of the Laplacian over that of the grey values: higher is sharper, for one scene
    size: tuple[int, int]  # height, width of the camera's picture


def examine(image: NDArray[Any], grid: bool = False) -> LivePicture:
    """`image` is (H, W, C) uint8 or uint16; saturation counts in any channel."""
    full = np.iinfo(image.dtype).max
    grey = image.mean(axis=2)
    counts, _ = np.histogram(grey, BINS, (0, full))
    quality = measure_quality(image)
    shown = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    scale = min(1.0, SHOWN_SIDE / max(shown.shape[:2]))
    if scale < 1:
        size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    if grid:
        shown = draw_grid(shown)
    return LivePicture(
        encode(shown, ".png"),
        counts.tolist(),
        float((image == 0).all(axis=2).mean()),
        float((image == full).any(axis=2).mean()),
        quality["brightness"],
        quality["sharpness"],
        (image.shape[0], image.shape[1]),
    )


def draw_grid(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy in colour with GRID_CELLS by GRID_CELLS cells and a cross in the middle."""
    shown = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image.copy()
    height, width = shown.shape[:2]
    for cell in range(1, GRID_CELLS):
        colour = (255, 160, 0) if 2 * cell == GRID_CELLS else (0, 200, 255)
        shown[min(height - 1, height * cell // GRID_CELLS)] = colour
        shown[:, min(width - 1, width * cell // GRID_CELLS)] = colour
    return shown


def keep_picture(folder: Path, name: str, label: str, image: NDArray[Any]) -> Path:
    """Write a picture into the data set `folder`/`name`, into the folder of its label; raises OptionError for names
    that are none. The label is a person's: nothing is good by itself."""
    for what, text in (("dataset", name), ("label", label)):
        if not _NAME.fullmatch(text):
            raise OptionError(f"'{text}' cannot be the name of a {what}; use letters, digits, - and _")
    target = folder / name / label
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.png"
    write_image(path, image)
    return path
