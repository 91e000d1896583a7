"""Exponential moving average of the weights, which is validated and shipped instead of the last weights."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn


class AveragedWeights(WeightAveraging):
    """Polyak & Juditsky 1992, as an exponential average over steps of parameters and BatchNorm statistics.

    In the first steps the decay is smaller: (1 + step) / (10 + step). Unlike Lightning's own callbacks, the network
    holds the average until the end of validation, so that whatever the method computes in `on_validation_epoch_end`,
    such as a temperature, belongs to the average; buffers other than BatchNorm's are those of the network.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=self._average)
        self.decay = decay
        self._steps = 0

    def setup(self, trainer: L.Trainer, method: L.LightningModule, stage: str) -> None:
        super().setup(trainer, method, stage)
        if self._average_model is not None:  # from the first step on an average with the initial weights
            self._average_model.n_averaged.fill_(1)

    def on_train_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        assert self._average_model is not None
        self._average_model.to(method.device)  # it was made before the network moved there

    def on_train_batch_end(self, trainer: L.Trainer, method: L.LightningModule, *args: Any) -> None:
        self._steps = trainer.global_step
        super().on_train_batch_end(trainer, method, *args)
        assert self._average_model is not None
        _copy_other_buffers(method, self._average_model.module)

    def on_validation_epoch_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        """The average stays in the network: the method's own hook comes after this one."""

    def on_validation_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        if self._average_model is not None:
            self._swap_models(method)
            _copy_other_buffers(self._average_model.module, method)

    def _average(self, averaged: Tensor, current: Tensor, _: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current.to(averaged.device), 1 - min(self.decay, (1 + self._steps) / (10 + self._steps)))


def _copy_other_buffers(source: nn.Module, target: nn.Module) -> None:
    """Copy all buffers but the statistics of BatchNorm."""
    for module, other in zip(source.modules(), target.modules(), strict=True):
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for buffer, own in zip(module.buffers(recurse=False), other.buffers(recurse=False), strict=True):
                own.copy_(buffer)
