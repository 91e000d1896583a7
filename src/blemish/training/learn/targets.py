"""Annotations of a sample as tensors in the network's geometry, cut to the crop that an item shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from blemish.arrays import Boxes, Flags, Image, Mask, PixelBox
from blemish.dataset.ground_truth import (
    defect_boxes,
    defect_instances,
    find_defect_classes,
    has_mask,
    named_classes,
    read_class_masks,
    read_defect_mask,
)
from blemish.dataset.sample import GOOD, Sample
from blemish.geometry import Box, box_areas, box_array, mask_bounds
from blemish.imaging.prepare import fit_mask, fit_transform, prepare
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.imaging.tiling import tile_boxes
from blemish.inspection.manifest import InputSpec, Tiling
from blemish.inspection.stitching import defect_names

# A defect of which less than this share lies in the crop is no target there, unless it spans this share of a side.
MIN_VISIBLE_SHARE, MIN_SPAN = 0.25, 0.5
MIN_INSTANCE_PIXELS = 4  # in the network's input; hand-painted masks are full of smaller specks, which are no instances


@dataclass(frozen=True)
class CropView:
    """The crop of an image of `size` (height, width) that one item shows: a box of it, or of a rotated crop of it."""

    size: tuple[int, int]
    box: PixelBox
    rotated: RotatedCrop | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the crop in pixels of the image."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    @property
    def is_whole_image(self) -> bool:
        return self.rotated is None and self.shape == self.size

    def tiles(self, tiling: Tiling | None) -> list["CropView"]:
        """The tiles of the crop, or the crop itself without tiling."""
        if tiling is None:
            return [self]
        x, y = self.box[:2]
        boxes = tile_boxes(*self.shape, tiling.height, tiling.width, tiling.overlap)
        return [replace(self, box=(x + x0, y + y0, x + x1, y + y1)) for x0, y0, x1, y1 in boxes]

    def input_image(self, image: Image, spec: InputSpec) -> torch.Tensor:
        """Image (H, W, C) as (channels, height, width) float32, the network's input."""
        x0, y0, x1, y1 = self.box
        whole = image if self.rotated is None else self.rotated.crop(image)
        return torch.from_numpy(prepare(whole[y0:y1, x0:x1], spec.channels, spec.height, spec.width, spec.fit))

    def input_mask(self, mask: Mask, spec: InputSpec) -> Mask:
        """Mask (H, W) of the image as (height, width) of the network's input."""
        return fit_mask(self.crop_mask(mask), spec.height, spec.width, spec.fit)

    def crop_mask(self, mask: Mask) -> Mask:
        """Mask (H, W) of the image cut to the crop."""
        x0, y0, x1, y1 = self.box
        return (mask if self.rotated is None else self.rotated.crop_mask(mask))[y0:y1, x0:x1]

    def crop_boxes(self, boxes: Boxes) -> tuple[Boxes, Flags]:
        """Boxes (M, 4) of the image cut to the crop, in its pixels, and which of them show enough of their defect."""
        x0, y0, x1, y1 = self.box
        boxes = boxes if self.rotated is None else self.rotated.boxes_to_crop(boxes)
        cut = boxes.clip((x0, y0, x0, y0), (x1, y1, x1, y1)) - (x0, y0, x0, y0)
        visible = box_areas(cut)
        return cut, (visible > 0) & ((visible >= MIN_VISIBLE_SHARE * box_areas(boxes)) | self.spans(cut))

    def spans(self, boxes: Boxes) -> Flags:
        """Which boxes (M, 4), in pixels of the crop, reach over MIN_SPAN of one of its sides."""
        return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= MIN_SPAN * np.array(self.shape[::-1])).any(axis=1))

    def to_network(self, boxes: Boxes, spec: InputSpec) -> Boxes:
        """Boxes (M, 4) in pixels of the crop as pixels of the network's input."""
        return fit_transform(self.shape, spec.height, spec.width, spec.fit).to_network(boxes)


def label_index(sample: Sample, classes: tuple[str, ...]) -> int:
    """Index of the image's class, -1 where it is unknown; an image without a defect is good."""
    label = GOOD if sample.label is None and sample.defective is False else sample.label
    return classes.index(label) if label in classes else -1


def class_presence(sample: Sample, classes: tuple[str, ...]) -> tuple[torch.Tensor, bool]:
    """(D,) bool, which defect classes the image shows, and whether they are known: all are among the classes."""
    shown, names = find_defect_classes(sample), defect_names(classes)
    known = shown is not None and shown <= set(names)
    return torch.tensor([name in (shown or ()) for name in names], dtype=torch.bool), known


