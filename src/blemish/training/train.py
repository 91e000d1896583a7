"""Training: from a dataset to a run folder with its bundle."""

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from safetensors.torch import load_file, save_file

import blemish
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError, ImageError, OptionError
from blemish.imaging.read import ImageHeader, image_header
from blemish.methods.base import Method
from blemish.methods.catalogue import method_class
from blemish.training.advice.plan import advise, options_for, run_settings
from blemish.training.learn.fit import build, fit, training_part, view_of
from blemish.training.learn.options import check_options, ineffective_options
from blemish.training.learn.progress import ProgressLog, progress_file
from blemish.training.learn.run import RunConfig, checkpoint_file, read_config, split_file, weights_file, write_config
from blemish.training.learn.stopping import StopAt
from blemish.training.learn.supervision import check_templates, check_truth, good_alone
from blemish.training.learn.synthetic import check_recipe
from blemish.training.learn.windows import check_places, learns_windows
from blemish.training.ship.calibrate import CalibrationTarget
from blemish.training.ship.cross_fit import cross_fit
from blemish.training.ship.export import Origin, ship

log = logging.getLogger(__name__)


def train(
    data: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    **settings: Any,
) -> Path:
    """Learn from a dataset, ship and calibrate the bundle; returns the run folder.

    `settings` are the other fields of `RunConfig`: seed, format, root, roi, tiling, trainer, false_alarm and so on.
    Raises DataError, OptionError or ExportError for what a user can mend.
    """
    run = Path(out)
    if (run / "run.yaml").exists() and is_first_process():
        raise OptionError(f"'{run}' already holds a run; resume it with --resume {run}, or choose another folder")
    dataset = read_dataset(data, settings.get("format", "auto"), settings.get("root"))
    if method is None:
        advice = advise(dataset, seed=settings.get("seed") or 0)
        method = advice.method
        log.info(f"method {method}: {advice.reason}")
        options = options_for(advice, method, options or {})
        settings = {**run_settings(advice), **{key: value for key, value in settings.items() if value is not None}}
    if settings.get("channels") is None:
        settings = {**settings, "channels": channels_of(dataset)}
    checked = check_options(method_class(method).Options, options or {}, method)
    for line in ineffective_options(checked, options or {}):
        log.warning(line)
    if getattr(checked, "rotations", 1) == 4 and settings.get("fit", "stretch") == "stretch" and not _square(dataset):
        log.warning(
            "images that are not square are stretched before they are turned; take --fit letterbox with rotations=4"
        )
    config = check_options(
        RunConfig,
        {
            "blemish": blemish.__version__,
            "data": str(Path(data).resolve()) if Path(data).exists() else str(data),
            "method": method,
            "options": checked.model_dump(mode="json"),
            **{key: value for key, value in settings.items() if value is not None},
        },
        "train",
    )
    count, dataset = len(dataset), _split(dataset, config)
    if len(dataset) < count:
        log.warning(f"{count - len(dataset)} synthetic images are left out: their source images are held out")
    if config.synthetic is not None:
        check_recipe(config.synthetic, dataset, method_class(method))
    if learns_windows(method_class(method), config.tiling is not None):
        check_places(dataset)
    else:
        several = getattr(checked, "multi_label", False)
        check_truth(dataset, method_class(method), drawn=config.synthetic is not None, several=several)
        reference = getattr(checked, "reference", "auto")
        check_templates(dataset, method_class(method), reference, crossed=config.calibration == "cross-fitted")
    _start(run, config, dataset)
    try:
        return _carry_out(run, config, dataset, progress, tensorboard)
    except BlemishError:
        if not weights_file(run).exists() and not checkpoint_file(run).exists():
            (run / "run.yaml").unlink(missing_ok=True)  # nothing was learnt: the folder is free for another try
        raise


def channels_of(dataset: Dataset) -> int:
    """What the network sees: 3 of grey and colour images, all of images with other channels, by the first of them."""
    header = _first_header(dataset)
    return 3 if header is None or header.channels in (1, 3) else header.channels


