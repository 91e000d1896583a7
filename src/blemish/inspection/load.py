"""The first steps of an inspection: an image in memory, the pixels of it that count, and its windows."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.dataset.valid import valid_mask
from blemish.errors import ImageError
from blemish.imaging.read import read_image
from blemish.imaging.roi import locate
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.assemble import Found
from blemish.inspection.manifest import Manifest
from blemish.inspection.pipeline import Job
from blemish.inspection.result import Bools

Image = str | Path | NDArray[Any] | Sample


def load(manifest: Manifest, image: Image, valid: Bools | None = None, ignore: Bools | None = None) -> Job:
    """Read an image and find the windows in it that the network has to see; raises ImageError."""
    begin = time.perf_counter()
    sample = image if isinstance(image, Sample) else None
    pixels = _array(image) if isinstance(image, np.ndarray) else read_image(_path(image))
    middle = time.perf_counter()
    size = (pixels.shape[0], pixels.shape[1])
    counts = _counting(sample, size, valid, ignore)
    x0, y0, x1, y1 = area = (0, 0, size[1], size[0])
    if manifest.roi is not None:
        (x0, y0, x1, y1), inside = locate(pixels, manifest.roi)
        area = (x0, y0, x1, y1)
        whole = np.zeros(size, bool)
        whole[y0:y1, x0:x1] = inside if counts is None else inside & counts[y0:y1, x0:x1]
        counts = whole
        if not counts.any():
            raise ImageError(f"no pixel of {name_of(image)} counts: region of interest and masks leave nothing")
    tiles = [area]
    tiling = manifest.tiling
    if tiling is not None:
        boxes = tile_boxes(y1 - y0, x1 - x0, tiling.height, tiling.width, tiling.overlap)
        tiles = [(x0 + a, y0 + b, x0 + c, y0 + d) for a, b, c, d in boxes]
        if counts is not None:
            tiles = [(a, b, c, d) for a, b, c, d in tiles if counts[b:d, a:c].any()]
    timings = {"read": 1000 * (middle - begin), "prepare": 1000 * (time.perf_counter() - middle)}
    source = None if isinstance(image, np.ndarray) else name_of(image)
    return Job(pixels, counts, Found(manifest, area, tiles, tiling), source, timings)


def _path(image: str | Path | Sample) -> str | Path:
    return image.image if isinstance(image, Sample) else image


def name_of(image: Image) -> str:
    return "the image" if isinstance(image, np.ndarray) else str(_path(image))


def _array(image: NDArray[Any]) -> NDArray[Any]:
    """An array as `read_image` would give it."""
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ImageError(f"an image is an array (H, W) or (H, W, C) with pixels in it, not of shape {image.shape}")
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels of type {pixels.dtype} are not understood; give uint8, uint16 or float from 0 to 1")
    return pixels


def _counting(sample: Sample | None, size: tuple[int, int], valid: Bools | None, ignore: Bools | None) -> Bools | None:
    """The pixels that count by the sample's and the caller's masks; None: all of them."""
    counts = None
    if sample is not None and (sample.roi is not None or sample.ignore is not None):
        counts = valid_mask(sample, size)
    for mask, inverted in ((valid, False), (ignore, True)):
        if mask is None:
            continue
        if mask.shape != size:
            raise ImageError(f"the mask has shape {mask.shape}, its image {size}; make them the same size")
        own = ~mask.astype(bool) if inverted else mask.astype(bool)
        counts = own if counts is None else counts & own
    if counts is None or counts.all():
        return None
    if not counts.any():
        raise ImageError("no pixel of the image counts: its masks leave nothing")
    return counts
