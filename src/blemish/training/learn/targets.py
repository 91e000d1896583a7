"""The truth of a sample as tensors in the network's geometry, cut to the part of the image that is seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.dataset.ground_truth import boxes_of, class_masks, classes_shown, has_mask, instances_of
from blemish.dataset.sample import GOOD, Sample
from blemish.geometry import mask_bounds
from blemish.imaging.prepare import fit_mask_to, fit_transform, prepare
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.inspection.manifest import InputSpec

Area = tuple[int, int, int, int]  # x0 y0 x1 y1 in pixels of the image
Size = tuple[int, int]  # height, width
# A defect of which less than this share lies in the area is not looked for there, unless it spans so much of a side.
LEAST_PART, LEAST_SPAN = 0.25, 0.5
LEAST_PIXELS = 4  # of the network; smaller specks, of which hand-drawn masks are full, are no instance to learn


@dataclass(frozen=True)
class Seen:
    """The part of an image of `size` (height, width) that one item shows: an area of it, or of a turned crop of it."""

    size: Size
    area: Area
    turned: RotatedCrop | None = None

    @property
    def whole(self) -> bool:
        """Whether it is the image as it is."""
        return self.turned is None and self.area == (0, 0, self.size[1], self.size[0])

    def image(self, image: NDArray[Any], spec: InputSpec) -> torch.Tensor:
        """Image (H, W, C) as (channels, height, width) float32 of the network."""
        x0, y0, x1, y1 = self.area
        whole = image if self.turned is None else self.turned.crop(image)
        return torch.from_numpy(prepare(whole[y0:y1, x0:x1], spec.channels, spec.height, spec.width, spec.fit))

    def mask(self, mask: NDArray[np.bool_], spec: InputSpec) -> NDArray[np.bool_]:
        """Mask (H, W) of the image as (height, width) of the network."""
        return fit_mask_to(self.part(mask), spec.height, spec.width, spec.fit)

    def part(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask (H, W) of the image cut to the area."""
        x0, y0, x1, y1 = self.area
        return (mask if self.turned is None else self.turned.crop_mask(mask))[y0:y1, x0:x1]

    def boxes(self, corners: NDArray[np.float64], spec: InputSpec) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Boxes (M, 4) cut to the area, in pixels of the network, and which still show enough of their defect."""
        x0, y0, x1, y1 = self.area
        corners = corners if self.turned is None else self.turned.boxes_to_crop(corners)
        cut = corners.copy()
        cut[:, 0::2] = corners[:, 0::2].clip(x0, x1)
        cut[:, 1::2] = corners[:, 1::2].clip(y0, y1)
        whole = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        left = (cut[:, 2] - cut[:, 0]) * (cut[:, 3] - cut[:, 1])
        inside = cut - np.array([x0, y0, x0, y0])
        kept = (left > 0) & ((left >= LEAST_PART * whole) | self.spanned(inside))
        return self.to_network(inside, spec), kept

    def spanned(self, inside: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes (M, 4), in pixels of the area, reach over much of one of its sides."""
        x0, y0, x1, y1 = self.area
        sides = np.array([x1 - x0, y1 - y0])
        return np.asarray(((inside[:, 2:] - inside[:, :2]) >= LEAST_SPAN * sides).any(axis=1))

    def to_network(self, inside: NDArray[np.float64], spec: InputSpec) -> NDArray[np.float64]:
        """Boxes (M, 4) in pixels of the area as pixels of the network."""
        x0, y0, x1, y1 = self.area
        return fit_transform((y1 - y0, x1 - x0), spec.height, spec.width, spec.fit).to_network(inside)


def label_index(sample: Sample, classes: tuple[str, ...]) -> int:
    """Index of the image's class, -1 where it is not known; an image without any defect is good."""
    label = GOOD if sample.label is None and sample.defective is False else sample.label
    return classes.index(label) if label in classes else -1


def present_in(sample: Sample, classes: tuple[str, ...]) -> tuple[torch.Tensor, bool]:
    """(D,) bool, the defect classes that the image shows, and whether they are known."""
    shown = classes_shown(sample)
    return torch.tensor([name in (shown or ()) for name in _defects(classes)], dtype=torch.bool), shown is not None


def mask_labels_in(sample: Sample, classes: tuple[str, ...], seen: Seen, spec: InputSpec) -> torch.Tensor:
    """(H, W) int64: 0 no defect or not known, else 1 + index of the defect class."""
    labels = np.zeros((spec.height, spec.width), np.int64)
    if has_mask(sample) and sample.defective is not False:
        for index, layer in enumerate(class_masks(sample, _defects(classes), seen.size)):
            labels[seen.mask(layer, spec)] = index + 1
    return torch.from_numpy(labels)


def boxes_in(sample: Sample, classes: tuple[str, ...], seen: Seen, spec: InputSpec) -> torch.Tensor:
    """(M, 5) float32: x0 y0 x1 y1 and index of the defect class; of a part without known boxes none.

    Where pixels are known and only a part is seen, a box is drawn about the pixels that are seen.
    """
    if not seen.whole and has_mask(sample) and not sample.boxes:
        return instances_in(sample, classes, seen, spec, least=1)[0]
    names = _defects(classes)
    found = [
        ((box.x0, box.y0, box.x1, box.y1), _index(box.label, names))
        for box in boxes_of(sample, seen.size)
        if box.label in names or len(names) == 1
    ]
    corners = np.array([corners for corners, _ in found], np.float64).reshape(-1, 4)
    labels = np.array([label for _, label in found], np.float64).reshape(-1, 1)
    placed, kept = seen.boxes(corners, spec)
    return torch.from_numpy(np.hstack([placed, labels])[kept].astype(np.float32))


def instances_in(
    sample: Sample, classes: tuple[str, ...], seen: Seen, spec: InputSpec, least: int = LEAST_PIXELS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (M, 5) float32 as of `boxes_in`, and the pixels (M, H, W) bool, `least` or more, of each one's defect."""
    names = _defects(classes)
    boxes, masks = [], []
    for found in instances_of(sample, seen.size) if has_mask(sample) and sample.defective is not False else []:
        if found.label not in names and len(names) > 1:
            continue
        x0, y0, x1, y1 = found.box
        whole = np.zeros(seen.size, np.bool_)
        whole[y0:y1, x0:x1] = found.mask
        part, mask = seen.part(whole), seen.mask(whole, spec)
        bounds = mask_bounds(part)
        if bounds is None or mask.sum() < least:
            continue
        box = np.array([bounds], np.float64)
        if part.sum() >= LEAST_PART * found.mask.sum() or seen.spanned(box)[0]:
            boxes.append([*seen.to_network(box, spec)[0], _index(found.label, names)])
            masks.append(mask)
    return (
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5),
        torch.from_numpy(np.array(masks, np.bool_).reshape(-1, spec.height, spec.width)),
    )


def _defects(classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in classes if name != GOOD)


def _index(label: str, names: tuple[str, ...]) -> int:
    return names.index(label) if label in names else 0