def _square(dataset: Dataset) -> bool:
    """Whether the first image is square, as far as it can be read."""
    header = _first_header(dataset)
    return header is None or header.height == header.width


def _first_header(dataset: Dataset) -> ImageHeader | None:
    try:
        return image_header(dataset.samples[0].image) if len(dataset) else None
    except ImageError:  # the audit's business
        return None


def resume(run: str | Path, *, progress: bool = True, tensorboard: bool = False) -> Path:
    """Go on with an interrupted run: from its last checkpoint, or from its weights when only shipping is left."""
    run = Path(run)
    config = read_config(run)
    dataset = _images_of(run)
    return _carry_out(run, config, dataset, progress, tensorboard)


def is_first_process() -> bool:
    """False in the further processes of a distributed run, which learn but write and ship nothing."""
    return bool(rank_zero_only.rank == 0)


def load_method(run: str | Path) -> Method:
    """The trained method of a run folder."""
    run = Path(run)
    config = read_config(run)
    if not weights_file(run).is_file():
        raise OptionError(f"run '{run}' has not finished learning; go on with blemish train --resume {run}")
    method = build(config, _images_of(run))
    method.load_state_dict(load_file(weights_file(run)))
    return method.eval()


def _images_of(run: Path) -> Dataset:
    """What the run learns from; DataError where some of it is gone, for then the run would not be the same."""
    dataset = read_dataset(split_file(run), "csv")
    if dataset.broken:
        raise DataError(f"the run '{run}' learns from files that are gone, such as: {dataset.broken[0]}")
    return dataset


def _split(dataset: Dataset, config: RunConfig) -> Dataset:
    kind = method_class(config.method)
    # Pairs of image and template are learnt from where no image is good.
    good_only = good_alone(kind) and any(s.defective is False for s in dataset.samples)
    share = 0.0 if config.calibration == "cross-fitted" else 0.2
    return ensure_splits(dataset, seed=config.seed, val_share=share, need_defects_in_training=not good_only)


@rank_zero_only
def _start(run: Path, config: RunConfig, dataset: Dataset) -> None:
    write_config(run, config)
    write_csv(dataset, split_file(run))


def _carry_out(run: Path, config: RunConfig, dataset: Dataset, progress: bool, tensorboard: bool) -> Path:
    view = view_of(config)
    try:
        crossed = cross_fit(dataset, config, run, progress) if config.calibration == "cross-fitted" else None
        method = build(config, dataset)
        if weights_file(run).exists():
            log.info("already trained; shipping")
            method.load_state_dict(load_file(weights_file(run)))
        else:
            log.info(f"learning from {len(training_part(dataset, method))} images")
            trainings = config.folds + 1 if crossed else 1
            more: list[Callback] = [ProgressLog(progress_file(run), index=trainings - 1, count=trainings)]
            more += [StopAt(crossed.share)] if crossed and crossed.share < 1 else []
            trainer = fit(method, dataset, config, *more, run=run, progress=progress, tensorboard=tensorboard)
            if not trainer.is_global_zero:
                return run
            if crossed and crossed.temperature is not None:
                method.temperature.fill_(crossed.temperature)  # type: ignore[operator]
            _save_weights(method, weights_file(run))
    except KeyboardInterrupt:
        log.info(f"go on with: blemish train --resume {run}")
        raise
    target = CalibrationTarget(
        config.false_alarm, config.review, config.escape, config.cost_escape, config.class_thresholds
    )
    origin = Origin(dataset, config.options, config.seed, run.name, config.scale)
    results = None if crossed is None else crossed.results
    ship(method, view, origin, run / f"{run.resolve().name}.blemish", target=target, cross_fitted=results)
    for leftover in ("checkpoints", "folds"):
        shutil.rmtree(run / leftover, ignore_errors=True)
    return run


def _save_weights(method: Method, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}, partial)
    partial.replace(path)
