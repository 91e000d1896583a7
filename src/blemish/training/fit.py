"""Training: from a dataset to a run folder with its bundle."""

import logging
import shutil
import signal
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from safetensors.torch import load_file, save_file

import blemish
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError, ImageError, OptionError
from blemish.imaging.read import image_header
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import InputSpec
from blemish.inspection.result import Inspection
from blemish.methods.base import Method, OnePassMethod
from blemish.methods.catalogue import method_class
from blemish.training.calibrate import Target
from blemish.training.checkpoint import LastCheckpoint
from blemish.training.data import ImageItems, View, loader
from blemish.training.needs import bears, check_truth, good_alone, good_or_paired
from blemish.training.one_pass import with_collecting_strategy
from blemish.training.options import check_options
from blemish.training.plan import advise, options_for, run_settings
from blemish.training.run import RunConfig, checkpoint_file, read_config, split_file, weights_file, write_config
from blemish.training.ship import Origin, Progress, ship
from blemish.training.stopping import Course, StopAt, Watched, best_share
from blemish.training.synthetic import check_recipe, classes_with, synthetic_first, with_drawn
from blemish.training.transfer import PROBE, LinearProbe, pretrained, start_from
from blemish.training.windows import check_places, learns_windows, thinned, windows_of

CHECKPOINT_EVERY = timedelta(minutes=2)
MOST_CHECKS = 20  # validations of a training that is counted in steps; a small set would have one every few of them


