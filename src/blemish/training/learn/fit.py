"""Learning: a method, built for a dataset and trained on it by Lightning."""

import logging
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import OptionError
from blemish.inspection.manifest import InputSpec
from blemish.methods.base import Method, OnePassMethod
from blemish.methods.catalogue import method_class
from blemish.training.learn.checkpoint import LastCheckpoint
from blemish.training.learn.data import ImageItems, View, loader
from blemish.training.learn.one_pass import with_collecting_strategy
from blemish.training.learn.options import check_options
from blemish.training.learn.run import RunConfig, checkpoint_file
from blemish.training.learn.supervision import bears, good_alone, good_or_paired
from blemish.training.learn.synthetic import classes_with, part_of_tiles, synthetic_first, with_drawn
from blemish.training.learn.transfer import PROBE, LinearProbe, learning, pretrained, start_from
from blemish.training.learn.windows import learns_windows, thinned, tiles_as_samples, windows_of

CHECKPOINT_EVERY = timedelta(minutes=2)
MOST_CHECKS = 20  # validations of a training that is counted in steps; a small set would have one every few of them


def build(config: RunConfig, dataset: Dataset) -> Method:
    """A fresh method for a dataset; methods that learn from good images alone know just good and defect.

    Those that learn from labels know the classes of the training images: one that comes up in the test alone is not
    theirs to name. Where synthetic defects are learnt from, their classes are among the method's. Its random weights
    follow from the seed.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    kind = method_class(config.method)
    learnt_from = dataset.split("train") if "label" in kind.info.requires else dataset
    classes = (GOOD, "defect") if good_alone(kind) else classes_with(config.synthetic, learnt_from)
    if learns_windows(kind, config.tiling is not None) and GOOD not in classes:
        classes = (GOOD, *classes)  # what no defect touches
    options = check_options(kind.Options, config.options, config.method)
    return kind(options, classes, config.channels)


def view_of(config: RunConfig) -> View:
    side = config.options["image_size"]
    return View(InputSpec(channels=config.channels, height=side, width=side, fit=config.fit), config.roi, config.tiling)


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
    truth = {*method.info.requires, *method.info.optional}
    learnt_from, held = training_part(dataset, method), dataset.split("val")
    tiles = held_tiles = None
    if learns_windows(type(method), view.tiling is not None):
        cut = thinned(windows_of(dataset.split("train"), view, config.windows), config.windows, config.seed)
        learnt_from, tiles = cut.dataset, cut.tiles
        if len(held):
            cut = windows_of(held, view, config.windows, need_defects=False)
            held, held_tiles = cut.dataset, cut.tiles
    counted = learnt_from
    if config.synthetic is not None and not {"mask", "boxes"} & set(method.info.requires):
        counted = with_drawn(config.synthetic, learnt_from)
    method.before_training(counted)
    transform = method.train_transform()
    if config.synthetic is not None:
        whole = dataset.split("train") if tiles is not None else learnt_from  # windows keep no masks to cut out by
        transform = synthetic_first(config.synthetic, whole, view, method.classes, transform)
    training = ImageItems(
        learnt_from, view, method.classes, transform, truth, tiles, part_of_tiles(config.synthetic, view)
    )
    validation = ImageItems(held, view, method.classes, truth=truth, tiles=held_tiles)
    batch = method.options.batch_size
    callbacks: list[Callback] = [*more]
    if progress and sys.stderr.isatty():
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
        if not learning(method, pretrained(method)):
            raise OptionError(
                f"--probe holds pretrained layers still at first, and {config.method} has none that learn; leave it out"
            )
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
            enable_progress_bar=progress and sys.stderr.isatty(),
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
                weights=_sampling_weights(method, learnt_from, view, cut=tiles is not None),
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


def _sampling_weights(method: Method, dataset: Dataset, view: View, cut: bool) -> list[float] | None:
    """How often each item is drawn, which is a tile where images are tiled, unless they are `cut` to windows."""
    weights = method.sampling_weights(dataset)
    if weights is None or view.tiling is None or cut:
        return weights
    return method.sampling_weights(tiles_as_samples(dataset, view))


def check_interval(steps: int, batches: int) -> int:
    """Steps between validations: about an epoch of `batches`, so cut that the last one meets the end of the training.

    A training that ends within an epoch would else never have its last and calmest steps looked at.
    """
    checks = min(MOST_CHECKS, max(1, round(steps / batches)))
    return steps // checks


def training_part(dataset: Dataset, method: Method) -> Dataset:
    """The training images that bear the truth a method learns from: good ones alone where it needs no other."""
    training = dataset.split("train")
    if good_alone(type(method)):
        return good_or_paired(training, type(method))
    if method.info.requires == ("good",):
        return training
    needed = [need for need in method.info.requires if need != "good"]
    return training.where(lambda s: all(bears(s, need, method.multi_label) for need in needed))


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
