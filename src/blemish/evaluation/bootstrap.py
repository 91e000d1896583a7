"""Paired bootstrap: whether one method is better than another on the same images, and how sure that is.

Images are sampled with replacement (Efron 1979) and both methods are evaluated on the same sample, so that the
difficulty of an image for both cancels. Resamples keep the number of units of each stratum (good and defective), and
images of one group, such as shots of one part, are sampled together. A stratum of few units shows too little of how
results vary: intervals are widened for it (`expanded_confidence`), and none is stated below MIN_UNITS.

The functions `*_statistic` prepare a metric and return it as a function of the sampled images' indices, fast enough
for thousands of resamples. On all images at once it is the metric that `evaluate` gives, where all images have a score:
here one without counts as ranked wrong, so that no method gains by it. An image that is sampled twice counts twice.
NaN where a resample has no such metric.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from blemish.arrays import Counts, Flags, Indices
from blemish.evaluation.intervals import student_quantile
from blemish.evaluation.predictions import Prediction
from blemish.evaluation.ranking import interpolated_precision, is_ranked

Statistic = Callable[[Indices], float]  # the metric on the images of these indices, some of them several times

DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """First minus second, its interval, and the share of draws in which the first was better (ties count half).

    No interval and no share, and never significant, without draws.
    """

    value: float
    low: float | None
    high: float | None
    better: float | None
    images: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def draw_resamples(
    strata: Sequence[Hashable], groups: Sequence[Hashable] | None = None, draws: int = DRAWS, seed: int = 0
) -> list[Indices]:
    """Indices of the images of each draw: as many units of every stratum as it has, with replacement.

    A unit is one image, or all images of a group; a group's stratum is that of its first image.
    """
    by_stratum = units_by_stratum(strata, groups)
    rng = np.random.default_rng(seed)
    return [
        np.concatenate([own[k] for own in by_stratum.values() for k in rng.integers(0, len(own), len(own))])
        for _ in range(draws)
    ]


def units_by_stratum(
    strata: Sequence[Hashable], groups: Sequence[Hashable] | None = None
) -> dict[Hashable, list[Indices]]:
    """The indices of the images of each unit, by stratum."""
    units: dict[Hashable, list[int]] = {}
    for i in range(len(strata)):
        key = ("image", i) if groups is None or groups[i] is None else ("group", groups[i])
        units.setdefault(key, []).append(i)
    by_stratum: dict[Hashable, list[Indices]] = {}
    for members in units.values():
        by_stratum.setdefault(strata[members[0]], []).append(np.array(members, np.int64))
    return by_stratum


def expanded_confidence(units: int) -> float:
    """The confidence at which quantiles of resamples give a 95 % interval of the mean of so few units (2 and more) that
    is as wide as Student's (Hesterberg 2015)."""
    wide = student_quantile(0.975, units - 1) * math.sqrt(units / (units - 1))
    return 2 * NormalDist().cdf(wide) - 1


def paired_difference(
    first: Statistic, second: Statistic, resamples: Sequence[Indices], images: int, confidence: float = 0.95
) -> Difference:
    """The difference of two metrics on all `images`, with the percentile interval over the resamples.

    Draws without a metric (NaN) are left out; without draws there is no interval.
    """
    everything = np.arange(images, dtype=np.int64)
    gains = np.array([first(sampled) - second(sampled) for sampled in resamples], np.float64)
    gains = gains[np.isfinite(gains)]
    value = first(everything) - second(everything)
    if not len(gains):
        return Difference(value, None, None, None, images)
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    better = (gains > 0).mean() + (gains == 0).mean() / 2
    return Difference(value, float(low), float(high), float(better), images)


def mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of a metric over several trainings, on the same images."""
    return lambda sampled: float(np.mean([statistic(sampled) for statistic in statistics]))


def auroc_statistic(images: Sequence[Prediction]) -> Statistic | None:
    """Share of pairs of a good and a defective image in the right order; None where there is no such pair.

    Pairs are of one fold, because scores of two networks have no common scale. An image whose score is no number is
    ranked wrong in all of its pairs.
    """
    known = np.array([i.defective is not None for i in images])
    defective = np.array([bool(i.defective) for i in images])
    scores = np.array([i.score for i in images], np.float64)
    scores = np.where(is_ranked(scores), scores, np.where(defective, -np.inf, np.inf))
    folds = np.array([i.fold for i in images])
    members = [np.flatnonzero(known & (folds == fold)) for fold in np.unique(folds)]
    ranked = [(own, np.unique(scores[own], return_inverse=True)[1]) for own in members if len(own)]

    def statistic(sampled: Indices) -> float:
        times = _times(sampled, len(images))
        right = pairs = 0.0
        for own, ranks in ranked:
            good = np.bincount(ranks, times[own] * ~defective[own])
            bad = np.bincount(ranks, times[own] * defective[own])
            right += float((bad * (np.cumsum(good) - good / 2)).sum())
            pairs += float(good.sum() * bad.sum())
        return right / pairs if pairs else float("nan")

    return _if_finite(statistic, len(images))


def macro_f1_statistic(images: Sequence[Prediction]) -> Statistic | None:
    """Mean F1 of the classes that occur or are predicted; None where no image has a true and a predicted class."""
    labelled = [k for k, i in enumerate(images) if i.true_label is not None and i.label is not None]
    if not labelled:
        return None
    pairs = np.array([(str(images[k].true_label), str(images[k].label)) for k in labelled])
    names, indices = np.unique(pairs, return_inverse=True)
    true, predicted = indices.reshape(-1, 2).T
    cells = true * len(names) + predicted

    def statistic(sampled: Indices) -> float:
        times = _times(sampled, len(images))[labelled]
        confusion = np.bincount(cells, times, len(names) ** 2).reshape(len(names), len(names))
        total = confusion.sum(axis=0) + confusion.sum(axis=1)
        occurs = total > 0
        return float((2 * confusion.diagonal()[occurs] / total[occurs]).mean()) if occurs.any() else float("nan")

    return statistic


def iou_statistic(images: Sequence[Prediction]) -> Statistic | None:
    """Intersection over union of all defects together, over the pixels of all images; None without masks or regions."""
    overlaps = [(i.intersection or 0, i.union or 0) for i in images]
    intersection, union = np.array(overlaps, np.int64).reshape(-1, 2).T

    def statistic(sampled: Indices) -> float:
        total = int(union[sampled].sum())
        return int(intersection[sampled].sum()) / total if total else float("nan")

    return _if_finite(statistic, len(images))


def map50_statistic(images: Sequence[Prediction]) -> Statistic | None:
    """Average precision of boxes at IoU 0.5, by COCO's definition, mean of the classes; None without boxes."""
    if all(i.boxes is None or i.defects is None for i in images):
        return None
    classes = [_ClassBoxes.gather(images, label) for label in sorted({n for i in images for n in i.defects or ()})]

    def statistic(sampled: Indices) -> float:
        times = _times(sampled, len(images))
        precisions = [own.average_precision(times) for own in classes if own.defects @ times]
        return float(np.mean(precisions)) if precisions else float("nan")

    return _if_finite(statistic, len(images))


@dataclass(frozen=True)
class _ClassBoxes:
    """All boxes of one class in all images, by falling score."""

    image: Indices  # of each box
    hits: Flags  # whether each box matches a defect
    defects: Counts  # true boxes of each image

    @classmethod
    def gather(cls, images: Sequence[Prediction], label: str) -> "_ClassBoxes":
        own = [(k, s, h) for k, i in enumerate(images) for name, s, h in i.boxes or () if name == label]
        order = np.argsort([-score for _, score, _ in own], kind="stable")
        defects = np.array([(i.defects or {}).get(label, 0) for i in images], np.int64)
        image, hits = np.array([k for k, _, _ in own], np.int64), np.array([h for _, _, h in own], np.bool_)
        return cls(image[order], hits[order], defects)

    def average_precision(self, times: Counts) -> float:
        own = times[self.image]
        right, detected = np.cumsum(own * self.hits), np.cumsum(own)
        return interpolated_precision(right / (self.defects @ times), right / np.maximum(detected, 1))


def _times(sampled: Indices, images: int) -> Counts:
    """How often each image was sampled."""
    return np.bincount(sampled, minlength=images)


def _if_finite(statistic: Statistic, images: int) -> Statistic | None:
    return statistic if np.isfinite(statistic(np.arange(images))) else None
