"""Estimate how far a finished bundle's measurements are from the truth, on defects that it was not trained on.

Methods trained on masks or boxes: on the annotated defects of the images that thresholds rest on. Methods trained on
good images alone: on the annotated defects of the validation images where enough of them are found, else on synthetic
defects of exact masks, of two families that share neither shapes nor shading, on the good images for tuning, else of
validation, else of training. Real defects are measured less truly than synthetic ones: those errors are expanded.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Literal

from blemish.arrays import Image
from blemish.dataset.ground_truth import Instance, has_boxes, has_mask
from blemish.dataset.sample import Dataset, Sample, sort_by_name
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import measure_image_geometry
from blemish.evaluation.geometry_metrics import MeasuredDefect, match_geometry, paired_values
from blemish.geometry import connected_regions, mask_bounds
from blemish.imaging.read import read_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import MeasurementUncertainty
from blemish.inspection.measure import RegionGeometry
from blemish.inspection.refine import Refiner
from blemish.inspection.result import Inspection, Region
from blemish.inspection.uncertainty import MIN_DEFECTS, size_class_errors
from blemish.methods.base import Method
from blemish.training.learn.supervision import learns_from_good_only
from blemish.training.ship.synthetic_trials import Family, SyntheticTrial, synthetic_trials

MAX_TRIALS = 160  # synthetic defects of each family
TRIALS_PER_IMAGE = 12  # of each family, on one good image
FAMILIES: tuple[Family, ...] = ("taught", "judge")
MAX_ANNOTATED = 400  # images with annotated defects
# Errors on synthetic defects are expanded by so much. MVTec's pill chose it: of the lengths, widths and areas of its
# real defects, by their masks, 19 to 46 % are within the range as it is, 58 to 88 % within 5 times, 89 to 92 % within
# 10. The better the refinement gets on synthetic defects, the larger it has to be.
REAL_DEFECTS = 10.0
LOCATING = {"anomaly_map", "class_map", "mask_scores", "boxes"}  # outputs of a graph that give regions

log = logging.getLogger(__name__)


def estimate_uncertainty(
    method: type[Method],
    inspector: Inspector,
    dataset: Dataset,
    seed: int,
    refiner: Refiner | None = None,
    cross_fitted: tuple[Sequence[Sample], list[Inspection]] | None = None,
) -> MeasurementUncertainty | None:
    """Errors of the measurements of an inspector that decides as the bundle will; None where they cannot be known.

    The inspector finds coarse regions, which the bundle's `refiner` refines. `cross_fitted` images come with their
    inspections by methods that were not trained on them.
    """
    manifest = inspector.manifest
    if not (LOCATING & set(manifest.outputs) or manifest.tiling is not None):
        return None
    if cross_fitted is not None and not learns_from_good_only(method):
        samples, results = cross_fitted
        return uncertainty_from_annotations(results, samples, cross_fitted=True)
    annotated = [s for s in dataset.split("val").samples if s.defective and (has_mask(s) or has_boxes(s))]
    annotated = annotated[:MAX_ANNOTATED]
    inspected = (
        replace(result, regions=refined_regions(result, read_image(sample.image), refiner))
        for result, sample in zip(inspector.inspect(annotated), annotated, strict=True)
    )
    known = uncertainty_from_annotations(inspected, annotated) if annotated else None
    if known is None and learns_from_good_only(method):
        return uncertainty_from_trials(inspector, dataset, seed, refiner)
    return known


def uncertainty_from_trials(
    inspector: Inspector, dataset: Dataset, seed: int, refiner: Refiner | None = None
) -> MeasurementUncertainty | None:
    """From synthetic defects on good images; None where too few of them are found, or a reference image is needed."""
    samples = held_out_good(dataset)
    if not samples or inspector.manifest.template:
        return None
    defects: list[MeasuredDefect] = []
    for family in FAMILIES:
        count = min(MAX_TRIALS, TRIALS_PER_IMAGE * len(samples))
        for trial in synthetic_trials(samples, count, seed + 1, family, inspector.manifest.input.pixels):
            result = inspector.inspect(trial.image, valid=trial.valid)
            defects += measure_trial(trial, refined_regions(result, trial.image, refiner), result)
    known = summarize(defects, "synthetic")
    return None if known is None else expand(known, REAL_DEFECTS)


def expand(known: MeasurementUncertainty, factor: float) -> MeasurementUncertainty:
    """The same with each uncertainty multiplied; biases and ratios stay those of the defects measured."""
    errors = {
        name: [one.model_copy(update={"uncertainty": round(factor * one.uncertainty, 4)}) for one in classes]
        for name, classes in known.errors.items()
    }
    return known.model_copy(update={"errors": errors})


def uncertainty_from_annotations(
    results: Iterable[Inspection], samples: Sequence[Sample], cross_fitted: bool = False
) -> MeasurementUncertainty | None:
    """From inspections of annotated images that the bundle was not trained on; None with too few defects on them."""
    defects: list[MeasuredDefect] = []
    for result, sample in zip(results, samples, strict=True):
        try:
            geometry = measure_image_geometry(sample, result)
        except BlemishError:  # of its mask, which calibration has reported
            continue
        defects += geometry.defects if geometry is not None else []
    return summarize(defects, "cross-fitted" if cross_fitted else "validation")


def refined_regions(result: Inspection, image: Image, refiner: Refiner | None) -> list[Region]:
    """The regions that a bundle's refiner, if it has one, makes of those of an inspection of the image (H, W, C)."""
    if refiner is None or result.heat_map is None:
        return result.regions
    return refiner.refine(result.regions, image, result.heat_map, result.valid)


def held_out_good(dataset: Dataset) -> list[Sample]:
    """The good images for tuning; where there are none, those of validation, else of training."""
    for split in ("tuning", "val", "train"):
        good = sort_by_name(sample for sample in dataset.split(split).samples if sample.defective is False)
        if good:
            return good
    return []


def measure_trial(trial: SyntheticTrial, regions: Sequence[Region], result: Inspection) -> list[MeasuredDefect]:
    """The defects of a synthetic trial as the regions of its inspection measure them."""
    annotated = []
    for pixels in connected_regions(trial.mask):
        if (bounds := mask_bounds(pixels)) is not None:
            x0, y0, x1, y1 = bounds
            annotated.append(Instance(trial.kind, bounds, pixels[y0:y1, x0:x1]))
    geometry = match_geometry(regions, annotated, result.valid, result.size)
    return [] if geometry is None else geometry.defects


def summarize(
    defects: Sequence[MeasuredDefect], source: Literal["synthetic", "validation", "cross-fitted"]
) -> MeasurementUncertainty | None:
    """The errors by size class; None where fewer than MIN_DEFECTS defects were found.

    A region that should have been refined and was not has no uncertainty, and says nothing of that of others.
    """
    found = [defect for defect in defects if defect.measured is not None and defect.refined is not False]
    if len(found) < MIN_DEFECTS:
        log.debug(f"{len(found)} of {len(defects)} defects were measured, too few to estimate uncertainties")
        return None
    errors = {}
    for name in (f.name for f in fields(RegionGeometry)):
        true, measured = paired_values(found, name)
        positive = (true > 0) & (measured > 0)
        errors[name] = size_class_errors(true[positive], measured[positive])
    return MeasurementUncertainty(source=source, defects=len(defects), found=len(found), errors=errors)
