"""Evaluate a bundle on annotated images, through the inspector: what is measured is what ships."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.arrays import FloatMap, Mask
from blemish.dataset.duplicates import MAX_NEAR_IMAGES
from blemish.dataset.ground_truth import (
    Instance,
    defect_instances,
    defect_shapes,
    find_defect_classes,
    has_mask,
    known_boxes,
    read_class_masks,
    read_defect_mask,
)
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.saturation import find_saturations
from blemish.dataset.write import dataset_sha256
from blemish.errors import BlemishError, DataError
from blemish.evaluation.box_metrics import box_metrics, match_boxes
from blemish.evaluation.class_metrics import class_metrics
from blemish.evaluation.defect_recall import (
    DefectMatches,
    match_regions_to_boxes,
    match_regions_to_masks,
    recall_by_size,
)
from blemish.evaluation.detections import Detections
from blemish.evaluation.evaluation import Evaluation, MetricSet
from blemish.evaluation.geometry_metrics import ImageGeometry, geometry_metrics, match_geometry
from blemish.evaluation.image_metrics import image_metrics
from blemish.evaluation.label_metrics import label_metrics
from blemish.evaluation.mask_metrics import RegionOverlap, mask_metrics, match_masks, measure_overlap
from blemish.evaluation.pixel_metrics import PixelScores, count_unscored, pixel_metrics, split_scores
from blemish.evaluation.region_overlap import SaturatedRegion
from blemish.evaluation.speed import measure_speed
from blemish.evaluation.units import count_units, describe_images, find_units
from blemish.geometry import Box, shape_mask
from blemish.inspection.bundle import describe_bundle
from blemish.inspection.decode import box_region
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection, Verdict
from blemish.inspection.seen_images import count_seen
from blemish.inspection.stitching import defect_names

OnInspection = Callable[[Sample, Inspection], None]


@dataclass(frozen=True, slots=True)
class EvaluatedImage:
    """The data of one inspected image that metrics need; None where its annotation or the bundle has no such thing."""

    sample: Sample
    verdict: Verdict
    score: float
    predicted: tuple[str, float] | None  # the likeliest class and its probability
    pixels: PixelScores | None
    overlap: RegionOverlap | None
    instances: Detections | None  # masks of whole defects against the annotated ones
    boxes: Detections | None
    matches: DefectMatches | None = None
    true_classes: frozenset[str] | None = None  # annotated defect classes
    probabilities: dict[str, float] | None = None  # of each of the bundle's defect classes
    geometry: ImageGeometry | None = None  # of a defective image
    unit: str | None = None  # images of one unit are no independent ones, see `blemish.evaluation.units`


def evaluate(
    inspector: Inspector,
    dataset: Dataset,
    *,
    speed: bool = True,
    on_inspection: OnInspection | None = None,
    on_evaluated: Callable[[EvaluatedImage], None] | None = None,
) -> Evaluation:
    """Evaluate a bundle on all images of a dataset.

    `on_inspection` is called with each sample and its inspection, `on_evaluated` with what the metrics use of each
    image. Images and masks that cannot be read are counted and left out; a warning says how many of the images the
    bundle was trained, tuned or calibrated on. Raises DataError where no image can be inspected.
    """
    measured = measure_speed(inspector, dataset.samples) if speed else None  # first, while memory holds nothing else
    unreadable: list[str] = []
    images = list(_inspect(inspector, dataset, unreadable, on_inspection))
    if not images:
        reason = f": {unreadable[0]}" if unreadable else ""
        raise DataError(f"none of the {len(dataset)} images could be inspected{reason}")
    units = find_units([i.sample for i in images])
    images = [replace(image, unit=unit) for image, unit in zip(images, units, strict=True)]
    if on_evaluated is not None:
        for image in images:
            on_evaluated(image)
    annotated = [i for i in images if i.sample.defective is not None]
    doubts = _find_doubts(images)
    for line in doubts:
        warnings.warn(line, stacklevel=2)
    good, defective = ([i.unit for i in annotated if i.sample.defective is kind] for kind in (False, True))
    for kind, own in (("good", good), ("defective", defective)):
        if count_units(own) < len(own):
            warnings.warn(
                f"{describe_images(kind, own)}, by groups and copies: rates, intervals and proofs count each part once",
                stacklevel=2,
            )
    seen = count_seen(inspector.bundle, (i.sample.image for i in images))
    if (count := sum((seen or {}).values())) and not dataset.doubts:  # who read the data by `read_subset` was told
        warnings.warn(
            f"the bundle was trained, tuned or calibrated on {count} of the {len(images)} images: the metrics are too "
            "good",
            stacklevel=2,
        )
    products = sorted({i.sample.product for i in images if i.sample.product is not None})
    by_product = {p: _measure(inspector, [i for i in images if i.sample.product == p], p) for p in products}
    return Evaluation(
        metrics=_measure(inspector, images),
        products=by_product if len(products) > 1 else {},
        speed=measured,
        bundle={
            **describe_bundle(inspector.bundle.path, inspector.manifest),
            "size_mb": inspector.bundle.path.stat().st_size / 1e6,
        },
        data={
            "root": str(dataset.root),
            "format": dataset.format,
            "images": len(images),
            "good": len(good),
            "defective": len(defective),
            "good_parts": count_units(good),
            "defective_parts": count_units(defective),
            "unknown": len(images) - len(annotated),
            "without_pixel_annotation": sum(i.pixels is None for i in images),
            "unreadable": unreadable,
            "unknown_classes": _unknown_classes(inspector, images),
            "sha256": dataset_sha256(dataset.with_samples([i.sample for i in images])),
            "seen": seen,
            "warnings": [*dataset.doubts, *doubts],
        },
        scores=np.array([i.score for i in annotated], np.float64),
        defective=np.array([bool(i.sample.defective) for i in annotated], np.bool_),
    )


def _find_doubts(images: Sequence[EvaluatedImage]) -> list[str]:
    """A line each of near duplicates that are not looked for, and of scores and heat maps that are not numbers."""
    lines = []
    if len(images) > MAX_NEAR_IMAGES:
        lines.append(
            f"near duplicates are not looked for among {len(images)} images, more than {MAX_NEAR_IMAGES}: each counts "
            "as a part of its own"
        )
    if unscored := [i for i in images if i.sample.defective is not None and not math.isfinite(i.score)]:
        lines.append(
            f"the score of {len(unscored)} images is not a number, such as that of {unscored[0].sample.image}: they "
            "count among the verdicts, but not in rankings"
        )
    if maps := [i.sample.image for i in images if i.pixels is not None and count_unscored(i.pixels)]:
        lines.append(
            f"the heat maps of {len(maps)} images hold values that are not numbers, such as that of {maps[0]}: these "
            "pixels count in no metric of pixels"
        )
    return lines


def _unknown_classes(inspector: Inspector, images: Sequence[EvaluatedImage]) -> dict[str, int]:
    """Annotated classes that a bundle of several classes does not know, and how many images have each."""
    several = len(defect_names(inspector.manifest.classes)) > 1  # the only class of boxes or masks is any defect's
    labels = [label for i in images if several or i.probabilities is not None for label in i.true_classes or ()]
    return dict(sorted(Counter(label for label in labels if label not in inspector.manifest.classes).items()))


def _inspect(
    inspector: Inspector, dataset: Dataset, unreadable: list[str], on_inspection: OnInspection | None
) -> Iterator[EvaluatedImage]:
    names = defect_names(inspector.manifest.classes)
    results = inspector.inspect(dataset.samples, on_error="report")
    for sample, result in zip(dataset.samples, results, strict=True):
        if isinstance(result, FailedInspection):
            unreadable.append(result.message)
            continue
        predicted = max(result.class_scores.items(), key=lambda own: own[1]) if result.class_scores else None
        image = EvaluatedImage(sample, result.verdict, result.score, predicted, None, None, None, None)
        try:
            image = replace(image, true_classes=find_defect_classes(sample))
            image = _compare(image, result, names)
        except BlemishError as error:  # of its mask; the image itself was inspected
            unreadable.append(str(error))
        if on_inspection is not None:
            on_inspection(sample, result)
        yield image


def _compare(image: EvaluatedImage, result: Inspection, names: list[str]) -> EvaluatedImage:
    """The image with its inspection compared to its annotation; `names` are the bundle's defect classes."""
    sample, true_classes = image.sample, image.true_classes
    mask, boxes = _annotated_mask(sample, result), None
    if mask is not None:
        # Pixels of a class that the bundle does not know are missed ones of that class.
        every = [*names, *sorted((true_classes or frozenset()) - set(names))] if len(names) > 1 else names
        layers = dict(zip(every, read_class_masks(sample, every, result.size), strict=True))
        image = replace(
            image,
            pixels=None if result.heat_map is None else _split_scores(sample, result.heat_map, mask, result.valid),
            overlap=measure_overlap(result.regions, mask, result.valid, layers),
            instances=_match_instances(sample, result, names),
        )
    if result.candidates is not None and (boxes := known_boxes(sample, result.size)) is not None:
        # Where the bundle knows one class, every defect is of it.
        renamed = [replace(box, label=names[0]) for box in boxes] if len(names) == 1 else boxes
        image = replace(image, boxes=match_boxes(result.candidates, renamed, result.valid))
    probabilities = None
    if true_classes is not None and result.class_scores is not None:
        probabilities = {name: result.class_scores[name] for name in names}
    return replace(
        image,
        matches=_match_regions(sample, result, mask, boxes),
        probabilities=probabilities,
        geometry=measure_image_geometry(sample, result),
    )


