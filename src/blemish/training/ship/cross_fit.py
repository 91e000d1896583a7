"""Cross-fitting: each training image is scored by a method that was not trained on it.

A monitored method takes its best epoch, and a classifier its temperature, from the same fold that it then scores. So
scores are slightly optimistic, and so is what the thresholds promise; the calibration says so.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.model_selection import StratifiedGroupKFold

from blemish.dataset.duplicates import join_duplicates
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.synthetic_samples import exclude_sources, split_synthetic
from blemish.errors import DataError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.fit_data import make_view
from blemish.training.learn.progress import ProgressLog, draws_bar, progress_file
from blemish.training.learn.run import RunConfig
from blemish.training.learn.stopping import MonitorCourse, MonitorHistory, best_stopping_share
from blemish.training.ship.calibrate import CalibrationTarget
from blemish.training.ship.export import Origin, ship

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossFitResult:
    """Held-out inspections, and for monitored methods when to stop and the temperature of the class scores."""

    results: list[Inspection]  # of each real training image, in order
    share: float = 1.0  # of the steps, at which the held-out folds were best
    temperature: float | None = None


def cross_fit(dataset: Dataset, config: RunConfig, run: Path, progress: bool) -> CrossFitResult:
    """Train on all folds but one, for each fold, and inspect that one."""
    real, synthetic = split_synthetic(dataset.split("train"))
    training = real.samples
    results: dict[int, Inspection] = {}
    courses: list[MonitorCourse] = []
    temperatures: list[float] = []
    for fold, held in enumerate(make_folds(training, config.folds, config.seed)):
        stage, folder = f"fold {fold + 1} of {config.folds}", run / "folds" / str(fold)
        log.info(f"cross-fitting, {stage}")
        to_log, count = not draws_bar(progress), config.folds + 1
        callbacks: list[Callback] = [ProgressLog(progress_file(run), stage, fold, count, to_log)]
        extra = exclude_sources([training[i] for i in held], synthetic)
        without = dataset.with_samples([*(s for i, s in enumerate(training) if i not in held), *extra])
        method, fit_on = build_method(config, dataset), without
        if method.monitor is not None:
            history = MonitorHistory(method.monitor)
            callbacks.append(history)
            courses.append(history.course)
            marked = (replace(s, split="val") if i in held else s for i, s in enumerate(training))
            fit_on = dataset.with_samples([*marked, *extra])
        fit(method, fit_on, config, *callbacks, run=folder, progress=progress)
        if method.monitor is not None and isinstance(temperature := getattr(method, "temperature", None), torch.Tensor):
            temperatures.append(float(temperature))
        target = CalibrationTarget(config.false_alarm, config.review)
        origin = Origin(without, config.options, config.seed, f"fold{fold}", config.scale)
        path = folder / "fold.blemish"
        bundle = ship(method, make_view(config), origin, path, target=target, log_level=logging.DEBUG)
        inspected = Inspector.open(bundle).inspect([training[i] for i in sorted(held)])
        results.update(zip(sorted(held), inspected, strict=True))
    return CrossFitResult(
        [results[i] for i in range(len(training))],
        best_stopping_share(courses),
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
    )


def make_folds(samples: Sequence[Sample], folds: int, seed: int) -> list[set[int]]:
    """Indices of each fold: groups and duplicates stay together, classes of products are spread evenly over the folds.

    Raises DataError where there are fewer groups than folds.
    """
    names = [f"image {i}" if s.group is None else f"group {s.group}" for i, s in enumerate(samples)]
    groups = [names[unit] for unit in join_duplicates(samples)]
    if (count := len(set(groups))) < folds:
        raise DataError(
            f"cross-fitting in {folds} folds needs as many training images, or groups of them; there are {count}"
        )
    strata = [f"{s.label} of {s.product}" for s in samples]
    if max(Counter(strata).values()) < folds:
        strata = ["all"] * len(samples)  # too rare to be spread over the folds
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that rare classes are not in every fold
        return [set(held.tolist()) for _, held in splitter.split(strata, strata, groups)]
