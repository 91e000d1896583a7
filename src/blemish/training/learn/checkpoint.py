"""The checkpoint from which an interrupted training resumes."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights of the best validation; none where the images for tuning leave the metric undefined."""

    def __init__(self, folder: Path, metric: str) -> None:
        super().__init__(folder, filename="best", monitor=metric, mode="max", enable_version_counter=False)
        self.metric = metric
        self.undefined = False  # at a validation

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)  # of older checkpoints

    def on_train_epoch_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        if self._is_defined(trainer):
            super().on_train_epoch_end(trainer, method)

    def on_validation_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self.undefined = not self._is_defined(trainer)
        if not self.undefined:
            super().on_validation_end(trainer, method)

    def _is_defined(self, trainer: L.Trainer) -> bool:
        """Whether there is a metric; before the first validation there is none either."""
        value = trainer.callback_metrics.get(self.metric)
        return value is not None and not bool(value.isnan())


def is_tuned(trainer: L.Trainer) -> bool:
    """Whether the images for tuning, if any were asked, chose the weights."""
    best = [own for own in trainer.checkpoint_callbacks if isinstance(own, BestCheckpoint)]
    return all(own.best_model_path or not own.undefined for own in best)


class LastCheckpoint(Checkpoint):
    """Overwrite one checkpoint file at regular intervals, between two steps.

    Lightning's ModelCheckpoint does so too, but not for methods with several optimisers and manual optimisation.
    """

    def __init__(self, path: Path, every: timedelta) -> None:
        self.path = path
        self.every = every.total_seconds()
        self.saved = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        # All processes take part, so the first one decides for all.
        if trainer.strategy.broadcast(time.monotonic() - self.saved >= self.every):
            partial = self.path.with_suffix(".partial")
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:  # what cannot be written whole leaves the checkpoint before
                partial.replace(self.path)
            self.saved = time.monotonic()
