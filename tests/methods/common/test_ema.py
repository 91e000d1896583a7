"""Averaged weights: against the recurrence by hand, in validation, at the end, and after an interruption."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from blemish.methods.common.ema import AveragedWeights


class Falling(L.LightningModule):
    """One number that falls by 1 in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))
        self.trajectory: list[float] = []
        self.judged: list[float] = []

    def training_step(self, batch, index):
        self.trajectory.append(float(self.number.detach()))
        return self.number.sum()

    def validation_step(self, batch, index):
        self.judged.append(float(self.number.detach()))
        self.log("score", -self.number)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def averages(decay: float, steps: int) -> list[float]:
    mean, found = 0.0, []
    for step in range(1, steps + 1):
        own = min(decay, (1 + step) / (10 + step))
        mean = own * mean + (1 - own) * -step
        found.append(mean)
    return found


def fit(module: Falling, folder: Path, epochs: int, checkpoint: str | None = None) -> ModelCheckpoint:
    best = ModelCheckpoint(folder, filename="best", monitor="score", mode="max", save_last=True)
    trainer = L.Trainer(
        max_epochs=epochs, callbacks=[AveragedWeights(0.5), best], accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    batches = DataLoader(torch.zeros(3, 1))
    trainer.fit(module, batches, batches, ckpt_path=checkpoint, weights_only=True)
    return best


def test_average_is_validated_and_shipped_without_changing_training(tmp_path):
    module, expected = Falling(), averages(0.5, 6)
    best = fit(module, tmp_path, 2)
    assert module.trajectory == [0, -1, -2, -3, -4, -5]
    assert module.judged[::3] == pytest.approx([expected[2], expected[5]])
    assert float(module.number) == pytest.approx(expected[5])
    assert float(torch.load(best.best_model_path)["state_dict"]["number"]) == pytest.approx(expected[5])


def test_average_resumes_after_an_interruption(tmp_path):
    fit(Falling(), tmp_path, 1)
    module = Falling()
    fit(module, tmp_path / "more", 2, str(tmp_path / "last.ckpt"))
    assert module.trajectory == [-3, -4, -5]
    assert float(module.number) == pytest.approx(averages(0.5, 6)[5])