def mask_targets(sample: Sample, classes: tuple[str, ...], view: CropView, spec: InputSpec) -> torch.Tensor:
    """(H, W) int64: 0 no defect or unknown, else 1 + index of the defect class."""
    labels = np.zeros((spec.height, spec.width), np.int64)
    if has_mask(sample) and sample.defective is not False:
        for index, mask in enumerate(read_class_masks(sample, defect_names(classes), view.size)):
            labels[view.input_mask(mask, spec)] = index + 1
    return torch.from_numpy(labels)


def box_targets(sample: Sample, classes: tuple[str, ...], view: CropView, spec: InputSpec) -> torch.Tensor:
    """(M, 5) float32: x0 y0 x1 y1 and index of the defect class; empty without known boxes.

    Where the image has a mask and the item shows only a crop of it, boxes bound the pixels inside the crop.
    """
    if not view.is_whole_image and has_mask(sample) and not sample.boxes:
        return instance_targets(sample, classes, view, spec, min_pixels=1)[0]
    names = defect_names(classes)
    boxes = [box for box in defect_boxes(sample, view.size) if box.label in names or len(names) == 1]
    labels = np.array([_index(box.label, names) for box in boxes], np.float64).reshape(-1, 1)
    cut, kept = view.crop_boxes(box_array(boxes))
    return torch.from_numpy(np.hstack([view.to_network(cut, spec), labels])[kept].astype(np.float32))


def instance_targets(
    sample: Sample, classes: tuple[str, ...], view: CropView, spec: InputSpec, min_pixels: int = MIN_INSTANCE_PIXELS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (M, 5) float32 as in `box_targets`, and masks (M, H, W) bool of their defects, of `min_pixels` or more."""
    names = defect_names(classes)
    boxes, masks = [], []
    for instance in defect_instances(sample, view.size) if has_mask(sample) and sample.defective is not False else []:
        if instance.label not in names and len(names) > 1:
            continue
        x0, y0, x1, y1 = instance.box
        whole = np.zeros(view.size, np.bool_)
        whole[y0:y1, x0:x1] = instance.mask
        visible, mask = view.crop_mask(whole), view.input_mask(whole, spec)
        bounds = mask_bounds(visible)
        if bounds is None or mask.sum() < min_pixels:
            continue
        box = np.array([bounds], np.float64)
        if visible.sum() >= MIN_VISIBLE_SHARE * instance.mask.sum() or view.spans(box)[0]:
            boxes.append([*view.to_network(box, spec)[0], _index(instance.label, names)])
            masks.append(mask)
    return (
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5),
        torch.from_numpy(np.array(masks, np.bool_).reshape(-1, spec.height, spec.width)),
    )


def tile_classes(labels: torch.Tensor, known: bool, classes: tuple[str, ...]) -> tuple[int, torch.Tensor, bool]:
    """Label of a tile, present classes (D,) and whether they are `known`, from "mask_labels" (P,) of its valid pixels.

    The label is -1 where there are several classes, or they are not known.
    """
    names = defect_names(classes)
    shown = [names[number - 1] for number in torch.unique(labels).tolist() if number]
    present = torch.tensor([name in shown for name in names], dtype=torch.bool)
    label = (shown or [GOOD])[0]
    single = known and len(shown) < 2 and label in classes
    return classes.index(label) if single else -1, present, known


def has_unknown_class(sample: Sample, classes: tuple[str, ...]) -> bool:
    """Whether the positions of the sample's defects may have a class that is none of these; a single class has all."""
    names = defect_names(classes)
    return sample.defective is not False and len(names) != 1 and not named_classes(sample) <= set(names)


def unknown_class_pixels(
    sample: Sample, classes: tuple[str, ...], view: CropView, spec: InputSpec, boxed: bool
) -> Mask | None:
    """(H, W) bool, defects of unknown class where no known one is, `boxed`: as boxes; None where there can be none."""
    if not has_unknown_class(sample, classes):
        return None
    names, unknown = defect_names(classes), np.zeros(view.size, np.bool_)
    if has_mask(sample):
        known = read_class_masks(sample, names, view.size).any(axis=0)
        unknown = read_defect_mask(sample, view.size) & ~known
    if boxed:
        boxes = defect_boxes(sample, view.size)
        known = filled_boxes([box for box in boxes if box.label in names], view.size)
        unknown = (unknown | filled_boxes(boxes, view.size)) & ~known
    return view.input_mask(unknown, spec)


def filled_boxes(boxes: Iterable[Box], size: tuple[int, int]) -> Mask:
    """(H, W) bool, the pixels inside any of the boxes."""
    mask = np.zeros(size, np.bool_)
    for box in boxes:
        mask[int(box.y0) : int(np.ceil(box.y1)), int(box.x0) : int(np.ceil(box.x1))] = True
    return mask


def _index(label: str, names: Sequence[str]) -> int:
    return names.index(label) if label in names else 0
