"""Cross-fitting: each image is scored by a method that was neither trained nor tuned on it.

Images for tuning are nested: those of a fold are taken from what it trains on, never from what it scores. The final
training holds out as many, so that its scores are distributed as those of the folds.
"""

import csv
import io
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
from blemish.dataset.split import hold_out_for_tuning
from blemish.dataset.synthetic_samples import exclude_sources, split_synthetic
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection
from blemish.methods.catalogue import method_class
from blemish.methods.classification.class_balance import MIN_IMAGES, count_labels
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.fit_data import make_view
from blemish.training.learn.prepare import TUNING_SHARE
from blemish.training.learn.progress import ProgressLog, draws_bar, progress_file
from blemish.training.learn.run import RunConfig, folds_file
from blemish.training.learn.stopping import MonitorCourse, MonitorHistory, best_stopping_share, is_defined
from blemish.training.ship.calibrate import CalibrationTarget
from blemish.training.ship.export import Origin, ship

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossFitResult:
    """Held-out inspections, and for monitored methods when to stop and the temperature of the class scores."""

    results: list[Inspection]  # of each image of `fold_images`, in order
    share: float = 1.0  # of the steps, at which the folds were best on their images for tuning
    tuned: bool = True  # whether the images for tuning of any fold said so, where they were asked
    temperature: float | None = None


def cross_fit(dataset: Dataset, config: RunConfig, run: Path, progress: bool) -> CrossFitResult:
    """Train and tune on all folds but one, for each fold, and inspect that one; which image was where is recorded."""
    scored, splits = make_fold_splits(dataset, config)
    if "label" in method_class(config.method).info.requires:
        check_classes(splits, dataset.classes, multi_label=bool(config.options.get("multi_label")))
    write_folds(folds_file(run), scored, splits)
    results: dict[Path, Inspection] = {}
    courses: list[MonitorCourse] = []
    temperatures: list[float] = []
    for fold, split in enumerate(splits):
        stage, folder = f"fold {fold + 1} of {config.folds}", run / "folds" / str(fold)
        log.info(f"cross-fitting, {stage}")
        to_log, count = not draws_bar(progress), config.folds + 1
        callbacks: list[Callback] = [ProgressLog(progress_file(run), stage, fold, count, to_log)]
        method = build_method(config, dataset)
        history = None if method.monitor is None else MonitorHistory(method.monitor)
        if history is not None:
            callbacks.append(history)
            courses.append(history.course)
        fit(method, split, config, *callbacks, run=folder, progress=progress)
        temperature = getattr(method, "temperature", None)
        if history is not None and is_defined(history.course) and isinstance(temperature, torch.Tensor):
            temperatures.append(float(temperature))
        target = CalibrationTarget(config.false_alarm, config.review)
        # What is kept of a fold's bundle are scores and maps, so its own thresholds may rest on the images for tuning.
        shipped = split.with_samples(replace(s, split="val" if s.split == "tuning" else s.split) for s in split.samples)
        origin = Origin(shipped, config.options, config.seed, f"fold{fold}", config.scale)
        path = folder / "fold.blemish"
        bundle = ship(method, make_view(config), origin, path, target=target, log_level=logging.DEBUG)
        kept = {s.image for s in split.samples}
        held = [s for s in scored if s.image not in kept]
        results.update(zip((s.image for s in held), Inspector.open(bundle).inspect(held), strict=True))
    return CrossFitResult(
        [results[s.image] for s in scored],
        best_stopping_share(courses),
        not any(courses) or any(map(is_defined, courses)),
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
    )


def fold_images(dataset: Dataset) -> tuple[Sample, ...]:
    """The images that cross-fitting scores: all real ones of training and tuning."""
    return split_synthetic(_training(dataset))[0].samples


def make_fold_splits(dataset: Dataset, config: RunConfig) -> tuple[tuple[Sample, ...], list[Dataset]]:
    """The images that are scored, and for each fold those of the others with their splits, training or tuning."""
    real, synthetic = split_synthetic(_training(dataset))
    splits = []
    for held in make_folds(real.samples, config.folds, config.seed):
        others = [s for i, s in enumerate(real.samples) if i not in held]
        extra = exclude_sources([real.samples[i] for i in held], synthetic)
        part = dataset.with_samples([*others, *extra])
        splits.append(hold_out_for_tuning(part, TUNING_SHARE, config.seed, logging.DEBUG))
    return real.samples, splits


def check_classes(splits: Sequence[Dataset], classes: Sequence[str], multi_label: bool = False) -> None:
    """Before any training, DataError for a class of which a fold has fewer than two images to learn from.

    So it is where all images of a class are of one group: the fold that scores them has none.
    """
    for number, split in enumerate(splits, 1):
        counter = count_labels(split.split("train").samples, multi_label)
        for name in classes:
            if counter[name] < MIN_IMAGES:
                raise DataError(
                    f"fold {number} of {len(splits)} would learn class '{name}' from {counter[name]} images: its "
                    "others are few, or in one group with those that are scored; take --calibration held-out, or add "
                    "images of other parts"
                )


def _training(dataset: Dataset) -> Dataset:
    """The images of training and tuning, all as training images."""
    own = dataset.where(lambda s: s.split in ("train", "tuning"))
    return own.with_samples(replace(s, split="train") for s in own.samples)


def write_folds(path: Path, scored: Sequence[Sample], splits: Sequence[Dataset]) -> None:
    """Record as CSV, by image, the number of the fold that scores it and those of the folds that it tunes."""
    known = [{s.image: s.split for s in split.samples} for split in splits]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "scored in", "tuning in"])
    for s in scored:
        held = [str(k + 1) for k, own in enumerate(known) if s.image not in own]
        tuned = [str(k + 1) for k, own in enumerate(known) if own.get(s.image) == "tuning"]
        writer.writerow([s.image.absolute(), " ".join(held), " ".join(tuned)])
    write_atomic(path, buffer.getvalue())


def make_folds(samples: Sequence[Sample], folds: int, seed: int) -> list[set[int]]:
    """Indices of each fold: groups and duplicates stay together, classes of products are spread evenly over the folds.

    The same images give the same folds, whatever their order. Raises DataError where there are fewer groups than folds.
    """
    order = sorted(range(len(samples)), key=lambda i: samples[i].image.as_posix())
    samples = [samples[i] for i in order]
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
        return [{order[i] for i in held} for _, held in splitter.split(strata, strata, groups)]
