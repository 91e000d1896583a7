"""Scores on labelled validation images, from which thresholds are calibrated.

Methods trained on masks or boxes give probabilities; the threshold on the probability of a pixel or a box is the one
with the highest F1 (as much precision as recall allows) on these images.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from blemish.arrays import Counts, FloatMap, Mask
from blemish.dataset.ground_truth import find_defect_classes, has_mask, known_boxes, read_defect_mask
from blemish.dataset.sample import GOOD, Sample
from blemish.evaluation.box_metrics import match_boxes
from blemish.evaluation.detections import IOU_50, Detections, rank_detections
from blemish.evaluation.ranking import best_f1_threshold, f1, is_ranked
from blemish.evaluation.units import find_units
from blemish.geometry import Box
from blemish.inspection.result import Inspection

BINS = 1000  # bins of a pixel's probability
MARGIN_SHARE = 0.05  # of the image's shorter side: how far a smoothed map spreads a defect

ClassScores = tuple[frozenset[str], dict[str, float]]  # true classes, and the probability of each class


class ClassifiedImage(NamedTuple):
    """An image with class scores: whether it is defective, its score and the likeliest defect class."""

    defective: bool
    score: float
    label: str
    class_scores: dict[str, float]
    unit: Hashable = None


@dataclass
class CalibrationData:
    """Scores, map peaks and detections of labelled images; fill it with `add`.

    Lists of units are empty, or as long as what they belong to; see `blemish.evaluation.units`.
    """

    good: list[float] = field(default_factory=list)  # image scores
    defective: list[float] = field(default_factory=list)
    good_peaks: list[float] = field(default_factory=list)  # largest values of the heat maps of good images
    sound_peaks: list[float] = field(default_factory=list)  # of maps of defective images, away from known defects
    defect_peaks: list[list[float]] = field(default_factory=list)  # by defective image: one peak for each known defect
    pixels: Counts = field(default_factory=lambda: np.zeros((2, BINS), np.int64))  # sound, defective; by probability
    boxes: list[Detections] = field(default_factory=list)
    classes: list[ClassScores] = field(default_factory=list)
    classified: list[ClassifiedImage] = field(default_factory=list)
    unknown: int = 0  # images without any annotation
    unscored: int = 0  # images whose score or heat map holds a value that is no number
    good_units: list[Hashable] = field(default_factory=list)  # of `good`, and of `good_peaks` where there are any
    defective_units: list[Hashable] = field(default_factory=list)
    sound_units: list[Hashable] = field(default_factory=list)  # of `sound_peaks`

    def add(self, result: Inspection, sample: Sample, outputs: Collection[str], unit: Hashable = None) -> None:
        """Add one inspection; `outputs` are the names of the graph's outputs, `unit` is that of the image."""
        if sample.defective is None:
            self.unknown += 1
            return
        heat_map, defective = result.heat_map, sample.defective
        if not math.isfinite(result.score) or not (heat_map is None or is_ranked(heat_map).all()):
            self.unscored += 1
            return
        (self.defective if defective else self.good).append(result.score)
        (self.defective_units if defective else self.good_units).append(unit)
        has_anomaly_map = heat_map is not None and "anomaly_map" in outputs
        boxes = known_boxes(sample, result.size) if result.candidates is not None or has_anomaly_map else None
        if heat_map is not None and not defective:
            self.good_peaks.append(float(heat_map.max()))
        if heat_map is not None and has_anomaly_map and defective and boxes:
            self.sound_peaks += (sound := _sound_peak(heat_map, result.valid, boxes))
            self.sound_units += [unit] * len(sound)
            self.defect_peaks += _defect_peaks(heat_map, result.valid, boxes)
        if result.class_scores is not None:
            label = max((name for name in result.class_scores if name != GOOD), key=result.class_scores.__getitem__)
            self.classified.append(ClassifiedImage(defective, result.score, label, result.class_scores, unit))
            if (shown := find_defect_classes(sample)) is not None:
                self.classes.append((shown or frozenset([GOOD]), result.class_scores))
        if heat_map is not None and "mask_scores" in outputs and has_mask(sample):
            mask = read_defect_mask(sample, result.size)
            if mask.any() or not defective:  # an empty mask of a defective part does not say where the defect is
                self.pixels += _pixel_counts(heat_map, result.valid, mask)
        if result.candidates is not None and boxes is not None:
            self.boxes.append(match_boxes(result.candidates, boxes, result.valid))

    @property
    def only_defects(self) -> bool:
        """Whether there are class scores and none of the classes is good."""
        return bool(self.classes) and GOOD not in self.classes[0][1]

    @property
    def region_threshold(self) -> float | None:
        """The probability from which a box, or else a pixel, is a defect; None without masks or boxes."""
        return best_box_threshold(self.boxes) if self.boxes else best_pixel_threshold(self.pixels)


