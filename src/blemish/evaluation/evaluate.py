"""Judge a bundle on images whose truth is known, through the inspector: what is measured is what ships."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.ground_truth import class_masks, classes_shown, has_mask, instances_of, known_boxes, mask_of
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.write import sha256_of
from blemish.errors import BlemishError, DataError
from blemish.evaluation.box_metrics import BoxMetrics, box_metrics, match_boxes
from blemish.evaluation.class_metrics import ClassMetrics, class_metrics
from blemish.evaluation.defect_recall import (
    DefectMatches,
    SizeRecall,
    match_regions_to_boxes,
    match_regions_to_masks,
    recall_by_size,
)
from blemish.evaluation.detections import Detections
from blemish.evaluation.image_metrics import ImageMetrics, image_metrics
from blemish.evaluation.label_metrics import LabelMetrics, label_metrics
from blemish.evaluation.mask_metrics import MaskMetrics, RegionOverlap, mask_metrics, match_masks, measure_overlap
from blemish.evaluation.pixel_metrics import PixelMetrics, PixelScores, pixel_metrics, split_scores
from blemish.evaluation.speed import Speed, measure_speed
from blemish.geometry import Box
from blemish.inspection.decode import box_region
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import Unreadable
from blemish.inspection.result import Inspection, Verdict
from blemish.inspection.stitching import defect_names

Watch = Callable[[Sample, Inspection], None]


@dataclass(frozen=True)
class Figures:
    """Figures of one set of images; None where there is no truth for them or no such output."""

    image: ImageMetrics | None
    pixel: PixelMetrics | None
    classes: ClassMetrics | None
    masks: MaskMetrics | None
    boxes: BoxMetrics | None
    sizes: list[SizeRecall] | None = None  # share of the defects found by their size
    labels: LabelMetrics | None = None  # where images show several defects at once


@dataclass(frozen=True)
class Evaluation:
    figures: Figures
    products: dict[str, Figures]
    speed: Speed | None
    bundle: dict[str, Any]
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain data; what could not be measured is absent."""
        found: dict[str, Any] = {
            **asdict(self.figures),
            "products": {name: asdict(figures) for name, figures in self.products.items()},
            "speed": None if self.speed is None else asdict(self.speed),
            "bundle": self.bundle,
            "data": self.data,
        }
        return {key: _without_missing(value) for key, value in found.items() if value is not None and value != {}}


@dataclass(frozen=True, slots=True)
class EvaluatedImage:
    """What evaluation keeps of one inspected image."""

    sample: Sample
    verdict: Verdict
    score: float
    predicted: tuple[str, float] | None  # the likeliest class and its probability
    pixels: PixelScores | None
    measure_overlap: RegionOverlap | None
    instances: Detections | None  # masks of whole defects against the true ones
    boxes: Detections | None
    outcome: DefectMatches | None = None  # which true defects the regions find
    told: frozenset[str] | None = None  # defect classes of the truth
    shown: tuple[frozenset[str], dict[str, float]] | None = None  # these, and the probability of each of the bundle's


def evaluate(
    inspector: Inspector,
    dataset: Dataset,
    *,
    speed: bool = True,
    watch: Watch | None = None,
    keep: Callable[[EvaluatedImage], None] | None = None,
) -> Evaluation:
    """Figures of a bundle on a dataset, all of whose images are used.

    `watch` is shown each sample with its inspection, `keep` what the figures rest on. Images and masks that cannot be
    read are counted and left out.
    Raises DataError where no image can be inspected.
    """
    measured = measure_speed(inspector, dataset.samples) if speed else None  # first, while memory holds nothing else
    unreadable: list[str] = []
    seen = list(_inspect(inspector, dataset, unreadable, watch))
    if not seen:
        reason = f": {unreadable[0]}" if unreadable else ""
        raise DataError(f"none of the {len(dataset)} images could be inspected{reason}")
    if keep is not None:
        for own in seen:
            keep(own)
    products = sorted({s.sample.product for s in seen if s.sample.product is not None})
    by_product = {p: _figures(inspector, [s for s in seen if s.sample.product == p], p) for p in products}
    return Evaluation(
        figures=_figures(inspector, seen),
        products=by_product if len(products) > 1 else {},
        speed=measured,
        bundle={
            "name": inspector.manifest.name,
            "method": inspector.manifest.provenance.method,
            "path": str(inspector.bundle.path),
            "size_mb": inspector.bundle.path.stat().st_size / 1e6,
            "decision": inspector.manifest.decision.model_dump(exclude_defaults=True),
            "products": {
                name: own.decision.model_dump(exclude_defaults=True)
                for name, own in inspector.manifest.products.items()
            },
        },
        data={
            "root": str(dataset.root),
            "format": dataset.format,
            "images": len(seen),
            "good": sum(s.sample.defective is False for s in seen),
            "defective": sum(s.sample.defective is True for s in seen),
            "unknown": sum(s.sample.defective is None for s in seen),
            "without_pixel_truth": sum(s.pixels is None for s in seen),
            "unreadable": unreadable,
            "unknown_classes": _unknown_classes(inspector, seen),
            "sha256": sha256_of(dataset.with_samples([s.sample for s in seen])),
        },
    )


def _unknown_classes(inspector: Inspector, seen: list[EvaluatedImage]) -> dict[str, int]:
    """Classes of the truth that a bundle which names classes does not know, and how many images are of each."""
    several = len(defect_names(inspector.manifest)) > 1  # the only class of boxes or masks is any defect's
    labels = [label for s in seen if s.told is not None and (several or s.shown is not None) for label in s.told]
    return dict(sorted(Counter(label for label in labels if label not in inspector.manifest.classes).items()))


