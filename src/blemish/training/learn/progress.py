"""Progress of a training: JSON lines in the run folder for other programs, and a log line a minute for a reader."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from blemish.methods.base import OnePassMethod
from blemish.report.formatting import duration

log = logging.getLogger(__name__)
FILE_EVERY_S = 1.0
LOG_EVERY_S = 60.0


def draws_bar(progress: bool) -> bool:
    """Whether progress is shown as a bar, which needs a terminal; otherwise it is logged once a minute."""
    return progress and sys.stderr.isatty()


def progress_file(run: Path) -> Path:
    return run / "progress.jsonl"


class ProgressLog(Callback):
    """Append the progress to `progress.jsonl`, at most one line a second, and to the log, one line a minute.

    A line has the keys time (ISO 8601, UTC), stage, epoch, step, steps, share (0 to 1, of all stages), loss (null where
    the method logs none) and remaining_s (null before the first measurement). A run of several trainings, such as
    cross-fitting, has one callback a training: `index` counts them from 0, and there are `count`.
    """

    def __init__(self, path: Path, stage: str = "fit", index: int = 0, count: int = 1, to_log: bool = True) -> None:
        self.path, self.stage, self.index, self.count, self.to_log = path, stage, index, count, to_log
        self.start = self.written = self.logged = 0.0
        self.start_share = 0.0

    def on_train_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self.start = self.logged = time.monotonic()
        self.start_share = self._steps(trainer, done=0)[2]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._report(trainer, self._line(trainer, 0, None))

    def on_train_batch_end(
        self, trainer: L.Trainer, method: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self.written >= FILE_EVERY_S:
            self._report(trainer, self._line(trainer, batch_idx + 1, outputs))

    def on_train_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        line = self._line(trainer, 0, None)
        share = (self.index + 1) / self.count
        self._report(
            trainer,
            {**line, "step": line["steps"], "share": round(share, 4), "remaining_s": 0.0 if share == 1 else None},
        )

    def _line(self, trainer: L.Trainer, done: int, outputs: Any) -> dict[str, Any]:
        step, steps, share = self._steps(trainer, done)
        gained, remaining = share - self.start_share, None
        overall = (self.index + share) / self.count
        if gained > 0:
            remaining = (time.monotonic() - self.start) / gained * (1 - overall) * self.count
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": self.stage,
            "epoch": trainer.current_epoch,
            "step": step,
            "steps": steps,
            "share": round(overall, 4),
            "loss": _loss(trainer, outputs),
            "remaining_s": None if remaining is None else round(remaining, 1),
        }

    def _steps(self, trainer: L.Trainer, done: int) -> tuple[int, int, float]:
        """Steps taken, steps in all and their ratio; `done` are the batches of this epoch.

        Steps are those of the optimizers; a method of one pass has none, and its batches are counted instead.
        """
        if not isinstance(trainer.lightning_module, OnePassMethod):
            step, steps = trainer.global_step, float(trainer.estimated_stepping_batches)
        else:
            batches = float(trainer.num_training_batches)
            step, steps = int(trainer.current_epoch * batches) + done, batches * max(1, trainer.max_epochs or 1)
        steps = max(1, step if steps == float("inf") else int(steps))
        return step, steps, min(1.0, step / steps)

    def _report(self, trainer: L.Trainer, line: dict[str, Any]) -> None:
        self.written = time.monotonic()
        if not trainer.is_global_zero:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.to_log and self.written - self.logged >= LOG_EVERY_S:
            self.logged = self.written
            log.info(_describe(line))


def _loss(trainer: L.Trainer, outputs: Any) -> float | None:
    """The last loss of the training, as far as the method logs or returns one; None where it is not finite."""
    value = trainer.callback_metrics.get("loss")
    if value is None:
        value = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if not isinstance(value, Tensor) or not value.isfinite().all():
        return None
    return round(float(value), 6)


def _describe(line: dict[str, Any]) -> str:
    words = [f"{line['stage']}: step {line['step']} of {line['steps']}", f"{line['share']:.0%}"]
    if line["loss"] is not None:
        words.append(f"loss {line['loss']:.4g}")
    if line["remaining_s"] is not None:
        words.append(f"about {duration(line['remaining_s'])} left")
    return ", ".join(words)
