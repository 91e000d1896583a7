"""Weights averaged while learning, which are judged and shipped in place of the last ones."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

Weights = dict[str, Tensor]


class AveragedWeights(Callback):
    """Polyak & Juditsky 1992, as an exponential average over steps: of parameters and statistics of BatchNorm.

    In validation, and from there on until learning goes on, the network holds the average: the best epoch's checkpoint
    then has it too. While there have been few steps the average reaches over fewer.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.mean: Weights = {}
        self.own: Weights = {}  # the network's own weights, while it holds the average

    def on_train_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        found = learning(method)
        start = self.mean or found
        self.mean = {name: start[name].detach().to(value.device, copy=True) for name, value in found.items()}

    def on_train_batch_start(self, trainer: L.Trainer, method: L.LightningModule, *_: Any) -> None:
        if self.own:
            fill(method, self.own)
            self.own = {}

    def on_train_batch_end(self, trainer: L.Trainer, method: L.LightningModule, *_: Any) -> None:
        done = trainer.global_step
        decay = min(self.decay, (1 + done) / (10 + done))
        for name, value in learning(method).items():
            mean = self.mean.setdefault(name, value.detach().clone())  # what was held fast until now begins here
            mean.lerp_(value.detach(), 1 - decay)

    def on_validation_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self._put(method)

    def on_train_end(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self._put(method)
        self.mean, self.own = {}, {}

    def state_dict(self) -> dict[str, Weights]:
        return {"mean": self.mean, "own": self.own}

    def load_state_dict(self, state_dict: dict[str, Weights]) -> None:
        self.mean, self.own = state_dict["mean"], state_dict["own"]

    def _put(self, method: nn.Module) -> None:
        if self.mean and not self.own:
            self.own = {name: value.detach().clone() for name, value in learning(method).items()}
            fill(method, self.mean)


def learning(method: nn.Module) -> Weights:
    """What learning moves: parameters that learn, and the statistics of BatchNorm."""
    found: Weights = {name: value for name, value in method.named_parameters() if value.requires_grad}
    for prefix, module in method.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            found |= {f"{prefix}.{name}": getattr(module, name) for name in ("running_mean", "running_var")}
    return found


@torch.no_grad()
def fill(method: nn.Module, weights: Weights) -> None:
    """Copy weights into the module's tensors of the same names."""
    own = learning(method)
    for name, value in weights.items():
        if name in own:
            own[name].copy_(value)