def _inspect(inspector: Inspector, dataset: Dataset, unreadable: list[str], watch: Watch | None) -> Iterator[EvaluatedImage]:
    results = inspector.inspect(dataset.samples, on_error="report")
    names = defect_names(inspector.manifest)
    for sample, result in zip(dataset.samples, results, strict=True):
        if isinstance(result, Unreadable):
            unreadable.append(result.message)
            continue
        mask, layers, instances, boxes, outcome, told, shown = None, {}, None, None, None, None, None
        try:
            told = classes_shown(sample)
            mask = _pixel_truth(sample, result)
            if mask is not None:
                # Pixels of a class that the bundle does not know are missed ones of that class.
                every = [*names, *sorted((told or frozenset()) - set(names))] if len(names) > 1 else names
                layers = dict(zip(every, class_masks(sample, every, result.size), strict=True))
                instances = _compare_instances(sample, result, names)
            known = None if result.candidates is None else known_boxes(sample, result.size)
            if result.candidates is not None and known is not None:
                boxes = match_boxes(result.candidates, _as_named(known, names), result.valid)
            outcome = _outcome(sample, result, mask, known)
            if told is not None and result.class_scores is not None:
                shown = told, {name: result.class_scores[name] for name in names}
        except BlemishError as error:
            unreadable.append(str(error))
        if watch is not None:
            watch(sample, result)
        yield EvaluatedImage(
            sample,
            result.verdict,
            result.score,
            max(result.class_scores.items(), key=lambda own: own[1]) if result.class_scores else None,
            None if mask is None or result.heat_map is None else split_scores(result.heat_map, mask, result.valid),
            None if mask is None else measure_overlap(result.regions, mask, result.valid, layers),
            instances,
            boxes,
            outcome,
            told,
            shown,
        )


def _pixel_truth(sample: Sample, result: Inspection) -> Mask | None:
    """Defect pixels (H, W) of an image; None where they are not known, as with an empty mask of a defective image."""
    if not has_mask(sample):
        return None
    mask = mask_of(sample, result.size)
    return mask if mask.any() or sample.defective is False else None


def _as_named(boxes: Sequence[Box], names: list[str]) -> list[Box]:
    """Where the bundle knows one class, all defects are it."""
    return [replace(box, label=names[0]) for box in boxes] if len(names) == 1 else list(boxes)


def _outcome(sample: Sample, result: Inspection, mask: Mask | None, boxes: Sequence[Box] | None) -> DefectMatches | None:
    """By masks where both sides have them, else by boxes where the bundle gives some; None where nothing tells."""
    boxes_alone = result.candidates is not None and result.candidates.masks is None
    if mask is not None and not boxes_alone:
        truth = instances_of(sample, result.size) if sample.defective is not False else []
        return match_regions_to_masks(result.regions, truth, result.valid, result.size)
    if result.candidates is not None and boxes is not None:
        return match_regions_to_boxes(result.regions, boxes, result.valid)
    return None


def _compare_instances(sample: Sample, result: Inspection, names: list[str]) -> Detections:
    """Regions, or all that a detector of masks gave, against the true defects; where it knows one class, all are it."""
    found = result.candidates
    if found is None or found.masks is None:
        regions = result.regions
    else:
        regions = [box_region(found, i, result.size) for i in range(len(found.labels))]
    truth = instances_of(sample, result.size) if sample.defective is not False else []
    if len(names) == 1:
        truth = [replace(t, label=names[0]) for t in truth]
    return match_masks(regions, truth, result.valid)


def _figures(inspector: Inspector, seen: list[EvaluatedImage], product: str | None = None) -> Figures:
    known = [s for s in seen if s.sample.defective is not None]
    scores = np.array([s.score for s in known], np.float64)
    defective = np.array([bool(s.sample.defective) for s in known], np.bool_)
    pixels = [s.pixels for s in seen if s.pixels is not None]
    named = [(s.sample.label, *s.predicted) for s in seen if s.sample.label is not None and s.predicted is not None]
    shapes = bool({"anomaly_map", "class_map", "mask_scores", "box_masks"} & set(inspector.manifest.outputs))
    shapes |= inspector.manifest.tiling is not None  # a classifier of windows
    overlaps = [s.measure_overlap for s in seen if s.measure_overlap is not None]
    outcomes = [s.outcome for s in seen if s.outcome is not None]
    shown = [s.shown for s in seen if s.shown is not None]
    several = any(len(truth) > 1 for truth, _ in shown)
    thresholds = inspector.decision_for(product).class_thresholds
    return Figures(
        image=image_metrics(scores, defective, [s.verdict for s in known]) if known else None,
        pixel=pixel_metrics(pixels, inspector.decision_for(product).map_high),
        classes=class_metrics(*map(list, zip(*named, strict=True))) if named else None,
        masks=mask_metrics(overlaps, [s.instances for s in seen if s.instances is not None]) if shapes else None,
        boxes=box_metrics([s.boxes for s in seen if s.boxes is not None]),
        sizes=recall_by_size(outcomes) or None if shapes or "boxes" in inspector.manifest.outputs else None,
        labels=label_metrics([t for t, _ in shown], [found for _, found in shown], thresholds) if several else None,
    )


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(v) for key, v in value.items() if v is not None and v != {}}
    return value
