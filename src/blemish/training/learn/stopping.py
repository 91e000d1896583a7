"""Early stopping without validation images: where, in cross-fitting, the held-out folds were judged best."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

Course = list[tuple[float, float]]  # share of the steps done, and the monitored figure there


class Watched(Callback):
    """Writes down the course of the figure that the method is monitored by."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.course: Course = []

    def on_validation_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        figure = trainer.callback_metrics.get(self.monitor)
        if figure is not None:
            self.course.append((trainer.global_step / float(trainer.estimated_stepping_batches), float(figure)))

    def state_dict(self) -> dict[str, Any]:
        return {"course": self.course}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.course = state_dict["course"]


class StopAt(Callback):
    """Ends the training when this share of its steps is done; rates are those of a whole one until there."""

    def __init__(self, share: float) -> None:
        self.share = share

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.share * float(trainer.estimated_stepping_batches):
            trainer.should_stop = True


def best_share(courses: Sequence[Course]) -> float:
    """The share of the steps after which the figure, averaged over the folds, was highest; of equals the first.

    Folds that stopped by themselves are compared up to the shortest.
    """
    shared = list(zip(*courses, strict=False))
    if not shared:
        return 1.0
    figures = [np.mean([figure for _, figure in check]) for check in shared]
    return float(np.mean([share for share, _ in shared[int(np.argmax(figures))]]))
