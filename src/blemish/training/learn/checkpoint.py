"""The checkpoint from which an interrupted training resumes."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


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
