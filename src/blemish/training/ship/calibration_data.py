"""What inspections of images with known truth show: all that thresholds are chosen from.

Methods that learn from masks or boxes give probabilities; the threshold on a pixel's or a box's probability is the one
of the highest F1 (as much precision as recall allows) on these images.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.ground_truth import classes_shown, has_mask, known_boxes, mask_of
from blemish.dataset.sample import GOOD, Sample
from blemish.evaluation.box_metrics import match_boxes
from blemish.evaluation.detections import Detections, match_detections
from blemish.geometry import Box
from blemish.inspection.result import Inspection

BINS = 1000  # steps of a pixel's probability
AWAY = 0.05  # of the image's shorter side: as far as a smoothed map spreads a defect
SAME_DEFECT = 0.5  # intersection over union from which on a box has found a defect

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass
class Evidence:
    good: list[float] = field(default_factory=list)  # scores of images
    defective: list[float] = field(default_factory=list)
    good_peaks: list[float] = field(default_factory=list)  # largest values of good images' heat maps
    sound_peaks: list[float] = field(default_factory=list)  # of defective images' maps, well away from known defects
    defect_peaks: list[list[float]] = field(default_factory=list)  # of each such image's map, in its known defects
    pixels: Counts = field(default_factory=lambda: np.zeros((2, BINS), np.int64))  # sound, defective; by probability
    boxes: list[Detections] = field(default_factory=list)
    classes: list[tuple[frozenset[str], dict[str, float]]] = field(default_factory=list)  # true ones, probabilities
    unknown: int = 0  # images of which nothing tells whether they are good
    judged: list[tuple[bool, float, str, dict[str, float]]] = field(default_factory=list)  # defective, score, label ...

    def add(self, result: Inspection, sample: Sample, kinds: Collection[str]) -> None:
        """Take in one inspection; `kinds` are what the graph gives."""
        if sample.defective is None:
            self.unknown += 1
            return
        (self.defective if sample.defective else self.good).append(result.score)
        boxes = known_boxes(sample, result.size) if result.candidates is not None or "anomaly_map" in kinds else None
        if not sample.defective and result.heat_map is not None:
            self.good_peaks.append(float(result.heat_map.max()))
        if sample.defective and "anomaly_map" in kinds and result.heat_map is not None and boxes:
            self.sound_peaks += _sound_peak(result, boxes)
            self.defect_peaks += _defect_peaks(result, boxes)
        if result.class_scores is not None:
            worst = max((name for name in result.class_scores if name != GOOD), key=result.class_scores.__getitem__)
            self.judged.append((bool(sample.defective), result.score, worst, result.class_scores))
            if (shown := classes_shown(sample)) is not None:
                self.classes.append((shown or frozenset([GOOD]), result.class_scores))
        if "mask_scores" in kinds and result.heat_map is not None and has_mask(sample):
            mask = mask_of(sample, result.size)
            if mask.any() or not sample.defective:  # an empty mask of a defective part tells nothing
                self.pixels += _pixel_counts(result, mask)
        if result.candidates is not None and boxes is not None:
            self.boxes.append(match_boxes(result.candidates, boxes, result.valid))

    @property
    def only_defects(self) -> bool:
        """Whether the classes are told apart and none of them is good."""
        return bool(self.classes) and GOOD not in self.classes[0][1]

    @property
    def region_threshold(self) -> float | None:
        """The probability from which on a box, or else a pixel, counts; None where no truth tells."""
        return best_box_threshold(self.boxes) if self.boxes else best_pixel_threshold(self.pixels)


def gather(results: Iterable[Inspection], samples: Iterable[Sample], outputs: Iterable[str]) -> Evidence:
    """Evidence of inspections, one at a time, so that no map stays in memory; `outputs` are what the graph gives."""
    kinds = set(outputs)
    found = Evidence()
    for result, sample in zip(results, samples, strict=True):
        found.add(result, sample, kinds)
    return found


def gather_products(
    results: Iterable[Inspection], samples: Iterable[Sample], outputs: Iterable[str]
) -> tuple[Evidence, dict[str, Evidence]]:
    """The evidence of all images together, and of each product's own."""
    kinds = set(outputs)
    everything = Evidence()
    products: dict[str, Evidence] = {}
    for result, sample in zip(results, samples, strict=True):
        everything.add(result, sample, kinds)
        if sample.product is not None:
            products.setdefault(sample.product, Evidence()).add(result, sample, kinds)
    return everything, products


def best_pixel_threshold(counts: Counts) -> float | None:
    """Lower edge of the bin from which on F1 is highest; None without a defective pixel."""
    sound, defective = counts
    if not defective.sum():
        return None
    hits, false = (np.cumsum(side[::-1])[::-1] for side in (defective, sound))
    best = int(np.argmax(2 * hits / (hits + false + defective.sum())))
    return max(best, 1) / counts.shape[1]