def _split_scores(sample: Sample, heat: FloatMap, mask: Mask, valid: Mask | None) -> PixelScores:
    """Scores of good and defect pixels and, where the data state a saturation, of each defect that has one."""
    saturated, known = [], find_saturations(sample)
    for shape in defect_shapes(sample, heat.shape) if known and mask.any() else ():
        if shape.label in known:
            pixels = shape_mask(shape, heat.shape)
            own = heat[pixels if valid is None else pixels & valid]
            if len(own):
                saturated.append(SaturatedRegion(own, known[shape.label].pixels(int(pixels.sum()))))
    return replace(split_scores(heat, mask, valid), saturated=saturated)


def measure_image_geometry(sample: Sample, result: Inspection) -> ImageGeometry | None:
    """The geometry of an image's defects: of their masks where both sides have them, else of their boxes, else None.

    Raises ImageError for a mask that cannot be read.
    """
    if not sample.defective:
        return None
    only_boxes = result.candidates is not None and result.candidates.masks is None
    if has_mask(sample) and not only_boxes:
        annotated: Sequence[Instance] | Sequence[Box] = defect_instances(sample, result.size)
    else:
        annotated = known_boxes(sample, result.size) or ()
    return match_geometry(result.regions, annotated, result.valid, result.size)


def _annotated_mask(sample: Sample, result: Inspection) -> Mask | None:
    """Defect pixels (H, W) of an image; None where they are not known, as with an empty mask of a defective image."""
    if not has_mask(sample):
        return None
    mask = read_defect_mask(sample, result.size)
    return mask if mask.any() or sample.defective is False else None


