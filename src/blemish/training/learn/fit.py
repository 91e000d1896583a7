"""Train a method by Lightning: data, callbacks, trainer."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import OptionError
from blemish.methods.base import Item, Method, OnePassMethod
from blemish.methods.catalogue import method_class
from blemish.methods.common.blocks import FrozenNetwork
from blemish.methods.common.feature_cache import FeatureCache
from blemish.methods.common.schedule import plain_batches
from blemish.training.learn.checkpoint import BestCheckpoint, LastCheckpoint
from blemish.training.learn.fit_data import prepare_fit_data
from blemish.training.learn.kept_memory import kept_memory
from blemish.training.learn.one_pass import with_collecting_strategy
from blemish.training.learn.options import check_options
from blemish.training.learn.progress import draws_bar
from blemish.training.learn.run import RunConfig, checkpoint_file
from blemish.training.learn.supervision import learns_from_good_only
from blemish.training.learn.synthetic import classes_with_synthetic
from blemish.training.learn.transfer import (
    PROBE_SHARE,
    LinearProbe,
    load_shared_weights,
    pretrained_parameters,
    trainable,
)
from blemish.training.learn.windows import learns_from_windows

UNUSED_ALLOWED = {
    "auto": "ddp_find_unused_parameters_true",
    "ddp": "ddp_find_unused_parameters_true",
    "ddp_spawn": "ddp_spawn_find_unused_parameters_true",
    "ddp_fork": "ddp_fork_find_unused_parameters_true",
}
CHECKPOINT_EVERY = timedelta(minutes=2)
MAX_VALIDATIONS = 20  # of a training that counts steps; a small set would have one every few steps


def build_method(config: RunConfig, dataset: Dataset) -> Method:
    """A fresh method for a dataset, with random weights from the seed.

    Methods trained on good images alone have the classes good and defect; methods trained on labels have those of
    the training images, since a class that is only in the test images cannot be trained. Classes of synthetic defects
    are added.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    kind = method_class(config.method)
    labelled = dataset.split("train") if "label" in kind.info.requires else dataset
    classes = (GOOD, "defect") if learns_from_good_only(kind) else classes_with_synthetic(config.synthetic, labelled)
    if learns_from_windows(kind, config.tiling is not None) and GOOD not in classes:
        classes = (GOOD, *classes)  # windows without a defect
    return kind(check_options(kind.Options, config.options, config.method), classes, config.channels)


