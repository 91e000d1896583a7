"""Training: read a dataset, advise, prepare, fit, ship; the result is a run folder with its bundle."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file

from blemish.dataset.contents import files_sha256
from blemish.dataset.duplicates import describe_unsearched
from blemish.dataset.read import read_dataset
from blemish.dataset.resolve import explain_no_good
from blemish.dataset.sample import Dataset
from blemish.dataset.split import describe_shared, shared_units
from blemish.dataset.write import write_csv
from blemish.errors import DataError, OptionError
from blemish.files import atomic_path
from blemish.inspection.bundle import open_bundle, replace_manifest
from blemish.methods.base import Method
from blemish.training.advice.plan import advise, advised_options, advised_settings
from blemish.training.learn.checkpoint import is_tuned
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.fit_data import describe_unknown_classes, make_view, training_subset
from blemish.training.learn.options import unused_score_options
from blemish.training.learn.prepare import make_config, measure_pixels, prepare_dataset
from blemish.training.learn.progress import ProgressLog, draws_bar, progress_file
from blemish.training.learn.run import (
    NOTES,
    RunConfig,
    RunSettings,
    check_unchanged,
    checkpoint_file,
    read_config,
    read_notes,
    restore,
    split_file,
    weights_file,
    write_config,
)
from blemish.training.learn.start_run import seen_by_run
from blemish.training.learn.stopping import StopAtShare
from blemish.training.ship.calibrate import CalibrationTarget
from blemish.training.ship.cross_fit import CrossFitResult, cross_fit, fold_images
from blemish.training.ship.export import Origin, ship

log = logging.getLogger(__name__)
UNTUNED = (
    "the images for tuning show no defect, or one class alone, so that nothing says which step of the training was "
    "best: its last weights ship, and class probabilities are not calibrated; add images of each defect class, or "
    "give some of each the split 'tuning'"
)


def train(
    data: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    **settings: Unpack[RunSettings],
) -> Path:
    """Train on a dataset, ship and calibrate the bundle; returns the run folder `out`.

    Without a `method`, the advisor's first is trained, with the settings it advises. `options` are those of the
    method, `settings` all others (see `RunSettings`). `progress` draws a bar where stderr is a terminal; `tensorboard`
    adds TensorBoard's log to the run folder.

    Raises DataError for data that the method cannot be trained on, OptionError for a wrong option or a folder that
    already holds a run, ExportError where the exported graph does not agree with the network.
    """
    run, given = Path(out), dict[str, Any](settings)
    if (run / "run.yaml").exists() and is_first_process():
        raise OptionError(f"'{run}' already holds a run; resume it with --resume {run}, or choose another folder")
    dataset = read_dataset(
        data,
        given.get("format") or "auto",
        given.get("root"),
        given.get("good") or (),
        given.get("unlabelled") or "unknown",
    )
    if line := explain_no_good(dataset):
        log.warning(line)
    if method is None:
        advice = advise(dataset, seed=given.get("seed") or 0)
        method = advice.method
        log.info(f"method {method}: {advice.reason}")
        for rule in advice.rules:
            if rule.warns:
                log.info(rule.reason)
        options = advised_options(advice, method, options or {})
        given = advised_settings(advice) | {key: value for key, value in given.items() if value is not None}
    config = make_config(data, dataset, method, options or {}, given)
    dataset = prepare_dataset(dataset, config)
    config = config.model_copy(update={"pixels": measure_pixels(dataset), "files_sha256": files_sha256(dataset)})
    try:
        _write_run(run, config, dataset)
        return _fit_and_ship(run, config, dataset, progress, tensorboard)
    except Exception:
        if not weights_file(run).exists() and not checkpoint_file(run).exists():
            (run / "run.yaml").unlink(missing_ok=True)  # nothing was trained: the folder is free for another try
        raise


def resume(run: str | Path, *, progress: bool = True, tensorboard: bool = False) -> Path:
    """Continue an interrupted run from its last checkpoint, or from its weights if only shipping is left.

    Raises OptionError where the folder is no run or one of its files is cut off, DataError where images of the run are
    missing or were changed since it began.
    """
    run = Path(run)
    config = read_config(run)
    check_unchanged(run)
    dataset = _read_run_dataset(run)
    if config.files_sha256 not in (None, files_sha256(dataset)):  # runs of older versions do not have it
        raise DataError(f"images or masks of the run '{run}' were changed since it began; start a new run")
    return _fit_and_ship(run, config, dataset, progress, tensorboard)


def is_first_process() -> bool:
    """False in the other processes of a distributed run, which train but write and ship nothing."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def load_method(run: str | Path) -> Method:
    """The trained method of a run folder."""
    run = Path(run)
    config = read_config(run)
    if not weights_file(run).is_file():
        raise OptionError(f"run '{run}' is not fully trained; continue it with blemish train --resume {run}")
    method = build_method(config, _read_run_dataset(run))
    restore(method, run)
    return method.eval()


