"""The checkpoint that an interrupted training goes on from."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Writes one file anew every so often, between two steps.

    Lightning's ModelCheckpoint does that too, but not for methods of several optimisers that step by themselves.
    """

    def __init__(self, path: Path, every: timedelta) -> None:
        self.path = path
        self.every = every.total_seconds()
        self.written = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.written = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        # The first process decides for all, since all have to take part.
        if trainer.strategy.broadcast(time.monotonic() - self.written >= self.every):
            trainer.save_checkpoint(self.path)
            self.written = time.monotonic()
