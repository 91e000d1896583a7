"""Figures of any choice of images, some of them several times: what a bootstrap draws, quick enough for thousands.

Each function prepares one figure and returns it as a function of the drawn images' indices; on all images at once it is
the figure that `evaluate` gives. An image that was drawn twice counts twice. NaN where a draw has no such figure.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.detections import RECALLS
from blemish.evaluation.paired import Indices, Statistic
from blemish.evaluation.predictions import Judgement

Counts = NDArray[np.int64]


def auroc(images: Sequence[Judgement]) -> Statistic | None:
    """Share of pairs of a good and a defective image in the right order; pairs are of one fold, for scores of two
    networks have no common scale. None where there is no such pair."""
    known = np.array([i.defective is not None for i in images])
    defective = np.array([bool(i.defective) for i in images])
    scores = np.array([i.score for i in images], np.float64)
    folds = np.array([i.fold for i in images])
    parts = [np.flatnonzero(known & (folds == fold)) for fold in np.unique(folds)]
    ranked = [(own, np.unique(scores[own], return_inverse=True)[1]) for own in parts if len(own)]

    def figure(drawn: Indices) -> float:
        times = _times(drawn, len(images))
        right = pairs = 0.0
        for own, ranks in ranked:
            good = np.bincount(ranks, times[own] * ~defective[own])
            bad = np.bincount(ranks, times[own] * defective[own])
            right += float((bad * (np.cumsum(good) - good / 2)).sum())
            pairs += float(good.sum() * bad.sum())
        return right / pairs if pairs else float("nan")

    return _if_any(figure, len(images))


def macro_f1(images: Sequence[Judgement]) -> Statistic | None:
    """Mean F1 of the classes that occur or are predicted; None where no class is known and told of the same image."""
    named = [k for k, i in enumerate(images) if i.truth is not None and i.predicted is not None]
    if not named:
        return None
    truth, predicted = ([str(getattr(images[k], key)) for k in named] for key in ("truth", "predicted"))
    classes = sorted({*truth, *predicted})
    place = {name: k for k, name in enumerate(classes)}
    cells = np.array([place[t] * len(classes) + place[p] for t, p in zip(truth, predicted, strict=True)])

    def figure(drawn: Indices) -> float:
        times = _times(drawn, len(images))[named]
        confusion = np.bincount(cells, times, len(classes) ** 2).reshape(len(classes), len(classes))
        total = confusion.sum(axis=0) + confusion.sum(axis=1)
        occurs = total > 0
        return float((2 * confusion.diagonal()[occurs] / total[occurs]).mean()) if occurs.any() else float("nan")

    return figure


def iou(images: Sequence[Judgement]) -> Statistic | None:
    """Intersection over union of all defects together, over the pixels of all images; None without masks or regions."""
    if all(i.both is None for i in images):
        return None
    both = np.array([i.both or 0 for i in images], np.int64)
    either = np.array([i.either or 0 for i in images], np.int64)

    def figure(drawn: Indices) -> float:
        total = int(either[drawn].sum())
        return int(both[drawn].sum()) / total if total else float("nan")

    return _if_any(figure, len(images))


def map50(images: Sequence[Judgement]) -> Statistic | None:
    """Average precision of boxes at IoU 0.5, by COCO's definition, mean of the classes; None without boxes."""
    if all(i.boxes is None or i.defects is None for i in images):
        return None
    classes = [_Class.of(images, label) for label in sorted({n for i in images for n in i.defects or ()})]

    def figure(drawn: Indices) -> float:
        times = _times(drawn, len(images))
        found = [own.average_precision(times) for own in classes if own.truths @ times]
        return float(np.mean(found)) if found else float("nan")

    return _if_any(figure, len(images))


class _Class:
    """All boxes of one class in all images, by falling score."""

    def __init__(self, image: Counts, hits: NDArray[np.bool_], truths: Counts) -> None:
        self.image, self.hits, self.truths = image, hits, truths

    @classmethod
    def of(cls, images: Sequence[Judgement], label: str) -> "_Class":
        own = [(k, s, h) for k, i in enumerate(images) for name, s, h in i.boxes or () if name == label]
        order = np.argsort([-score for _, score, _ in own], kind="stable")
        truths = np.array([(i.defects or {}).get(label, 0) for i in images], np.int64)
        image, hits = np.array([k for k, _, _ in own], np.int64), np.array([h for _, _, h in own], np.bool_)
        return cls(image[order], hits[order], truths)

    def average_precision(self, times: Counts) -> float:
        own = times[self.image]
        right, told = np.cumsum(own * self.hits), np.cumsum(own)
        recall = right / (self.truths @ times)
        precision = np.maximum.accumulate((right / np.maximum(told, 1))[::-1])[::-1]
        return float(np.append(precision, 0.0)[np.searchsorted(recall, RECALLS)].mean())


def _times(drawn: Indices, images: int) -> Counts:
    return np.bincount(drawn, minlength=images)


def _if_any(figure: Statistic, images: int) -> Statistic | None:
    return figure if np.isfinite(figure(np.arange(images))) else None