def class_thresholds(classes: list[tuple[frozenset[str], dict[str, float]]]) -> dict[str, float]:
    """For each defect class that occurs the probability of highest F1, halfway to the next lower one."""
    found = {}
    known = {name for _, own in classes for name in own}  # a class that is in validation alone has no probability
    for name in sorted({name for truth, _ in classes for name in truth & known} - {GOOD}):
        scores = np.array([own.get(name, 0.0) for _, own in classes])
        right = np.array([name in truth for truth, _ in classes])
        order = np.argsort(-scores, kind="stable")
        hits = np.cumsum(right[order])
        best = int(np.argmax(2 * hits / (np.arange(1, len(scores) + 1) + right.sum())))
        found[name] = _just_below(scores[order], best)
    return found


def best_box_threshold(images: list[Detections]) -> float | None:
    """The score from which on boxes of all classes together have the highest F1; None without a defect or a hit."""
    classes = [match_detections(images, name, np.array([SAME_DEFECT])) for name in sorted({n for i in images for n in i.truth})]
    truths = sum(found.truths for found in classes)
    known = {n for i in images for n in i.truth}
    false = [s for i in images for s, n in zip(i.scores, i.labels, strict=True) if n not in known]
    scores = np.concatenate([*(found.scores for found in classes), np.array(false, np.float64)])
    hits = np.concatenate([*(found.hits[0] for found in classes), np.zeros(len(false), np.bool_)])
    if not truths or not hits.any():
        return None
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    best = int(np.argmax(2 * right / (np.arange(1, len(scores) + 1) + truths)))
    return _just_below(scores[order], best)


def best_peak_threshold(defect_peaks: list[list[float]], sound_peaks: list[float]) -> float | None:
    """The map's value from which on most known defects are found in fewest images with a false region (highest F1).

    All defects of an image weigh as much as an image. Above the median of the sound peaks, for what half of the sound
    surfaces reach is no defect; None where no defect lies there.
    """
    if not defect_peaks or not sound_peaks:
        return None
    scores = np.array([*(peak for image in defect_peaks for peak in image), *sound_peaks])
    weights = np.array([*(1 / len(image) for image in defect_peaks for _ in image), *(1.0 for _ in sound_peaks)])
    order = np.argsort(-scores, kind="stable")
    falling, weights = scores[order], weights[order]
    hits = np.cumsum(weights * (order < len(scores) - len(sound_peaks)))
    f1 = 2 * hits / (np.cumsum(weights) + len(defect_peaks))
    complete = np.append(falling[1:] < falling[:-1], True)  # equal scores are found together
    usable = complete & (falling > np.median(sound_peaks)) & (hits > 0)
    if not usable.any():
        return None
    best = int(np.argmax(np.where(usable, f1, -1)))
    following = falling[best + 1] if best + 1 < len(falling) else falling[best]
    return float((falling[best] + following) / 2)


def _just_below(falling: Scores, last: int) -> float:
    """The middle between the last score that is to count and the next one that is not."""
    following = falling[last + 1] if last + 1 < len(falling) else 0.0
    return float((falling[last] + following) / 2)


def _sound_peak(result: Inspection, known: tuple[Box, ...]) -> list[float]:
    """The map's largest value more than AWAY from every known defect."""
    assert result.heat_map is not None
    sound = np.ones(result.size, np.bool_) if result.valid is None else result.valid.copy()
    reach = AWAY * min(result.size)
    for box in known:
        y0, x0 = max(0, int(box.y0 - reach)), max(0, int(box.x0 - reach))
        sound[y0 : int(box.y1 + reach) + 1, x0 : int(box.x1 + reach) + 1] = False
    return [float(result.heat_map[sound].max())] if sound.any() else []


def _defect_peaks(result: Inspection, known: tuple[Box, ...]) -> list[list[float]]:
    """The map's largest value in the box of each known defect, of those pixels that count."""
    assert result.heat_map is not None
    found = []
    for box in known:
        where = slice(int(box.y0), int(box.y1) + 1), slice(int(box.x0), int(box.x1) + 1)
        values = result.heat_map[where] if result.valid is None else result.heat_map[where][result.valid[where]]
        found += [float(values.max())] if values.size else []
    return [found] if found else []


def _pixel_counts(result: Inspection, mask: NDArray[np.bool_]) -> Counts:
    assert result.heat_map is not None
    bins = np.clip(result.heat_map * BINS, 0, BINS - 1).astype(np.int64)
    if result.valid is not None:
        bins, mask = bins[result.valid], mask[result.valid]
    return np.stack([np.bincount(bins[~mask], minlength=BINS), np.bincount(bins[mask], minlength=BINS)])