def fit(
    method: Method,
    dataset: Dataset,
    config: RunConfig,
    *more: Callback,
    run: Path,
    progress: bool = False,
    tensorboard: bool = False,
    validates: bool = True,
) -> L.Trainer:
    """Train a method in place; KeyboardInterrupt when it is interrupted before it has finished.

    `validates` says whether the images for tuning select the best epoch and fit the temperature.
    `more` are callbacks in addition to those of every training. `progress` draws a bar where stderr is a terminal.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    one_pass = isinstance(method, OnePassMethod)
    data = prepare_fit_data(method, dataset, config)
    validation = data.validation if validates else None
    bar = draws_bar(progress)
    callbacks = [*more, *_callbacks(method, config, run, bar)]
    best = None
    if validation is not None and method.monitor is not None:
        best = BestCheckpoint(run / "checkpoints", method.monitor)
        callbacks.append(best)
    loggers: list[Logger] = [CSVLogger(run, name="log", version="")]
    if tensorboard:
        loggers.append(TensorBoardLogger(run, name="tensorboard", version=""))
    with quiet_lightning():
        trainer = _trainer(
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=bar,
            enable_checkpointing=not one_pass,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=not one_pass,
            default_root_dir=run,
            **_trainer_options(method, config, validates=best is not None, batches=len(data.training)),
        )
        checkpoint = checkpoint_file(run)
        method.to(memory_format=torch.channels_last)  # same results, a third faster on a CPU
        with kept_memory(), cached_features(method, config.cache_mb * 2**20), compiled(method, config.compile):
            _fit(
                trainer,
                method,
                data.training,
                validation,
                ckpt_path=str(checkpoint) if checkpoint.exists() and not one_pass else None,
                weights_only=True,
            )
            if best is not None and best.best_model_path:
                method.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
            _finish(method, data.training, trainer.strategy.root_device)
    method.to(memory_format=torch.contiguous_format)
    method.after_training(data.good)
    return trainer


def _callbacks(method: Method, config: RunConfig, run: Path, bar: bool) -> list[Callback]:
    """Progress bar, checkpoints for resuming, and the linear probe of pretrained layers."""
    callbacks: list[Callback] = [RichProgressBar(console_kwargs={"stderr": True})] if bar else []
    if not isinstance(method, OnePassMethod):
        callbacks.append(LastCheckpoint(checkpoint_file(run), CHECKPOINT_EVERY))
    if config.start is not None:
        share = PROBE_SHARE if config.probe is None else config.probe
        callbacks.append(LinearProbe(load_shared_weights(method, config.start), share))
    elif config.probe:
        pretrained = pretrained_parameters(method)
        if not trainable(method, pretrained):
            raise OptionError(
                f"--probe freezes pretrained layers at first, and {config.method} has none that train; leave it out"
            )
        callbacks.append(LinearProbe(pretrained, config.probe))
    return callbacks


def _trainer_options(method: Method, config: RunConfig, validates: bool, batches: int) -> dict[str, Any]:
    """The method's own options of Lightning's trainer, overridden by those of the run."""
    own, steps = method.trainer_options(), getattr(method.options, "steps", None)
    if validates and steps and not {"check_val_every_n_epoch", "val_check_interval"} & set(config.trainer):
        own |= {"check_val_every_n_epoch": None, "val_check_interval": validation_interval(steps, batches)}
    options = {"accelerator": "auto", "devices": 1, **own, **config.trainer}
    if isinstance(method, OnePassMethod):
        return with_collecting_strategy(options)
    if options["devices"] not in (1, "1") or options.get("num_nodes", 1) > 1:
        strategy = options.get("strategy", "auto")
        # Many methods leave some layers out of a step: networks that are trained in turn, heads without annotations.
        options["strategy"] = UNUSED_ALLOWED.get(strategy, strategy)
    return options


def validation_interval(steps: int, batches: int) -> int:
    """Steps between validations: about an epoch of `batches`, so that the last one is at the end of the training, or
    fewer steps before it than there are validations.

    Otherwise a training that ends within an epoch would never validate its last and calmest steps.
    """
    checks = min(MAX_VALIDATIONS, max(1, round(steps / batches)))
    return steps // checks


def _trainer(**options: Any) -> L.Trainer:
    """Lightning's trainer; OptionError for a device, strategy or precision that it does not accept."""
    try:
        return L.Trainer(**options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise OptionError(f"Lightning does not take these options: {' '.join(str(error).split())}") from error


def _fit(trainer: L.Trainer, *arguments: Any, **settings: Any) -> None:
    """Lightning's fit, but Ctrl-C raises KeyboardInterrupt instead of ending the program."""
    at_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(*arguments, **settings)
    except SystemExit as stop:
        if trainer.received_sigterm:
            raise
        signal.signal(signal.SIGINT, at_interrupt)
        raise KeyboardInterrupt from stop


def _finish(method: Method, training: DataLoader[Item], device: torch.device) -> None:
    """The method's `finish_training`, on the device that it was trained on: Lightning leaves it on the CPU."""
    method.to(device)
    method.finish_training(plain_batches(method, training), len(training.dataset))  # type: ignore[arg-type]
    method.cpu()


@contextmanager
def cached_features(method: Method, max_bytes: int) -> Iterator[None]:
    """Compute the features of the method's frozen networks once for each image, within that much memory for each."""
    frozen = [module for module in method.modules() if isinstance(module, FrozenNetwork)]
    for module in frozen:
        module.cache = FeatureCache(max_bytes) if max_bytes else None
    try:
        yield
    finally:
        for module in frozen:
            module.cache = None


@contextmanager
def compiled(method: Method, wanted: bool) -> Iterator[None]:
    """torch.compile of the method's own layers for as long as the block lasts; OptionError where it does not work."""
    layers = [layer for layer in method.children() if any(True for _ in layer.parameters())] if wanted else []
    for layer in layers:
        layer.compile()
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise OptionError(f"torch.compile does not work here ({reason}); leave --compile out") from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's banners, hints and warnings; errors are still logged."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