def _match_regions(
    sample: Sample, result: Inspection, mask: Mask | None, boxes: Sequence[Box] | None
) -> DefectMatches | None:
    """Detected defects of an image: by masks where both sides have them, else by boxes, else None."""
    only_boxes = result.candidates is not None and result.candidates.masks is None
    if mask is not None and not only_boxes:
        annotated = defect_instances(sample, result.size) if sample.defective is not False else []
        return match_regions_to_masks(result.regions, annotated, result.valid, result.size)
    return None if boxes is None else match_regions_to_boxes(result.regions, boxes, result.valid)


def _match_instances(sample: Sample, result: Inspection, names: list[str]) -> Detections:
    """Regions, or all detections of an instance segmenter, matched to the annotated defects."""
    candidates = result.candidates
    regions = result.regions
    if candidates is not None and candidates.masks is not None:
        regions = [box_region(candidates, i, result.size) for i in range(len(candidates.labels))]
    annotated = defect_instances(sample, result.size) if sample.defective is not False else []
    if len(names) == 1:
        annotated = [replace(t, label=names[0]) for t in annotated]
    return match_masks(regions, annotated, result.valid)


def _measure(inspector: Inspector, images: Sequence[EvaluatedImage], product: str | None = None) -> MetricSet:
    # Each product has thresholds of its own: a pooled figure at one of them would be of no decision that was made.
    pooled = product is None and bool(inspector.manifest.products)
    decision, outputs = inspector.get_decision(product), set(inspector.manifest.outputs)
    annotated = [i for i in images if i.sample.defective is not None]
    scores = np.array([i.score for i in annotated], np.float64)
    defective = np.array([bool(i.sample.defective) for i in annotated], np.bool_)
    labelled = [(i.sample.label, *i.predicted, i.unit) for i in images if i.sample.label is not None and i.predicted]
    shapes = bool({"anomaly_map", "class_map", "mask_scores", "box_masks"} & outputs)
    shapes |= inspector.manifest.tiling is not None  # a classifier of windows
    masked, matched = [i for i in images if i.overlap], [i for i in images if i.matches is not None]
    overlaps, instances = [i.overlap for i in masked if i.overlap], [i.instances for i in images if i.instances]
    matches = [i.matches for i in matched if i.matches is not None]
    with_classes = [i for i in images if i.probabilities is not None]
    true_classes = [i.true_classes or frozenset() for i in with_classes]
    labels = None
    if any(len(own) > 1 for own in true_classes) and not pooled:
        labels = label_metrics(
            true_classes,
            [i.probabilities or {} for i in with_classes],
            decision.class_thresholds,
            [i.unit for i in with_classes],
        )
    verdicts, units = [i.verdict for i in annotated], [i.unit for i in annotated]
    return MetricSet(
        image=image_metrics(scores, defective, verdicts, units) if annotated else None,
        pixel=pixel_metrics([i.pixels for i in images if i.pixels is not None], None if pooled else decision.map_high),
        classes=class_metrics(*map(list, zip(*labelled, strict=True))) if labelled else None,
        masks=mask_metrics(overlaps, instances, [i.unit for i in masked]) if shapes else None,
        boxes=box_metrics([i.boxes for i in images if i.boxes is not None]),
        sizes=recall_by_size(matches, [i.unit for i in matched]) or None if shapes or "boxes" in outputs else None,
        labels=labels,
        geometry=geometry_metrics(i.geometry for i in images if i.geometry) if shapes or "boxes" in outputs else None,
    )
