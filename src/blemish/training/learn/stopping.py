"""Early stopping without validation images: at the step at which the held-out folds of cross-fitting were best."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

MonitorCourse = list[tuple[float, float]]  # share of the steps done, and the monitored metric there, NaN: undefined


class MonitorHistory(Callback):
    """Record the monitored metric at each validation."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.course: MonitorCourse = []

    def on_validation_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        share = trainer.global_step / float(trainer.estimated_stepping_batches)
        self.course.append((share, float(trainer.callback_metrics.get(self.monitor, np.nan))))

    def state_dict(self) -> dict[str, Any]:
        return {"course": self.course}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.course[:] = state_dict["course"]


class StopAtShare(Callback):
    """End the training after this share of its steps; until then learning rates are those of the full schedule."""

    def __init__(self, share: float) -> None:
        self.share = share

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.share * float(trainer.estimated_stepping_batches):
            trainer.should_stop = True


def best_stopping_share(courses: Sequence[MonitorCourse]) -> float:
    """The share of the steps at which the mean metric of the folds is highest; the first of equals.

    Folds that stopped early are compared up to the shortest. Those without any metric are left out; 1 without others.
    """
    common = list(zip(*filter(is_defined, courses), strict=False))
    if not common:
        return 1.0
    means = [np.mean([metric for _, metric in check]) for check in common]
    best = int(np.argmax(np.nan_to_num(means, nan=-np.inf)))
    return float(np.mean([share for share, _ in common[best]]))


def is_defined(course: MonitorCourse) -> bool:
    """Whether the images for tuning gave a metric at all."""
    return any(np.isfinite(metric) for _, metric in course)
