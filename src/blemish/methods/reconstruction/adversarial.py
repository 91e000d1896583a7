"""The base of methods whose networks are trained against each other, each by an optimiser of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from blemish.methods.base import Method, Options


class AdversarialMethod(Method):
    """A method that steps its optimisers itself, in `training_step`."""

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False

    @property
    def all_optimizers(self) -> list[LightningOptimizer]:
        """The optimisers, in the order of `configure_optimizers`."""
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    @property
    def all_schedulers(self) -> list[Any]:
        """The learning-rate schedules, in the order of `configure_optimizers`."""
        schedulers = self.lr_schedulers()
        assert isinstance(schedulers, list)
        return schedulers

    def minimize(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        """One step of an optimiser down the gradient of a loss."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of a discriminator's logits (N,) for real and for fake inputs, averaged."""
    return 0.5 * (real_loss(real) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)))


def real_loss(logits: Tensor) -> Tensor:
    """Binary cross-entropy of a discriminator's logits (N,) with the label real."""
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