def train(
    data: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    tell: Progress = print,
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
        advice = advise(dataset)
        method = advice.method
        tell(f"method {method}: {advice.reason}")
        options = options_for(advice, method, options or {})
        settings = {**run_settings(advice), **{key: value for key, value in settings.items() if value is not None}}
    if settings.get("channels") is None:
        settings = {**settings, "channels": channels_of(dataset)}
    checked = check_options(method_class(method).Options, options or {}, method)
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
    dataset = _split(dataset, config)
    if config.synthetic is not None:
        check_recipe(config.synthetic, dataset, method_class(method))
    if learns_windows(method_class(method), config.tiling is not None):
        check_places(dataset)
    else:
        several = getattr(checked, "multi_label", False)
        check_truth(dataset, method_class(method), drawn=config.synthetic is not None, several=several)
    _start(run, config, dataset)
    try:
        return _carry_out(run, config, dataset, tell, progress, tensorboard)
    except BlemishError:
        if not weights_file(run).exists() and not checkpoint_file(run).exists():
            (run / "run.yaml").unlink(missing_ok=True)  # nothing was learnt: the folder is free for another try
        raise


def channels_of(dataset: Dataset) -> int:
    """What the network sees: 3 of grey and colour images, all of images with other channels, by the first of them."""
    try:
        channels = image_header(dataset.samples[0].image).channels if len(dataset) else 3
    except ImageError:  # the audit's business
        return 3
    return 3 if channels in (1, 3) else channels


def resume(run: str | Path, *, tell: Progress = print, progress: bool = True, tensorboard: bool = False) -> Path:
    """Go on with an interrupted run: from its last checkpoint, or from its weights when only shipping is left."""
    run = Path(run)
    config = read_config(run)
    dataset = read_dataset(split_file(run), "csv")
    return _carry_out(run, config, dataset, tell, progress, tensorboard)


def is_first_process() -> bool:
    """False in the further processes of a distributed run, which learn but write and ship nothing."""
    return bool(rank_zero_only.rank == 0)


def build(config: RunConfig, dataset: Dataset) -> Method:
    """A fresh method for a dataset; methods that learn from good images alone know just good and defect.

    Those that learn from labels know the classes of the training images: one that comes up in the test alone is not
    theirs to name. Where synthetic defects are learnt from, their classes are among the method's. Its random weights
    follow from the seed.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    kind = method_class(config.method)
    learnt_from = dataset.split("train") if "label" in kind.info.needs else dataset
    classes = (GOOD, "defect") if good_alone(kind) else classes_with(config.synthetic, learnt_from)
    if learns_windows(kind, config.tiling is not None) and GOOD not in classes:
        classes = (GOOD, *classes)  # what no defect touches
    options = check_options(kind.Options, config.options, config.method)
    return kind(options, classes, config.channels)


def load_method(run: str | Path) -> Method:
    """The trained method of a run folder."""
    run = Path(run)
    config = read_config(run)
    if not weights_file(run).is_file():
        raise OptionError(f"run '{run}' has not finished learning; go on with blemish train --resume {run}")
    method = build(config, read_dataset(split_file(run), "csv"))
    method.load_state_dict(load_file(weights_file(run)))
    return method.eval()


def view_of(config: RunConfig) -> View:
    side = config.options["image_size"]
    return View(InputSpec(channels=config.channels, height=side, width=side, fit=config.fit), config.roi, config.tiling)


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


def _carry_out(
    run: Path, config: RunConfig, dataset: Dataset, tell: Progress, progress: bool, tensorboard: bool
) -> Path:
    view = view_of(config)
    try:
        crossed = cross_fit(dataset, config, run, tell, progress) if config.calibration == "cross-fitted" else None
        method = build(config, dataset)
        if weights_file(run).exists():
            tell("already trained; shipping")
            method.load_state_dict(load_file(weights_file(run)))
        else:
            tell(f"learning from {len(_training(dataset, method))} images")
            stop = [StopAt(crossed.share)] if crossed and crossed.share < 1 else []
            trainer = fit(method, dataset, config, *stop, run=run, progress=progress, tensorboard=tensorboard)
            if not trainer.is_global_zero:
                return run
            if crossed and crossed.temperature is not None:
                method.temperature.fill_(crossed.temperature)  # type: ignore[operator]
            _save_weights(method, weights_file(run))
    except KeyboardInterrupt:
        tell(f"go on with: blemish train --resume {run}")
        raise
    target = Target(config.false_alarm, config.review, config.escape, config.cost_escape, config.class_thresholds)
    origin = Origin(dataset, config.options, config.seed, run.name, config.scale)
    results = None if crossed is None else crossed.results
    ship(method, view, origin, run / f"{run.resolve().name}.blemish", target=target, tell=tell, cross_fitted=results)
    for leftover in ("checkpoints", "folds"):
        shutil.rmtree(run / leftover, ignore_errors=True)
    return run


def fit(
    method: Method,
    dataset: Dataset,
    config: RunConfig,
    *more: Callback,
    run: Path,
    progress: bool = False,
    tensorboard: bool = False,
) -> L.Trainer:
    """Train a method in place by Lightning; KeyboardInterrupt when it is interrupted before it has finished.

    `more` are Lightning's callbacks beside those that every training has.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    one_pass = isinstance(method, OnePassMethod)
    view = view_of(config)
    truth = {*method.info.needs, *method.info.takes}
    learnt_from, held = _training(dataset, method), dataset.split("val")
    tiles = held_tiles = None
    if learns_windows(type(method), view.tiling is not None):
        cut = thinned(windows_of(dataset.split("train"), view, config.windows), config.windows, config.seed)
        learnt_from, tiles = cut.dataset, cut.tiles
        if len(held):
            cut = windows_of(held, view, config.windows, need_defects=False)
            held, held_tiles = cut.dataset, cut.tiles
    counted = learnt_from
    if config.synthetic is not None and not {"mask", "boxes"} & set(method.info.needs):
        counted = with_drawn(config.synthetic, learnt_from)
    method.before_training(counted)
    transform = method.augment()
    if config.synthetic is not None:
        transform = synthetic_first(config.synthetic, learnt_from, view, method.classes, transform)
    training = ImageItems(learnt_from, view, method.classes, transform, truth, tiles)
    validation = ImageItems(held, view, method.classes, truth=truth, tiles=held_tiles)
    batch = method.options.batch_size
    callbacks: list[Callback] = [*more]
    if progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    if not one_pass:
        callbacks.append(LastCheckpoint(checkpoint_file(run), CHECKPOINT_EVERY))
    best = None
    if method.monitor is not None and len(validation):
        best = ModelCheckpoint(
            run / "checkpoints", filename="best", monitor=method.monitor, mode="max", enable_version_counter=False
        )
        callbacks.append(best)
    if config.start is not None:
        callbacks.append(LinearProbe(start_from(method, config.start), PROBE if config.probe is None else config.probe))
    elif config.probe:
        callbacks.append(LinearProbe(pretrained(method), config.probe))
    loggers: list[Logger] = [CSVLogger(run, name="log", version="")]
    if tensorboard:
        loggers.append(TensorBoardLogger(run, name="tensorboard", version=""))
    own = method.trainer_options()
    steps = getattr(method.options, "steps", None)
    if best is not None and steps and not {"check_val_every_n_epoch", "val_check_interval"} & set(config.trainer):
        own |= {
            "check_val_every_n_epoch": None,
            "val_check_interval": check_interval(steps, -(-len(training) // batch)),
        }
    trainer_options = {"accelerator": "auto", "devices": 1, **own, **config.trainer}
    if one_pass:
        trainer_options = with_collecting_strategy(trainer_options)
    with quiet():
        trainer = _trainer(
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=progress,
            enable_checkpointing=not one_pass,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=not one_pass,
            default_root_dir=run,
            **trainer_options,
        )
        checkpoint = checkpoint_file(run)
        method.to(memory_format=torch.channels_last)  # the same numbers, and a third quicker on a CPU
        _fit(
            trainer,
            method,
            loader(
                training,
                batch,
                shuffle=not one_pass,
                workers=config.workers,
                seed=config.seed,
                weights=method.sampling_weights(learnt_from),
            ),
            loader(validation, batch, shuffle=False, workers=config.workers, seed=config.seed)
            if len(validation)
            else None,
            ckpt_path=str(checkpoint) if checkpoint.exists() and not one_pass else None,
            weights_only=True,
        )
    method.to(memory_format=torch.contiguous_format)
    if best is not None and best.best_model_path:
        method.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    held_out = dataset.split("val").where(lambda s: s.defective is False)
    good = ImageItems(held_out, view, method.classes, truth=truth)
    if not len(held_out):
        good = ImageItems(learnt_from, view, method.classes, truth=truth, tiles=tiles)
    method.after_training(loader(good, batch, shuffle=False, workers=config.workers, seed=config.seed))
    return trainer


def check_interval(steps: int, batches: int) -> int:
    """Steps between validations: about an epoch of `batches`, so cut that the last one meets the end of the training.

    A training that ends within an epoch would else never have its last and calmest steps looked at.
    """
    checks = min(MOST_CHECKS, max(1, round(steps / batches)))
    return steps // checks


@dataclass(frozen=True)
class Crossed:
    """What cross-fitting found, of a method that is monitored: when to stop, and the temperature of its classes."""

    results: list[Inspection]  # of every training image by a method that has not seen it, in their order
    share: float = 1.0  # of the steps, after which the folds were judged best
    temperature: float | None = None


def cross_fit(dataset: Dataset, config: RunConfig, run: Path, tell: Progress, progress: bool) -> Crossed:
    """Learn from all folds but one, as often as there are folds, and inspect that one."""
    training = dataset.split("train").samples
    results: dict[int, Inspection] = {}
    courses: list[Course] = []
    temperatures: list[float] = []
    for fold, held in enumerate(deal(training, config.folds, config.seed)):
        tell(f"cross-fitting, fold {fold + 1} of {config.folds}")
        part = dataset.with_samples(s for i, s in enumerate(training) if i not in held)
        method = build(config, dataset)
        folder = run / "folds" / str(fold)
        if method.monitor is None:
            fit(method, part, config, run=folder, progress=progress)
        else:
            watched = Watched(method.monitor)
            judged = dataset.with_samples(replace(s, split="val") if i in held else s for i, s in enumerate(training))
            fit(method, judged, config, watched, run=folder, progress=progress)
            courses.append(watched.course)
            if isinstance(temperature := getattr(method, "temperature", None), torch.Tensor):
                temperatures.append(float(temperature))
        target = Target(config.false_alarm, config.review)
        origin = Origin(part, config.options, config.seed, f"fold{fold}", config.scale)
        bundle = ship(method, view_of(config), origin, folder / "fold.blemish", target=target, tell=_silent)
        inspected = Inspector.open(bundle).inspect([training[i] for i in sorted(held)])
        results.update(zip(sorted(held), inspected, strict=True))
    return Crossed(
        [results[i] for i in range(len(training))],
        best_share(courses),
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
    )


def deal(samples: Sequence[Sample], folds: int, seed: int) -> list[set[int]]:
    """Indices of each fold: groups stay together, and each class is dealt out evenly; DataError with too few."""
    parts: defaultdict[str | int, list[int]] = defaultdict(list)
    for i in torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist():
        group = samples[i].group
        parts[i if group is None else group].append(i)
    if len(parts) < folds:
        raise DataError(
            f"cross-fitting in {folds} folds needs as many training images, or groups of them; there are {len(parts)}"
        )
    dealt = sorted(parts.values(), key=lambda part: str(samples[part[0]].label))
    return [{i for part in dealt[fold::folds] for i in part} for fold in range(folds)]


def _trainer(**options: Any) -> L.Trainer:
    """Lightning's trainer; OptionError for a device, strategy or precision that it does not take."""
    try:
        return L.Trainer(**options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise OptionError(f"Lightning does not take these options: {' '.join(str(error).split())}") from error


def _fit(trainer: L.Trainer, *arguments: Any, **settings: Any) -> None:
    """Lightning's fit; Ctrl-C, at which Lightning would end the program, is a KeyboardInterrupt as anywhere else."""
    at_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(*arguments, **settings)
    except SystemExit as stop:
        if trainer.received_sigterm:
            raise
        signal.signal(signal.SIGINT, at_interrupt)
        raise KeyboardInterrupt from stop


def _training(dataset: Dataset, method: Method) -> Dataset:
    """The training images that bear the truth a method learns from: good ones alone where it needs no other."""
    training = dataset.split("train")
    if good_alone(type(method)):
        return good_or_paired(training, type(method))
    if method.info.needs == ("good",):
        return training
    needed = [need for need in method.info.needs if need != "good"]
    return training.where(lambda s: all(bears(s, need, method.several_labels) for need in needed))


def _save_weights(method: Method, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}, partial)
    partial.replace(path)


def _silent(message: str) -> None:
    pass


class quiet:
    """Keeps Lightning's banners and hints off the screen; errors still show."""

    def __enter__(self) -> None:
        self.levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
        for name in self.levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *details: Any) -> None:
        self.caught.__exit__(*details)
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)
