"""Metrics of each defect type: its images against all good ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.dataset.sample import GOOD
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.image_metrics import FALSE_ALARMS, escape_at, estimate_auroc
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.pixel_metrics import pixel_metrics
from blemish.evaluation.ranking import average_precision


@dataclass(frozen=True)
class TypeMetrics:
    """`escape_at_*`: share of the type's images that pass where at most that share of the good ones is rejected."""

    images: int
    auroc: RateEstimate
    ap: float
    escape_at_1_percent: RateEstimate
    escape_at_5_percent: RateEstimate
    pixel_ap: float | None
    aupro: float | None


def metrics_by_type(images: Sequence[EvaluatedImage]) -> dict[str, TypeMetrics]:
    """Metrics by the label of defective images, sorted, without those of several labels; empty without good images."""
    good = [i for i in images if i.sample.defective is False]
    names = sorted({i.sample.label for i in images if i.sample.label is not None} - {GOOD}) if good else []
    return {name: _measure_type(good, [i for i in images if i.sample.label == name]) for name in names}


def _measure_type(good: Sequence[EvaluatedImage], own: Sequence[EvaluatedImage]) -> TypeMetrics:
    scores, units = np.array([i.score for i in (*good, *own)], np.float64), [i.unit for i in (*good, *own)]
    defective = np.arange(len(scores)) >= len(good)
    pixels = pixel_metrics([i.pixels for i in (*good, *own) if i.pixels is not None])
    return TypeMetrics(
        images=len(own),
        auroc=estimate_auroc(scores, defective, units),
        ap=average_precision(scores, defective),
        escape_at_1_percent=escape_at(scores, defective, FALSE_ALARMS[0], units),
        escape_at_5_percent=escape_at(scores, defective, FALSE_ALARMS[1], units),
        pixel_ap=None if pixels is None else pixels.ap,
        aupro=None if pixels is None else pixels.aupro,
    )
