"""Bases of the methods that are trained on good images: an anomaly map and score, and training by optimiser steps."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from blemish.methods.base import Batch, Method
from blemish.methods.common.losses import masked_mean
from blemish.methods.common.schedule import cosine_decay


def blur_option(default: float) -> Any:
    """The option `blur`, whose usual value differs between methods."""
    return Field(default, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


def worst_share_option(default: float, extra: dict[str, Any] | None = None) -> Any:
    """The option `worst_share`: a mean over many pixels is not decided by the noise of one, as a maximum is.

    `extra` is its `json_schema_extra`.
    """
    return Field(
        default,
        ge=0,
        le=1,
        description="share of the map, the worst, whose mean is the image score; 0: its maximum",
        json_schema_extra=extra,
    )


def side_option(default: int, ge: int = 32, le: int = 1024) -> Any:
    """The option `image_size` of networks that are trained from scratch on smaller images."""
    return Field(default, ge=ge, le=le, description="side of the square that the network sees, in px")


class StepMethod(Method):
    """A method trained with one loss and one optimiser for the number of steps of its options.

    A subclass computes its loss in `compute_loss`; it is Adam on all parameters, unless the subclass makes another
    optimiser. Its rate falls along a cosine from the first step on, or is constant where `falling_rate` is False:
    a student or a flow learns at the full rate, and after a short run with a falling one it is behind.
    """

    options: Any
    falling_rate: ClassVar[bool] = True

    @abstractmethod
    def compute_loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""

    def make_optimizer(self) -> Optimizer:
        """The optimiser at its full learning rate."""
        return torch.optim.Adam(self.parameters(), lr=self.options.learning_rate)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self.compute_loss(batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        return cosine_decay(optimizer, self.options.steps) if self.falling_rate else optimizer

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}


def anomaly_outputs(anomaly_map: Tensor, score: Tensor | None = None, worst_share: float = 0.0) -> dict[str, Tensor]:
    """The graph's outputs from a map (N, H, W) and image scores (N,).

    Without scores they are the mean of the `worst_share` of the map, or with 0 its maximum.
    """
    if score is None:
        score = mean_of_worst(anomaly_map, worst_share)
    return {"anomaly_score": score, "anomaly_map": anomaly_map}


def mean_of_worst(values: Tensor, share: float) -> Tensor:
    """The mean (N,) of the largest values of maps (N, h, w): that share of them, one at least."""
    count = round(share * int(values.shape[1]) * int(values.shape[2]))
    if count <= 1:
        return values.flatten(1).amax(dim=1)
    return values.flatten(1).topk(count, dim=1).values.mean(dim=1)


def residual_map(images: Tensor, restored: Tensor) -> Tensor:
    """Absolute difference of images (N, C, H, W), mean over the channels: (N, H, W)."""
    return (images - restored).abs().mean(dim=1)


def masked_squared_error(images: Tensor, restored: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of images (N, C, H, W) over the valid pixels (N, H, W)."""
    return masked_mean((images - restored).square().mean(dim=1), valid)


def sum_of_means(maps: Sequence[Tensor], valid: Tensor) -> Tensor:
    """The sum over the scales of the mean of each map (N, h, w) over its valid cells; `valid` is (N, H, W)."""
    return torch.stack([masked_mean(m, valid) for m in maps]).sum()
