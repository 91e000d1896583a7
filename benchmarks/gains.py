"""Figures of two networks on the same test images, and how sure their difference is."""

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

# (N, 2): true and told class of each test image; or (N, 5): true class, pixels in regions and truth both and in either,
# defects and those touched. The good class is -1.
ImageCounts = NDArray[np.int64]
Figure = Callable[[ImageCounts], float]


def classify_or_segment(inspector: Inspector, test: Sequence[Sample], by_pixels: bool) -> ImageCounts:
    """What an inspector finds on each image; regions count whatever class they are told to be."""
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


def paired_metrics(judged: ImageCounts, base: ImageCounts | None, test: Sequence[Sample], by_pixels: bool) -> Row:
    """Each figure with its 95 % interval by the bootstrap, images of a group together, and its gain over `base`."""
    sets = draw_resamples([str(s.label) for s in test], [s.group for s in test], seed=0)
    row: Row = {}
    for name, figure in (OF_PIXELS if by_pixels else OF_IMAGES).items():
        row[name] = bootstrapped(partial(on, figure, judged), sets, len(test))
        if base is not None:
            gain = paired_difference(partial(on, figure, judged), partial(on, figure, base), sets, len(test))
            row[f"gain in {name}"] = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    return row


def on(figure: Figure, judged: ImageCounts, drawn: Any) -> float:
    return figure(judged[drawn])


def bootstrapped(statistic: Callable[[Any], float], sets: Any, count: int) -> str:
    """The figure on all images and its percentile interval over the drawn sets."""
    found = [statistic(drawn) for drawn in sets]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return f"{statistic(np.arange(count)):.3f} ({low:.3f}–{high:.3f})"


def iou(judged: ImageCounts) -> float:
    """Of all pixels of all images together: large defects weigh most, and false alarms on good images count."""
    both, either = judged[:, 1:3].sum(axis=0)
    return float(both / either) if either else float("nan")


def mean_iou(judged: ImageCounts) -> float:
    """Mean over the defect classes of the IoU on the pixels of that class's images."""
    return float(np.mean([iou(judged[judged[:, 0] == name]) for name in np.unique(judged[judged[:, 0] >= 0, 0])]))


def defects_found(judged: ImageCounts) -> float:
    """Share of the defects, 8-connected, that a region touches."""
    defects, touched = judged[:, 3:].sum(axis=0)
    return float(touched / defects) if defects else float("nan")


def accuracy(judged: ImageCounts) -> float:
    return float((judged[:, 0] == judged[:, 1]).mean())


def macro_f1(judged: ImageCounts) -> float:
    """Mean F1 of the classes that occur."""
    moved = judged + 1
    true, told = (np.bincount(column, minlength=int(moved.max()) + 1) for column in moved.T)
    right = np.bincount(moved[moved[:, 0] == moved[:, 1], 0], minlength=len(true))
    return float((2 * right / np.maximum(true + told, 1))[true > 0].mean())


OF_PIXELS: dict[str, Figure] = {"IoU": iou, "mean IoU": mean_iou, "defects found": defects_found}
OF_IMAGES: dict[str, Figure] = {"accuracy": accuracy, "macro F1": macro_f1}
