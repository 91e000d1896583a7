"""Tiles as images of their own: a sliding-window classifier is trained on tiles labelled by masks or boxes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from blemish.arrays import Image, Mask, PixelBox
from blemish.dataset.ground_truth import defect_boxes, defect_instances, has_boxes, has_mask
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError
from blemish.imaging.read import image_header
from blemish.methods.base import Method
from blemish.training.learn.data import View, crop_view, read_scaled
from blemish.training.learn.targets import CropView

WITHOUT_POSITIONS: dict[str, Any] = dict.fromkeys(("labels", "mask", "mask_classes", "boxes", "shapes"))


class WindowLabelRule(BaseModel):
    """When a window has the class of a defect: the defect covers enough of it, or enough of the defect is inside.

    Of several such classes the one with the most pixels inside is the label. A window without any defect pixel is good.
    One with fewer than the rule requires is neither, and is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_window_share: float = Field(default=0.1, gt=0, le=1)  # of the window's pixels, covered by the class's defects
    min_defect_share: float = Field(default=0.5, gt=0, le=1)  # of one defect's pixels, inside the window
    max_good_ratio: float = Field(default=3.0, ge=0)  # good windows for each defective one, sampled by the seed; 0: all


ANY_PIXEL = WindowLabelRule(min_window_share=1e-9)


@dataclass(frozen=True)
class Windows:
    """A dataset with one sample for each window, labelled as the window, and the tile of its image that it is."""

    dataset: Dataset
    tiles: tuple[int, ...]

    def select(self, kept: Mask) -> "Windows":
        indices = np.flatnonzero(kept).tolist()
        samples = [self.dataset.samples[i] for i in indices]
        return Windows(self.dataset.with_samples(samples), tuple(self.tiles[i] for i in indices))


def learns_from_windows(method: type[Method], tiled: bool) -> bool:
    """Whether a method learns the classes of windows: it uses labels alone, and images are tiled."""
    info = method.info
    return tiled and "label" in info.requires and not {"mask", "boxes"} & {*info.requires, *info.optional}


def check_localized_defects(dataset: Dataset) -> None:
    """Raise DataError where no training image has a mask or boxes of its defects."""
    if not any(s.defective and is_localized(s) for s in dataset.split("train").samples):
        raise DataError(
            "a classifier with --tile is trained on windows that masks or boxes label, and no training image with a "
            "defect has any; leave --tile out to classify whole images"
        )


def is_localized(sample: Sample) -> bool:
    """Whether masks or boxes say where the defects are, if there are any."""
    return has_boxes(sample) or has_mask(sample)


def make_windows(dataset: Dataset, view: View, rule: WindowLabelRule, need_defects: bool = True) -> Windows:
    """All windows with a label, of the images with localized defects or none.

    Raises DataError where defects are needed and no window is labelled with one.
    """
    samples: list[Sample] = []
    tiles: list[int] = []
    for sample in filter(is_localized, dataset.samples):
        for tile, label in enumerate(label_windows(sample, view, rule)):
            if label is not None:
                samples.append(replace(sample, label=label, **WITHOUT_POSITIONS))
                tiles.append(tile)
    if need_defects and not any(sample.label != GOOD for sample in samples):
        raise DataError(
            "a classifier of windows is trained on masks or boxes, and none of them gives a window a defect's class; "
            "add such annotations, change --tile or --window-share, or leave --tile out to classify whole images"
        )
    return Windows(dataset.with_samples(samples), tuple(tiles))


def label_tiles(dataset: Dataset, view: View) -> Dataset:
    """A sample for each tile of each image, in order, labelled with the class of its defects, or good.

    Tiles of an image without localized defects keep the image's annotations.
    """
    samples: list[Sample] = []
    for sample in dataset.samples:
        known = is_localized(sample)
        for label in label_windows(sample, view, ANY_PIXEL):
            samples.append(replace(sample, label=label or GOOD, **WITHOUT_POSITIONS) if known else sample)
    return dataset.with_samples(samples)


def subsample_good(windows: Windows, rule: WindowLabelRule, seed: int) -> Windows:
    """The windows with at most as many good ones for each defective one as the rule allows."""
    good = np.array([sample.label == GOOD for sample in windows.dataset.samples])
    limit = round(rule.max_good_ratio * int((~good).sum()))
    if not rule.max_good_ratio or good.sum() <= limit:
        return windows
    kept = ~good
    kept[np.random.default_rng(seed).choice(np.flatnonzero(good), limit, replace=False)] = True
    return windows.select(kept)


def label_windows(sample: Sample, view: View, rule: WindowLabelRule) -> list[str | None]:
    """The class of each tile of an image; None where the rule leaves it out or it has no valid pixel."""
    assert view.tiling is not None
    if view.roi is None and sample.defective is False and not sample.limits_pixels:
        header = image_header(sample.image)
        whole = CropView((header.height, header.width), (0, 0, header.width, header.height))
        return [GOOD] * len(whole.tiles(view.tiling))
    whole, valid = crop_view(read_scaled(sample, view), sample, view.roi)
    defects = [(label, whole.crop_mask(mask & valid)) for label, mask in defect_masks(sample, whole.size)]
    valid_crop = whole.crop_mask(valid)
    x, y = whole.box[:2]
    boxes = [(x0 - x, y0 - y, x1 - x, y1 - y) for x0, y0, x1, y1 in (tile.box for tile in whole.tiles(view.tiling))]
    return [label_window(box, defects, rule) if _cut(valid_crop, box).any() else None for box in boxes]


def label_window(box: PixelBox, defects: list[tuple[str, Mask]], rule: WindowLabelRule) -> str | None:
    """The class of one window, from the class and mask (H, W) of each defect."""
    covered: dict[str, int] = {}
    contained: set[str] = set()
    for label, mask in defects:
        inside = int(_cut(mask, box).sum())
        if inside:
            covered[label] = covered.get(label, 0) + inside
            if inside >= rule.min_defect_share * int(mask.sum()):
                contained.add(label)
    if not covered:
        return GOOD
    x0, y0, x1, y1 = box
    min_pixels = rule.min_window_share * (x1 - x0) * (y1 - y0)
    labels = [label for label, pixels in covered.items() if pixels >= min_pixels or label in contained]
    return max(labels, key=covered.__getitem__, default=None)


def defect_masks(sample: Sample, size: tuple[int, int]) -> list[tuple[str, Mask]]:
    """Class and mask (H, W) of each defect, from its mask or its filled box."""
    if sample.defective is False:
        return []
    masks = []
    if has_mask(sample):
        for instance in defect_instances(sample, size):
            x0, y0, x1, y1 = instance.box
            whole = np.zeros(size, np.bool_)
            whole[y0:y1, x0:x1] = instance.mask
            masks.append((instance.label, whole))
        return masks
    for box in defect_boxes(sample, size):
        whole = np.zeros(size, np.bool_)
        whole[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))] = True
        masks.append((box.label, whole))
    return masks


def _cut(mask: Image, box: PixelBox) -> Image:
    x0, y0, x1, y1 = box
    return mask[y0:y1, x0:x1]
