"""First steps of an inspection: read the image, find its valid pixels, locate the part and cut it into tiles."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Image, Mask, PixelBox
from blemish.dataset.ground_truth import read_ignored_pixels
from blemish.dataset.reference_image import check_reference, read_reference
from blemish.dataset.sample import Sample
from blemish.dataset.valid_mask import scale_mask, valid_mask
from blemish.errors import BlemishError, BundleError, ImageError
from blemish.imaging.part_locator import PartLocation, locate_part
from blemish.imaging.pixel_range import find_misfit, scale_pixels
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.bundle import Bundle
from blemish.inspection.manifest import Manifest, Scale, Tiling
from blemish.inspection.result import Reason, ReasonKind, Verdict
from blemish.inspection.stitching import Stitcher

ImageInput = str | Path | NDArray[Any] | Sample
ReferenceInput = str | Path | NDArray[Any]


@dataclass(slots=True)
class ImageJob:
    """One image on its way through the inspector."""

    image: Image  # (H, W, C), at the scale of the training images
    view: Image  # (h, w, C) that tiles are cut from: the image, or a rotated crop of it
    valid: Mask | None  # (H, W); None: all pixels
    stitcher: Stitcher
    name: str  # as error messages call the image
    source: str | None  # path; None for an array
    timings_ms: dict[str, float]
    reference: Image | None = None  # (h, w, C), as the view
    product: str | None = None
    pending: int = 0  # tiles that the network has not run on yet
    misfit: Reason | None = None  # why the image cannot be decided on
    failure: BlemishError | None = None  # of a tile that could not be prepared

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def add_time(self, step: str, seconds: float) -> None:
        self.timings_ms[step] = self.timings_ms.get(step, 0.0) + 1000 * seconds


# Bundles of earlier versions know the values of the images alone.
UNKNOWN_REFERENCE = "; give one of that type, or train anew where those of the training were of this type"


def load_job(
    manifest: Manifest,
    image: ImageInput,
    valid: Mask | None = None,
    ignore: Mask | None = None,
    template: ReferenceInput | None = None,
    default_valid: Mask | None = None,
    sizes: Collection[tuple[int, int]] = (),
) -> ImageJob:
    """Read an image, and its reference image where the bundle compares with one, and cut it into tiles.

    `default_valid` (H, W) are the valid pixels where neither the sample nor the caller gives masks; `sizes` those of
    `fixed_sizes`. Raises ImageError.
    """
    begin = time.perf_counter()
    name = image_name(image)
    sample = image if isinstance(image, Sample) else None
    pixels = _as_read(image) if isinstance(image, np.ndarray) else read_image(_path(image))
    middle = time.perf_counter()
    misfit = _misfit(pixels, manifest, sizes)
    pixels = scale_pixels(pixels, manifest.input.pixels)
    size = (pixels.shape[0], pixels.shape[1])
    counted = _valid_pixels(sample, size, valid, ignore, default_valid, name)
    area, crop, view, view_valid = (0, 0, size[1], size[0]), None, pixels, counted
    if manifest.roi is not None:
        location = locate_part_in_file(pixels, image, manifest.roi)
        in_roi = location.valid_pixels(size)
        counted = in_roi if counted is None else in_roi & counted
        if not counted.any():
            raise ImageError(f"no valid pixels left in {name} after ROI and ignore masks")
        area, crop, view_valid = location.box, location.rotated, counted
        if crop is not None:
            area, view, view_valid = (0, 0, crop.width, crop.height), crop.crop(pixels), crop.crop_mask(counted)
    tiles = _cut_tiles(area, manifest.tiling, view_valid)
    timings = {"read": 1000 * (middle - begin), "prepare": 1000 * (time.perf_counter() - middle)}
    reference = None
    if manifest.template:
        reference = _read_reference(image, template, size)
        misfit = misfit or _misfit(reference, manifest, sizes, is_template=True)
        reference = scale_pixels(reference, manifest.input.pixels)
        reference = reference if crop is None else crop.crop(reference)
    return ImageJob(
        image=pixels,
        view=view,
        valid=counted,
        stitcher=Stitcher(
            area,
            tiles,
            classes=manifest.classes,
            tiling=manifest.tiling,
            input=manifest.input,
            windows=manifest.windows,
            crop=crop,
            image_size=size,
        ),
        name=name,
        source=None if isinstance(image, np.ndarray) else name,
        timings_ms=timings,
        reference=reference,
        product=None if sample is None else sample.product,
        misfit=misfit,
    )


def _misfit(
    pixels: NDArray[Any], manifest: Manifest, sizes: Collection[tuple[int, int]], *, is_template: bool = False
) -> Reason | None:
    """Why pixels as read, of an image or its template, cannot be decided on."""
    tile = None if manifest.tiling is None else (manifest.tiling.height, manifest.tiling.width)
    found = find_misfit(pixels, manifest.input.pixels, tile=tile, sizes=sizes)
    if found is None:
        return None
    kind, detail = found
    if is_template:
        detail = f"template {detail}" + (UNKNOWN_REFERENCE if kind == "depth" else "")
    return Reason(ReasonKind(kind), Verdict.REVIEW, detail=detail)


def _cut_tiles(area: PixelBox, tiling: Tiling | None, valid: Mask | None) -> list[PixelBox]:
    """The tiles of an area that have valid pixels (at least one tile); without tiling, the area."""
    if tiling is None:
        return [area]
    x0, y0, x1, y1 = area
    boxes = tile_boxes(y1 - y0, x1 - x0, tiling.height, tiling.width, tiling.overlap)
    tiles = [(x0 + a, y0 + b, x0 + c, y0 + d) for a, b, c, d in boxes]
    if valid is None:
        return tiles
    return [(a, b, c, d) for a, b, c, d in tiles if valid[b:d, a:c].any()] or tiles[:1]


def fixed_sizes(manifest: Manifest, bundled: Scale | None) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) of images at which positions in pixels and the scale hold; empty where any will do.

    That is the one of all training images, if they had one, for the bundle's own scale (`bundled`), zones and a region
    of interest, which also holds at the size that it is drawn on. Another scale than `bundled` is that of the images.
    """
    trained = None if manifest.input.pixels is None else manifest.input.pixels.size
    scaled = manifest.scale is not None and manifest.scale == bundled
    zones = any(own.zones for own in (manifest.decision, *(one.decision for one in manifest.products.values())))
    roi = manifest.roi
    if trained is None or not (scaled or zones or roi is not None):
        return ()
    if scaled or roi is None or roi.image_height is None or roi.image_width is None:
        return (trained,)
    return tuple({trained: None, (roi.image_height, roi.image_width): None})


