"""Metrics of regions as a bundle reports them, thresholds and smallest area applied, against annotated masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from blemish.arrays import Mask
from blemish.dataset.ground_truth import Instance
from blemish.evaluation.crops import Crop, count_shared, valid_crop
from blemish.evaluation.detections import IOU_50, Detections, detection_precision, rank_detections
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.units import Units, estimate_share
from blemish.inspection.regions import region_mask
from blemish.inspection.result import Region


@dataclass(frozen=True)
class PixelOverlap:
    """Pixels in both the annotated masks and the regions, and in either."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        return self.intersection / self.union

    @property
    def dice(self) -> float:
        return 2 * self.intersection / (self.intersection + self.union)

    def __add__(self, other: "PixelOverlap") -> "PixelOverlap":
        return PixelOverlap(self.intersection + other.intersection, self.union + other.union)


NO_OVERLAP = PixelOverlap(0, 0)


@dataclass(frozen=True)
class RegionOverlap:
    """Overlap of one image's regions with its annotated masks."""

    pixels: PixelOverlap  # all defect classes together
    defects: int  # 8-connected regions of the annotation
    touched: int  # of these, with a pixel in a region
    valid_pixels: int = 0
    classes: dict[str, PixelOverlap] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskClassMetrics:
    iou: float
    dice: float


@dataclass(frozen=True)
class MaskMetrics:
    """Metrics over all pixels of all images; `iou` and `dice` take all defect classes together."""

    iou: float
    dice: float
    defects_found: RateEstimate  # 8-connected regions of the annotation with at least one pixel in a region
    images: int
    miou: float | None = None  # mean of the defect classes that occur in annotation or regions
    miou_with_good: float | None = None  # with the good class among them
    per_class: dict[str, MaskClassMetrics] = field(default_factory=dict)
    instance_ap50: float | None = None  # COCO's average precision at IoU 0.5 of whole defects, mean of the classes


def measure_overlap(
    regions: Sequence[Region], mask: Mask, valid: Mask | None = None, layers: Mapping[str, Mask] | None = None
) -> RegionOverlap:
    """Compare the regions with the annotated mask (H, W) on the valid pixels; a region without a mask fills its box.

    `layers` holds the annotated mask (H, W) of each class; regions of other classes belong to none of them.
    """
    regions_mask = region_mask(regions, mask.shape)
    if valid is not None:
        mask = mask & valid
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    return RegionOverlap(
        pixels=_pixel_overlap(regions_mask, mask, valid),
        defects=count - 1,
        touched=len(np.unique(labels[mask & regions_mask])),
        valid_pixels=mask.size if valid is None else int(valid.sum()),
        classes={
            name: _pixel_overlap(region_mask([r for r in regions if r.label == name], layer.shape), layer, valid)
            for name, layer in (layers or {}).items()
        },
    )


def match_masks(regions: Sequence[Region], annotated: Sequence[Instance], valid: Mask | None = None) -> Detections:
    """Regions of an image against its true defects, one by one, on the valid pixels."""
    true = [(t.label, crop) for t in annotated if (crop := valid_crop(t.box, t.mask, valid)) is not None]
    own = [(r, crop) for r in regions if (crop := valid_crop(r.box, r.mask, valid)) is not None]
    iou = np.array([[_iou(a, b) for _, b in true] for _, a in own], np.float64).reshape(len(own), len(true))
    scores = np.array([r.score for r, _ in own], np.float64)
    return Detections(scores, [r.label for r, _ in own], [label for label, _ in true], iou)


def mask_metrics(
    images: Sequence[RegionOverlap], instances: Sequence[Detections] = (), units: Units | None = None
) -> MaskMetrics | None:
    """Metrics of several images; None where none has a defect. `units` are those of the images of `images`."""
    found = [i < image.touched for image in images for i in range(image.defects)]
    if not found:
        return None
    units = [None] * len(images) if units is None else units
    defect_units = [unit for image, unit in zip(images, units, strict=True) for _ in range(image.defects)]
    total = sum((image.pixels for image in images), NO_OVERLAP)
    names = dict.fromkeys(name for image in images for name in image.classes)
    sums = {name: sum((i.classes.get(name, NO_OVERLAP) for i in images), NO_OVERLAP) for name in names}
    per_class = {name: MaskClassMetrics(own.iou, own.dice) for name, own in sums.items() if own.union}
    ious = [own.iou for own in per_class.values()]
    pixels = sum(image.valid_pixels for image in images)
    good = (pixels - total.union) / (pixels - total.intersection) if pixels > total.intersection else 1.0
    labels = sorted({name for image in instances for name in image.true_labels})
    by_label = (detection_precision(rank_detections(instances, label, IOU_50)) for label in labels)
    precisions = [float(ap[0]) for ap in by_label if ap is not None]
    return MaskMetrics(
        iou=total.iou,
        dice=total.dice,
        defects_found=estimate_share(np.array(found, np.bool_), defect_units),
        images=len(images),
        miou=float(np.mean(ious)) if ious else None,
        miou_with_good=float(np.mean([good, *ious])) if ious and pixels else None,
        per_class=per_class,
        instance_ap50=float(np.mean(precisions)) if precisions else None,
    )


def _pixel_overlap(regions: Mask, annotated: Mask, valid: Mask | None) -> PixelOverlap:
    if valid is not None:
        regions, annotated = regions & valid, annotated & valid
    return PixelOverlap(int((regions & annotated).sum()), int((regions | annotated).sum()))


def _iou(a: Crop, b: Crop) -> float:
    """Intersection over union of two masks in their boxes."""
    both = count_shared(a, b)
    return both / (int(a[1].sum()) + int(b[1].sum()) - both)