def collect_by_product(
    results: Iterable[Inspection], samples: Sequence[Sample], outputs: Iterable[str]
) -> tuple[CalibrationData, dict[str, CalibrationData]]:
    """Calibration data of all images together, and of each product; one inspection at a time, so no map is kept."""
    names = set(outputs)
    overall = CalibrationData()
    products: dict[str, CalibrationData] = {}
    for result, sample, unit in zip(results, samples, find_units(samples), strict=True):
        overall.add(result, sample, names, unit)
        if sample.product is not None:
            products.setdefault(sample.product, CalibrationData()).add(result, sample, names, unit)
    return overall, products


def best_pixel_threshold(counts: Counts) -> float | None:
    """Lower edge of the bin from which F1 is highest; None without a defective pixel."""
    sound, defective = counts
    if not defective.sum():
        return None
    hits, alarms = (np.cumsum(side[::-1])[::-1] for side in (defective, sound))
    best = int(np.argmax(f1(hits, hits + alarms, defective.sum())))
    return float(max(best, 1) / counts.shape[1])


def class_thresholds(classes: list[ClassScores]) -> dict[str, float]:
    """The probability with the highest F1, halfway to the next lower one, for each defect class that occurs."""
    known = {name for _, scores in classes for name in scores}  # a class only in validation has no probability
    return {
        name: best_f1_threshold(
            np.array([scores.get(name, 0.0) for _, scores in classes]),
            np.array([name in annotated for annotated, _ in classes]),
        )
        for name in sorted({name for annotated, _ in classes for name in annotated & known} - {GOOD})
    }


def best_box_threshold(images: list[Detections]) -> float | None:
    """The score from which boxes of all classes together have the highest F1; None without a defect or a hit."""
    known = sorted({name for image in images for name in image.true_labels})
    classes = [rank_detections(images, name, IOU_50) for name in known]
    alarms = [
        score for i in images for score, name in zip(i.scores, i.labels, strict=True) if name not in known
    ]  # of classes that no image shows
    scores = np.concatenate([*(ranked.scores for ranked in classes), np.array(alarms, np.float64)])
    hits = np.concatenate([*(ranked.hits[0] for ranked in classes), np.zeros(len(alarms), np.bool_)])
    return best_f1_threshold(scores, hits, sum(ranked.positives for ranked in classes)) if hits.any() else None


def best_peak_threshold(defect_peaks: list[list[float]], sound_peaks: list[float]) -> float | None:
    """The map value with the highest F1: most known defects found, in the fewest images with a false region.

    All defects of an image weigh as much as one image. The threshold lies above the median of the sound peaks, since a
    value that half of the sound surfaces reach is no defect; None where no defect lies above it.
    """
    if not defect_peaks or not sound_peaks:
        return None
    scores = np.array([*(peak for image in defect_peaks for peak in image), *sound_peaks])
    weights = np.array([*(1 / len(image) for image in defect_peaks for _ in image), *(1.0 for _ in sound_peaks)])
    order = np.argsort(-scores, kind="stable")
    falling, weights = scores[order], weights[order]
    hits = np.cumsum(weights * (order < len(scores) - len(sound_peaks)))
    values = f1(hits, np.cumsum(weights), len(defect_peaks))
    complete = np.append(falling[1:] < falling[:-1], True)  # a threshold takes all equal scores
    usable = complete & (falling > np.median(sound_peaks)) & (hits > 0)
    if not usable.any():
        return None
    best = int(np.argmax(np.where(usable, values, -1)))
    following = falling[best + 1] if best + 1 < len(falling) else falling[best]
    return float((falling[best] + following) / 2)


def _sound_peak(heat_map: FloatMap, valid: Mask | None, defects: Iterable[Box]) -> list[float]:
    """The largest value of the map more than MARGIN_SHARE away from every known defect."""
    sound = np.ones(heat_map.shape, np.bool_) if valid is None else valid.copy()
    margin = MARGIN_SHARE * min(heat_map.shape)
    for box in defects:
        y0, x0 = max(0, int(box.y0 - margin)), max(0, int(box.x0 - margin))
        sound[y0 : int(box.y1 + margin) + 1, x0 : int(box.x1 + margin) + 1] = False
    return [float(heat_map[sound].max())] if sound.any() else []


def _defect_peaks(heat_map: FloatMap, valid: Mask | None, defects: Iterable[Box]) -> list[list[float]]:
    """The largest value of the map on the valid pixels in the box of each known defect."""
    peaks = []
    for box in defects:
        window = slice(int(box.y0), int(box.y1) + 1), slice(int(box.x0), int(box.x1) + 1)
        values = heat_map[window] if valid is None else heat_map[window][valid[window]]
        peaks += [float(values.max())] if values.size else []
    return [peaks] if peaks else []


def _pixel_counts(heat_map: FloatMap, valid: Mask | None, mask: Mask) -> Counts:
    bins = np.clip(heat_map * BINS, 0, BINS - 1).astype(np.int64)
    if valid is not None:
        bins, mask = bins[valid], mask[valid]
    return np.stack([np.bincount(bins[~mask], minlength=BINS), np.bincount(bins[mask], minlength=BINS)])
