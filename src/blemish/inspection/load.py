"""The first steps of an inspection: an image in memory, the pixels of it that count, and its windows."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask
from blemish.dataset.reference_image import check_template, read_template
from blemish.dataset.sample import Sample
from blemish.dataset.valid_mask import scaled_mask, valid_mask
from blemish.errors import BundleError, ImageError
from blemish.imaging.part_locator import PartLocation, counting, locate_part
from blemish.imaging.read import read_image
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.bundle import Bundle
from blemish.inspection.manifest import Manifest, Roi
from blemish.inspection.pipeline import Job
from blemish.inspection.stitching import Found

Image = str | Path | NDArray[Any] | Sample
Template = str | Path | NDArray[Any]


def load(
    manifest: Manifest,
    image: Image,
    valid: Mask | None = None,
    ignore: Mask | None = None,
    template: Template | None = None,
    standing: Mask | None = None,
) -> Job:
    """Read an image, and its template where the bundle compares with one, and find the windows that the network has to
    see; raises ImageError.

    `standing` (H, W) are the pixels that count where neither the image nor the caller brings masks.
    """
    begin = time.perf_counter()
    sample = image if isinstance(image, Sample) else None
    pixels = _array(image) if isinstance(image, np.ndarray) else read_image(_path(image))
    middle = time.perf_counter()
    size = (pixels.shape[0], pixels.shape[1])
    counts = _counting(sample, size, valid, ignore)
    if counts is None and standing is not None and not _masked(sample) and valid is None and ignore is None:
        counts = scaled_mask(standing, size, "the bundle's mask of pixels that count")
        if not counts.any():
            raise ImageError(f"no pixel of {name_of(image)} counts: the bundle's mask leaves nothing at its size")
    area, turned, view, seen = (0, 0, size[1], size[0]), None, pixels, counts
    if manifest.roi is not None:
        place = place_in(pixels, image, manifest.roi)
        inside = counting(place, size)
        counts = inside if counts is None else inside & counts
        if not counts.any():
            raise ImageError(f"no pixel of {name_of(image)} counts: region of interest and masks leave nothing")
        area, turned, seen = place.box, place.turned, counts
        if turned is not None:
            area, view, seen = (0, 0, turned.width, turned.height), turned.crop(pixels), turned.crop_mask(counts)
    x0, y0, x1, y1 = area
    tiles = [area]
    tiling = manifest.tiling
    if tiling is not None:
        boxes = tile_boxes(y1 - y0, x1 - x0, tiling.height, tiling.width, tiling.overlap)
        tiles = [(x0 + a, y0 + b, x0 + c, y0 + d) for a, b, c, d in boxes]
        if seen is not None:
            tiles = [(a, b, c, d) for a, b, c, d in tiles if seen[b:d, a:c].any()] or tiles[:1]
    timings = {"read": 1000 * (middle - begin), "prepare": 1000 * (time.perf_counter() - middle)}
    source = None if isinstance(image, np.ndarray) else name_of(image)
    product = None if sample is None else sample.product
    twin = None
    if manifest.template:
        twin = _twin(image, template, size)
        twin = twin if turned is None else turned.crop(twin)
    return Job(pixels, view, counts, Found(manifest, area, tiles, tiling, turned, size), source, timings, twin, product)


def _twin(image: Image, template: Template | None, size: tuple[int, int]) -> NDArray[Any]:
    """The template as an array: the one given, or else the sample's own."""
    if isinstance(template, np.ndarray):
        twin = _array(template)
        check_template(twin, size)
        return twin
    if template is None and not (isinstance(image, Sample) and image.template is not None):
        raise ImageError(
            f"{name_of(image)} has no template, and this bundle compares with one: give template=…, --template FILE, "
            "or a sample that has one"
        )
    return read_template(image if template is None and isinstance(image, Sample) else Path(str(template)), size)


def place_in(pixels: NDArray[Any], image: Image, roi: Roi) -> PartLocation:
    """Where the part is in the pixels of an image; an ImageError names its file."""
    try:
        return locate_part(pixels, roi)
    except ImageError as error:
        raise ImageError(f"{name_of(image)}: {error}") from error


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


def _masked(sample: Sample | None) -> bool:
    return sample is not None and (sample.roi is not None or sample.ignore is not None)


def _counting(sample: Sample | None, size: tuple[int, int], valid: Mask | None, ignore: Mask | None) -> Mask | None:
    """The pixels that count by the sample's and the caller's masks; None: all of them."""
    counts = None
    if sample is not None and _masked(sample):
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


def standing_mask(bundle: Bundle) -> Mask | None:
    """The pixels (H, W) that count in any image, of a bundle that bears them; BundleError where they cannot be read."""
    part = bundle.manifest.counting
    if part is None:
        return None
    content = bundle.extras.get(part, b"")
    mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if mask is None or not mask.any():
        raise BundleError(f"bundle {bundle.path}: {part} is not a picture of the pixels that count")
    return np.asarray(mask > 127)
