"""Metrics of two networks on the same test images, with the interval of their difference."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import Row

from blemish import Inspector, Sample
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.sample import GOOD
from blemish.evaluation.bootstrap import draw_resamples, paired_difference
from blemish.evaluation.mask_metrics import measure_overlap

# (N, 2): true and predicted class of each test image; or (N, 5): true class, intersection and union of regions and
# annotation in pixels, defects, and defects that a region touches. The good class is -1.
ImageCounts = NDArray[np.int64]
ImageMetric = Callable[[ImageCounts], float]


def classify_or_segment(inspector: Inspector, test: Sequence[Sample], by_pixels: bool) -> ImageCounts:
    """The counts of an inspector's results on each image; regions count whatever their class."""
    names = sorted(({str(s.label) for s in test} | set(inspector.manifest.classes)) - {GOOD})
    number = {GOOD: -1, **{name: i for i, name in enumerate(names)}}
    found = []
    for sample, result in zip(test, inspector.inspect(test), strict=True):
        label = number[str(sample.label)]
        if by_pixels:
            own = measure_overlap(result.regions, read_defect_mask(sample, result.size))
            found.append((label, own.pixels.intersection, own.pixels.union, own.defects, own.touched))
        else:
            scores = result.class_scores or {}
            found.append((label, number[max(scores, key=scores.__getitem__)]))
    return np.array(found, np.int64)


def paired_metrics(counts: ImageCounts, base: ImageCounts | None, test: Sequence[Sample], by_pixels: bool) -> Row:
    """Each metric with its 95 % interval by the bootstrap, images of a group together, and its gain over `base`."""
    sets = draw_resamples([str(s.label) for s in test], [s.group for s in test], seed=0)
    row: Row = {}
    for name, metric in (OF_PIXELS if by_pixels else OF_IMAGES).items():
        row[name] = bootstrapped(partial(evaluate_resample, metric, counts), sets, len(test))
        if base is not None:
            gain = paired_difference(
                partial(evaluate_resample, metric, counts), partial(evaluate_resample, metric, base), sets, len(test)
            )
            row[f"gain in {name}"] = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    return row


def evaluate_resample(metric: ImageMetric, counts: ImageCounts, sampled: Any) -> float:
    return metric(counts[sampled])


def bootstrapped(statistic: Callable[[Any], float], sets: Any, count: int) -> str:
    """The metric on all images and its percentile interval over the sampled sets."""
    found = [statistic(sampled) for sampled in sets]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return f"{statistic(np.arange(count)):.3f} ({low:.3f}–{high:.3f})"


def iou(counts: ImageCounts) -> float:
    """IoU of all pixels of all images together: large defects weigh most, and false alarms on good images lower it."""
    both, either = counts[:, 1:3].sum(axis=0)
    return float(both / either) if either else float("nan")


def mean_iou(counts: ImageCounts) -> float:
    """Mean over the defect classes of the IoU on the pixels of that class's images."""
    return float(np.mean([iou(counts[counts[:, 0] == name]) for name in np.unique(counts[counts[:, 0] >= 0, 0])]))


def defects_found(counts: ImageCounts) -> float:
    """Share of the defects, 8-connected, that a region touches."""
    defects, touched = counts[:, 3:].sum(axis=0)
    return float(touched / defects) if defects else float("nan")


def accuracy(counts: ImageCounts) -> float:
    return float((counts[:, 0] == counts[:, 1]).mean())


def macro_f1(counts: ImageCounts) -> float:
    """Mean F1 of the classes that occur."""
    moved = counts + 1
    true, predicted = (np.bincount(column, minlength=int(moved.max()) + 1) for column in moved.T)
    right = np.bincount(moved[moved[:, 0] == moved[:, 1], 0], minlength=len(true))
    return float((2 * right / np.maximum(true + predicted, 1))[true > 0].mean())


OF_PIXELS: dict[str, ImageMetric] = {"IoU": iou, "mean IoU": mean_iou, "defects found": defects_found}
OF_IMAGES: dict[str, ImageMetric] = {"accuracy": accuracy, "macro F1": macro_f1}
