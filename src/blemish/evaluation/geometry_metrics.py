"""Errors of measured geometry: the regions as shipped against the defects of masks or boxes, one by one.

Regions and defects are matched one to one, those that share most pixels first, whatever their classes. Of two regions
on one defect the smaller share stays unmatched, and a region that covers two defects measures one of them. A box is
measured like a filled rectangle, so that detectors get the same metrics; where only boxes are annotated, a region's own
box is compared.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Counts, Flags, Mask, Scores
from blemish.dataset.ground_truth import Instance
from blemish.evaluation.crops import Crop, count_shared, make_crop, valid_crop
from blemish.evaluation.intervals import RateEstimate, estimate_rate
from blemish.geometry import Box
from blemish.inspection.measure import RegionGeometry, measure_geometry
from blemish.inspection.result import Region

QUANTITIES = ("length", "mean_width", "area")  # that metrics are given of
RANGE = (0.05, 0.95)  # quantiles of the 90 % range


@dataclass(frozen=True, slots=True)
class MeasuredDefect:
    """A true defect and the region that was matched with it, in px; None of a region that was not there."""

    label: str
    true: RegionGeometry
    measured: RegionGeometry | None
    uncertainty: dict[str, float | None]  # by name of the measurement, as the inspection gave it
    iou: float  # of region and defect; 0 of a missed one
    refined: bool | None = None  # of the region


@dataclass(frozen=True, slots=True)
class ImageGeometry:
    """The defects of one defective image."""

    defects: list[MeasuredDefect]
    iou: float  # of all its regions together with all its defects


@dataclass(frozen=True)
class MeasurementError:
    """Errors of one measurement over the defects found: ratios are measured / true."""

    n: int
    bias: float  # median ratio, less 1
    error: float  # median |ratio - 1|
    ratio_low: float  # 5 % quantile
    ratio_high: float  # 95 % quantile
    covered: RateEstimate | None = None  # true values within measured ± uncertainty, where that is known


@dataclass(frozen=True)
class SizeGeometry:
    """Geometry of the defects whose side (square root of the true area) is from `low` to below `high` px."""

    low: float
    high: float
    defects: int
    found: int
    iou: float  # mean over the defects, a missed one counts 0
    length: MeasurementError | None
    mean_width: MeasurementError | None
    area: MeasurementError | None


@dataclass(frozen=True)
class GeometryMetrics:
    defects: int
    found: int  # defects with a region of their own
    image_iou: float  # mean over defective images, of all regions together
    defect_iou: float  # mean over all defects, a missed one counts 0
    defect_iou_found: float | None  # mean over the defects found
    length: MeasurementError | None
    mean_width: MeasurementError | None
    area: MeasurementError | None
    sizes: list[SizeGeometry]


def match_geometry(
    regions: Sequence[Region], annotated: Sequence[Instance] | Sequence[Box], valid: Mask | None, size: tuple[int, int]
) -> ImageGeometry | None:
    """Match the regions of an image of `size` (height, width) with its defects; None where none is on valid pixels."""
    boxes = any(isinstance(one, Box) for one in annotated)
    defects = [(one.label, crop) for one in annotated if (crop := _defect_crop(one, valid, size)) is not None]
    if not defects:
        return None
    found = [make_crop(region.box, None if boxes else region.mask) for region in regions]
    pixels = [[count_shared(region, defect) for _, defect in defects] for region in found]
    shared = np.array(pixels, np.int64).reshape(len(found), len(defects))
    own = match_pairs(shared)
    result = []
    for number, (label, crop) in enumerate(defects):
        true, index = measure_geometry(crop[1]), own.get(number)
        if index is None:
            result.append(MeasuredDefect(label, true, None, {}, 0.0))
            continue
        region, own_region = found[index], regions[index]
        both = int(shared[index, number])
        iou = both / (int(region[1].sum()) + int(crop[1].sum()) - both)
        measured = measure_geometry(region[1])
        result.append(
            MeasuredDefect(label, true, measured, _uncertainties(own_region), iou, refined=own_region.refined)
        )
    return ImageGeometry(result, _union_iou(found, [crop for _, crop in defects], valid, size))


def match_pairs(shared: Counts) -> dict[int, int]:
    """Region of each defect, from the pixels (R, D) they share: the largest share first, each of both at most once."""
    pairs: dict[int, int] = {}
    for flat in np.argsort(-shared, axis=None, kind="stable").tolist():
        region, defect = divmod(flat, shared.shape[1])
        if shared[region, defect] <= 0:
            break
        if defect not in pairs and region not in pairs.values():
            pairs[defect] = region
    return pairs


def geometry_metrics(images: Iterable[ImageGeometry]) -> GeometryMetrics | None:
    """Metrics of several images; None where none has a defect."""
    several = list(images)
    defects = [defect for image in several for defect in image.defects]
    if not defects:
        return None
    found = [defect.iou for defect in defects if defect.measured is not None]
    steps = np.floor(np.log2([max(np.sqrt(defect.true.area), 1e-9) for defect in defects])).astype(int)
    by_size = {step: [d for d, own in zip(defects, steps, strict=True) if own == step] for step in np.unique(steps)}
    return GeometryMetrics(
        defects=len(defects),
        found=len(found),
        image_iou=float(np.mean([image.iou for image in several])),
        defect_iou=float(np.mean([defect.iou for defect in defects])),
        defect_iou_found=float(np.mean(found)) if found else None,
        **{name: measurement_error(defects, name) for name in QUANTITIES},
        sizes=[_size_geometry(int(step), own) for step, own in by_size.items()],
    )


def measurement_error(defects: Sequence[MeasuredDefect], name: str) -> MeasurementError | None:
    """Errors of one measurement over the defects found; None where none is."""
    true, measured = paired_values(defects, name)
    if not len(true):
        return None
    ratios = measured / true
    low, high = np.quantile(ratios, RANGE)
    within = _within(defects, name)
    return MeasurementError(
        n=len(ratios),
        bias=float(np.median(ratios)) - 1,
        error=float(np.median(np.abs(ratios - 1))),
        ratio_low=float(low),
        ratio_high=float(high),
        covered=estimate_rate(int(within.sum()), len(within)) if len(within) else None,
    )


def paired_values(defects: Sequence[MeasuredDefect], name: str) -> tuple[Scores, Scores]:
    """True and measured values (N,) in px of the defects found."""
    pairs = [(getattr(d.true, name), getattr(d.measured, name)) for d in defects if d.measured is not None]
    true, measured = np.array(pairs, np.float64).reshape(-1, 2).T
    return true, measured


def _within(defects: Sequence[MeasuredDefect], name: str) -> Flags:
    """Of each defect found whose uncertainty is known, whether the true value is within it."""
    known = [(d, d.measured, d.uncertainty.get(name)) for d in defects]
    return np.array(
        [abs(getattr(m, name) - getattr(d.true, name)) <= u for d, m, u in known if m is not None and u is not None],
        np.bool_,
    )


def _size_geometry(step: int, defects: Sequence[MeasuredDefect]) -> SizeGeometry:
    return SizeGeometry(
        low=2.0**step,
        high=2.0 ** (step + 1),
        defects=len(defects),
        found=sum(defect.measured is not None for defect in defects),
        iou=float(np.mean([defect.iou for defect in defects])),
        **{name: measurement_error(defects, name) for name in QUANTITIES},
    )


def _uncertainties(region: Region) -> dict[str, float | None]:
    own = region.measurements
    return {} if own is None else {name: getattr(own, f"{name}_px_u") for name in QUANTITIES}


def _defect_crop(defect: Instance | Box, valid: Mask | None, size: tuple[int, int]) -> Crop | None:
    """The valid pixels of a defect; None where there are none."""
    if isinstance(defect, Box):
        x0, y0 = (
            min(max(0, round(low)), side - 1) for low, side in zip((defect.x0, defect.y0), size[::-1], strict=True)
        )
        x1, y1 = max(x0 + 1, min(round(defect.x1), size[1])), max(y0 + 1, min(round(defect.y1), size[0]))
        return valid_crop((x0, y0, x1, y1), None, valid)
    return valid_crop(defect.box, defect.mask, valid)


def _union_iou(found: Sequence[Crop], true: Sequence[Crop], valid: Mask | None, size: tuple[int, int]) -> float:
    pixels = np.zeros((2, *size), np.bool_)
    for layer, crops in zip(pixels, (found, true), strict=True):
        for (x0, y0, x1, y1), mask in crops:
            layer[y0:y1, x0:x1] |= mask
    if valid is not None:
        pixels &= valid
    return int((pixels[0] & pixels[1]).sum()) / int((pixels[0] | pixels[1]).sum())