def locate_part_in_file(pixels: Image, image: ImageInput, roi: Roi) -> PartLocation:
    """Locate the part in the pixels (H, W, C) of an image; an ImageError names its file."""
    try:
        return locate_part(pixels, roi)
    except ImageError as error:
        raise ImageError(f"{image_name(image)}: {error}") from error


def image_name(image: ImageInput) -> str:
    return "the image" if isinstance(image, np.ndarray) else str(_path(image))


def bundle_valid_mask(bundle: Bundle) -> Mask | None:
    """The valid pixels (H, W) of any image, where the bundle holds them; BundleError where they cannot be read."""
    member = bundle.manifest.valid_mask
    if member is None:
        return None
    content = bundle.extras.get(member, b"")
    mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if mask is None or not mask.any():
        raise BundleError(f"bundle {bundle.path}: {member} is not a picture of the valid pixels")
    return np.asarray(mask > 127)


def _path(image: str | Path | Sample) -> str | Path:
    return image.image if isinstance(image, Sample) else image


def _read_reference(image: ImageInput, template: ReferenceInput | None, size: tuple[int, int]) -> Image:
    """The reference image: the one given, or else the sample's own."""
    if isinstance(template, np.ndarray):
        reference = _as_read(template)
        check_reference(reference, size)
        return reference
    if template is not None:
        return read_reference(Path(template), size)
    if isinstance(image, Sample) and image.template is not None:
        return read_reference(image, size)
    raise ImageError(
        f"{image_name(image)} has no template, and this bundle compares with one: give template=…, --template FILE, "
        "or a sample that has one"
    )


def _as_read(image: NDArray[Any]) -> Image:
    """An array as `read_image` would give it."""
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ImageError(f"an image is an array (H, W) or (H, W, C) with pixels in it, not of shape {image.shape}")
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"unsupported pixel type {pixels.dtype}; give uint8, uint16 or float from 0 to 1")
    return pixels


def _valid_pixels(
    sample: Sample | None,
    size: tuple[int, int],
    valid: Mask | None,
    ignore: Mask | None,
    default: Mask | None,
    name: str,
) -> Mask | None:
    """The valid pixels by the masks of the sample, the caller or, failing both, the bundle; None: all of them."""
    masks = []
    own_masks = sample is not None and (sample.roi is not None or sample.ignore is not None)
    if sample is not None and own_masks:
        masks.append(valid_mask(sample, size))
    for mask, inverted in ((valid, False), (ignore, True)):
        if mask is None:
            continue
        if mask.shape != size:
            raise ImageError(f"the mask has shape {mask.shape}, its image {size}; make them the same size")
        masks.append(mask.astype(bool) != inverted)
    if not masks and default is not None:
        masks.append(scale_mask(default, size, "the bundle's valid mask"))
    if sample is not None and not own_masks and (ignored := read_ignored_pixels(sample, size)) is not None:
        masks.append(~ignored)
    if not masks:
        return None
    joined: Mask = np.logical_and.reduce(masks)
    if not joined.any():
        raise ImageError(f"no valid pixels left in {name} after its masks")
    return None if joined.all() else joined
