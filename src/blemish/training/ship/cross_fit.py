"""Cross-fitting: each training image judged by a method that has not learnt from it.

A method that is monitored takes its best epoch, and a classifier its temperature, by the very fold that it then judges.
So a little of that fold has gone into its scores, and what is promised by them may flatter; the calibration says so.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.synthetic_samples import not_of, parted
from blemish.errors import DataError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection
from blemish.training.learn.fit import build, fit, view_of
from blemish.training.learn.progress import ProgressLog, progress_file
from blemish.training.learn.run import RunConfig
from blemish.training.learn.stopping import Course, Watched, best_share
from blemish.training.ship.calibrate import CalibrationTarget
from blemish.training.ship.export import Origin, ship

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crossed:
    """What cross-fitting found, of a method that is monitored: when to stop, and the temperature of its classes."""

    results: list[Inspection]  # of every real training image by a method that has not learnt from it, in their order
    share: float = 1.0  # of the steps, after which the folds were judged best
    temperature: float | None = None


def cross_fit(dataset: Dataset, config: RunConfig, run: Path, progress: bool) -> Crossed:
    """Learn from all folds but one, as often as there are folds, and inspect that one."""
    real, drawn = parted(dataset.split("train"))
    training = real.samples
    results: dict[int, Inspection] = {}
    courses: list[Course] = []
    temperatures: list[float] = []
    for fold, held in enumerate(deal(training, config.folds, config.seed)):
        stage = f"fold {fold + 1} of {config.folds}"
        log.info(f"cross-fitting, {stage}")
        report = ProgressLog(progress_file(run), stage, fold, config.folds + 1)
        extra = not_of([training[i] for i in held], drawn)
        part = dataset.with_samples([*(s for i, s in enumerate(training) if i not in held), *extra])
        method = build(config, dataset)
        folder = run / "folds" / str(fold)
        if method.monitor is None:
            fit(method, part, config, report, run=folder, progress=progress)
        else:
            watched = Watched(method.monitor)
            marked = (replace(s, split="val") if i in held else s for i, s in enumerate(training))
            fit(method, dataset.with_samples([*marked, *extra]), config, report, watched, run=folder, progress=progress)
            courses.append(watched.course)
            if isinstance(temperature := getattr(method, "temperature", None), torch.Tensor):
                temperatures.append(float(temperature))
        target = CalibrationTarget(config.false_alarm, config.review)
        origin = Origin(part, config.options, config.seed, f"fold{fold}", config.scale)
        bundle = ship(method, view_of(config), origin, folder / "fold.blemish", target=target, log_level=logging.DEBUG)
        inspected = Inspector.open(bundle).inspect([training[i] for i in sorted(held)])
        results.update(zip(sorted(held), inspected, strict=True))
    return Crossed(
        [results[i] for i in range(len(training))],
        best_share(courses),
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
    )


def deal(samples: Sequence[Sample], folds: int, seed: int) -> list[set[int]]:
    """Indices of each fold: groups stay together, each class and, within it, each product is dealt out evenly.

    Raises DataError with too few.
    """
    parts: defaultdict[str | int, list[int]] = defaultdict(list)
    for i in torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist():
        group = samples[i].group
        parts[i if group is None else group].append(i)
    if len(parts) < folds:
        raise DataError(
            f"cross-fitting in {folds} folds needs as many training images, or groups of them; there are {len(parts)}"
        )
    dealt = sorted(parts.values(), key=lambda part: (str(samples[part[0]].label), samples[part[0]].product or ""))
    return [{i for part in dealt[fold::folds] for i in part} for fold in range(folds)]