def _read_run_dataset(run: Path) -> Dataset:
    """The images of a run; DataError where some are missing, since the run would not be the same."""
    config = read_config(run)
    dataset = read_dataset(split_file(run), "csv", good=config.good)
    if dataset.broken:
        raise DataError(f"files of the run '{run}' are missing, such as: {dataset.broken[0]}")
    return dataset


@rank_zero_only
def _write_run(run: Path, config: RunConfig, dataset: Dataset) -> None:
    write_csv(dataset, split_file(run))
    write_config(run, config)


def _fit_and_ship(run: Path, config: RunConfig, dataset: Dataset, progress: bool, tensorboard: bool) -> Path:
    try:
        crossed = cross_fit(dataset, config, run, progress) if config.calibration == "cross-fitted" else None
        method = build_method(config, dataset)
        if weights_file(run).exists():
            log.info("already trained; shipping")
            restore(method, run)
        elif not _fit(method, run, config, dataset, crossed, progress, tensorboard):
            return run
    except KeyboardInterrupt:
        log.info(f"continue with: blemish train --resume {run}")
        raise
    target = CalibrationTarget(
        config.false_alarm, config.review, config.escape, config.cost_escape, config.class_thresholds
    )
    before = {} if config.start is None else seen_by_run(config.start)
    origin = Origin(dataset, config.options, config.seed, run.name, config.scale, before)
    bundle = run / f"{run.resolve().name}.blemish"
    ship(
        method,
        make_view(config),
        origin,
        bundle,
        target=target,
        forecast=True,
        cross_fitted=None if crossed is None else (fold_images(dataset), crossed.results),
        refine=config.refine == "auto",
        with_uncertainty=True,
    )
    shared = describe_shared(dataset.samples, shared_units(dataset.samples, logging.DEBUG))
    unsearched = describe_unsearched(dataset.samples)
    _record_warnings(bundle, [*shared, *unsearched, *_unused_options(bundle, method), *read_notes(run)])
    for leftover in ("checkpoints", "folds"):
        shutil.rmtree(run / leftover, ignore_errors=True)
    return run


def _unused_options(bundle: Path, method: Method) -> list[str]:
    """A line for each option of a score that has no effect, since the score that ships is the map's."""
    if open_bundle(bundle).manifest.score_source != "map":
        return []
    lines = unused_score_options(method.options)  # type: ignore[arg-type]
    for line in lines:
        log.warning(line)
    return lines


def _record_warnings(bundle: Path, lines: Sequence[str]) -> None:
    """Add to the bundle's warnings, so that whoever reads its figures knows what splits share and tuning lacked."""
    manifest = open_bundle(bundle).manifest if lines else None
    if manifest is None or manifest.calibration is None:
        return
    calibration = manifest.calibration
    for line in lines:
        calibration = calibration.with_warning(line)
    replace_manifest(bundle, manifest.model_copy(update={"calibration": calibration}))


def _fit(
    method: Method,
    run: Path,
    config: RunConfig,
    dataset: Dataset,
    crossed: CrossFitResult | None,
    progress: bool,
    tensorboard: bool,
) -> bool:
    """Train the method and save its weights; False in the other processes of a distributed run."""
    log.info(f"training on {len(training_subset(dataset, method))} images")
    if line := describe_unknown_classes(method, dataset, config.tiling is not None):
        log.warning(line)
    trainings = config.folds + 1 if crossed else 1
    callbacks: list[Callback] = [
        ProgressLog(progress_file(run), index=trainings - 1, count=trainings, to_log=not draws_bar(progress))
    ]
    if crossed and crossed.share < 1:
        callbacks.append(StopAtShare(crossed.share))
    trainer = fit(
        method,
        dataset,
        config,
        *callbacks,
        run=run,
        progress=progress,
        tensorboard=tensorboard,
        validates=crossed is None,  # the folds say when to stop, with more images than are left for tuning here
    )
    if not trainer.is_global_zero:
        return False
    if crossed and crossed.temperature is not None:
        method.temperature.fill_(crossed.temperature)  # type: ignore[operator]
    tuned = is_tuned(trainer) if crossed is None else crossed.tuned
    if not tuned:
        log.warning(UNTUNED)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}
    with atomic_path(weights_file(run)) as path:
        save_file(tensors, path, {NOTES: json.dumps([] if tuned else [UNTUNED])})
    return True
