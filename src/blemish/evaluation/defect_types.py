"""Metrics of each defect type: its images against all good ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.dataset.sample import GOOD
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.image_metrics import FALSE_ALARMS, escape_at, estimate_auroc
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.pixel_metrics import pixel_metrics
from blemish.evaluation.ranking import average_precision, is_ranked
from blemish.evaluation.units import select_units


@dataclass(frozen=True)
class TypeMetrics:
    """`escape_at_*`: share of the type's images that pass where at most that share of the good ones is rejected.

    Images whose score is no number have no rank; where none of the type, or no good one, has any, there are no metrics.
    """

    images: int
    auroc: RateEstimate | None
    ap: float | None
    escape_at_1_percent: RateEstimate | None
    escape_at_5_percent: RateEstimate | None
    pixel_ap: float | None
    aupro: float | None
    unscored: int = 0  # of the type's images


def metrics_by_type(images: Sequence[EvaluatedImage]) -> dict[str, TypeMetrics]:
    """Metrics by the label of defective images, sorted, without those of several labels; empty without good images."""
    good = [i for i in images if i.sample.defective is False]
    names = sorted({i.sample.label for i in images if i.sample.label is not None} - {GOOD}) if good else []
    return {name: _measure_type(good, [i for i in images if i.sample.label == name]) for name in names}


def _measure_type(good: Sequence[EvaluatedImage], own: Sequence[EvaluatedImage]) -> TypeMetrics:
    every = np.array([i.score for i in (*good, *own)], np.float64)
    known, kind = is_ranked(every), np.arange(len(every)) >= len(good)
    scores, defective = every[known], kind[known]
    units = select_units([i.unit for i in (*good, *own)], known)
    both = 0 < int(defective.sum()) < len(defective)
    pixels = pixel_metrics([i.pixels for i in (*good, *own) if i.pixels is not None])
    return TypeMetrics(
        images=len(own),
        auroc=estimate_auroc(scores, defective, units) if both else None,
        ap=average_precision(scores, defective) if both else None,
        escape_at_1_percent=escape_at(scores, defective, FALSE_ALARMS[0], units) if both else None,
        escape_at_5_percent=escape_at(scores, defective, FALSE_ALARMS[1], units) if both else None,
        pixel_ap=None if pixels is None else pixels.ap,
        aupro=None if pixels is None else pixels.aupro,
        unscored=int((kind & ~known).sum()),
    )
