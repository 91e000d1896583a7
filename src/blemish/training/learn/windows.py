"""Windows as images of their own: what a sliding-window classifier learns from, cut from masks or boxes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from blemish.dataset.ground_truth import boxes_of, has_boxes, has_mask, instances_of
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.errors import DataError
from blemish.imaging.part_locator import counting
from blemish.imaging.read import image_header, read_image
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.load import place_in
from blemish.methods.base import Method
from blemish.training.learn.data import View

Bools = NDArray[np.bool_]
NO_PLACES: dict[str, None] = dict.fromkeys(("mask", "mask_classes", "boxes", "shapes"))


class WindowRule(BaseModel):
    """When a window bears a defect's class: where the defect covers so much of it, or it so much of the defect.

    Of several such classes it bears the one with the most pixels in it. A window that no defect touches is good. One
    that is touched by less than the rule asks for is neither, and is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    of_window: float = Field(0.1, gt=0, le=1)  # share of the window's pixels that the class's defects cover
    of_defect: float = Field(0.5, gt=0, le=1)  # share of one defect's pixels that lie in the window
    most_good: float = Field(3.0, ge=0)  # good windows learnt from, for each defective one, drawn by the seed; 0: all


ANY_PIXEL = WindowRule(of_window=1e-9)


@dataclass(frozen=True)
class Windows:
    """A dataset of one sample a window, labelled as the window is, and which tile of its image each is."""

    dataset: Dataset
    tiles: tuple[int, ...]


def learns_windows(method: type[Method], view_tiled: bool) -> bool:
    """Whether a method learns the classes of windows: it learns from labels alone, and images are tiled."""
    info = method.info
    return view_tiled and "label" in info.requires and not {"mask", "boxes"} & {*info.requires, *info.optional}


def check_places(dataset: Dataset) -> None:
    """Raises DataError where no training image tells the place of a defect."""
    training = dataset.split("train").samples
    if not any(s.defective and (has_boxes(s) or has_mask(s)) for s in training):
        raise DataError(
            "a classifier under --tile learns windows that are cut from masks or boxes, and no training image with a "
            "defect has any; leave --tile out to classify whole images"
        )


def windows_of(dataset: Dataset, view: View, rule: WindowRule, need_defects: bool = True) -> Windows:
    """All windows of the images whose label follows from their truth; images whose defects have no place are left out.

    Raises DataError where no window shows a defect and there need be one.
    """
    samples: list[Sample] = []
    tiles: list[int] = []
    for sample in dataset.samples:
        if not (has_boxes(sample) or has_mask(sample)):
            continue
        for tile, label in enumerate(labels_of_windows(sample, view, rule)):
            if label is not None:
                samples.append(replace(sample, label=label, labels=None, **NO_PLACES))
                tiles.append(tile)
    if need_defects and not any(sample.label != GOOD for sample in samples):
        raise DataError(
            "a classifier of windows learns from masks or boxes, and none of them gives a window a defect's class; "
            "add such truth, take other --tile or --window-share, or leave --tile out to classify whole images"
        )
    return Windows(dataset.with_samples(samples), tuple(tiles))


def tiles_as_samples(dataset: Dataset, view: View) -> Dataset:
    """A sample for each tile of each image, in order, of the class of the defects that it shows, or good.

    Those of an image whose defects have no known place are as the image is.
    """
    samples: list[Sample] = []
    for sample in dataset.samples:
        known = has_boxes(sample) or has_mask(sample)
        for label in labels_of_windows(sample, view, ANY_PIXEL):
            samples.append(replace(sample, label=label or GOOD, labels=None, **NO_PLACES) if known else sample)
    return dataset.with_samples(samples)


def thinned(windows: Windows, rule: WindowRule, seed: int) -> Windows:
    """No more good windows than the rule wants beside the defective ones."""
    good = np.array([sample.label == GOOD for sample in windows.dataset.samples])
    most = round(rule.most_good * int((~good).sum()))
    if not rule.most_good or good.sum() <= most:
        return windows
    kept = ~good
    kept[np.random.default_rng(seed).choice(np.flatnonzero(good), most, replace=False)] = True
    samples = [sample for sample, keep in zip(windows.dataset.samples, kept, strict=True) if keep]
    tiles = tuple(tile for tile, keep in zip(windows.tiles, kept, strict=True) if keep)
    return Windows(windows.dataset.with_samples(samples), tiles)


def labels_of_windows(sample: Sample, view: View, rule: WindowRule) -> list[str | None]:
    """The class of each tile of an image, None where the rule leaves it out or no pixel of it counts."""
    assert view.tiling is not None
    if view.roi is None and sample.defective is False and sample.roi is None and sample.ignore is None:
        header = image_header(sample.image)
        tiling = view.tiling
        return [GOOD] * len(tile_boxes(header.height, header.width, tiling.height, tiling.width, tiling.overlap))
    image = read_image(sample.image)
    size = (image.shape[0], image.shape[1])
    valid = valid_mask(sample, size)
    area, turned = (0, 0, size[1], size[0]), None
    if view.roi is not None:
        place = place_in(image, sample, view.roi)
        valid &= counting(place, size)
        area, turned = place.box, place.turned
        if turned is not None:
            area = (0, 0, turned.width, turned.height)
    x0, y0, x1, y1 = area

    def seen(mask: Bools) -> Bools:
        return mask[y0:y1, x0:x1] if turned is None else turned.crop_mask(mask)

    defects = [(label, seen(mask & valid)) for label, mask in defects_of(sample, size)]
    counts = seen(valid)
    tiling = view.tiling
    tiles = tile_boxes(y1 - y0, x1 - x0, tiling.height, tiling.width, tiling.overlap)
    return [label_of_window(tile, defects, rule) if _part(counts, tile).any() else None for tile in tiles]


def label_of_window(tile: tuple[int, int, int, int], defects: list[tuple[str, Bools]], rule: WindowRule) -> str | None:
    """The class of one window, given each defect's class and pixels (H, W)."""
    covered: dict[str, int] = {}
    held: set[str] = set()
    for label, mask in defects:
        inside = int(_part(mask, tile).sum())
        if inside:
            covered[label] = covered.get(label, 0) + inside
            if inside >= rule.of_defect * int(mask.sum()):
                held.add(label)
    if not covered:
        return GOOD
    x0, y0, x1, y1 = tile
    least = rule.of_window * (x1 - x0) * (y1 - y0)
    counting = [label for label, pixels in covered.items() if pixels >= least or label in held]
    return max(counting, key=covered.__getitem__, default=None)


def defects_of(sample: Sample, size: tuple[int, int]) -> list[tuple[str, Bools]]:
    """Class and pixels (H, W) of each defect, by its mask, or its box filled."""
    if sample.defective is False:
        return []
    found = []
    if has_mask(sample):
        for instance in instances_of(sample, size):
            x0, y0, x1, y1 = instance.box
            whole = np.zeros(size, np.bool_)
            whole[y0:y1, x0:x1] = instance.mask
            found.append((instance.label, whole))
        return found
    for box in boxes_of(sample, size):
        whole = np.zeros(size, np.bool_)
        whole[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))] = True
        found.append((box.label, whole))
    return found


def _part(mask: NDArray[Any], tile: tuple[int, int, int, int]) -> NDArray[Any]:
    x0, y0, x1, y1 = tile
    return mask[y0:y1, x0:x1]
