"""Anomaly maps in standard deviations of good images, by pixel or as a whole: one option of the methods with a map."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.dataset.duplicates import small_grey
from blemish.dataset.fingerprint import ALIGNED, SIDE, alignment
from blemish.methods.base import Batch, Method, Options
from blemish.methods.common.anomaly import anomaly_outputs, worst_share_option

MIN_IMAGES = 5  # held-out good images from which on each pixel has statistics of its own
PRIOR = 5.0  # images that the variance of the whole map counts for in that of a pixel
# A pixel where less than usual is left of the image is unusual too, as where a print is missing: it counts half.
BELOW = -0.5


class MapOptions(Options):
    """Options of methods whose image score is the maximum of their map."""

    standardise: Literal["auto", "none", "pixel", "global"] = Field(
        "auto",
        description="unit of the map, the standard deviation of good images: of each pixel, where values below the "
        "mean count half, or of the whole map; none: the raw map, as in papers; auto: pixel where the images are "
        "aligned, else global",
    )
    worst_share: float = worst_share_option(0.0)


class MapMethod(Method):
    """A method that compares images with what it learned, pixel by pixel; its `forward` standardises that map.

    The mean and the deviation are those of the images given to `after_training`, and part of the graph.
    """

    options: Any
    map_mean: Tensor  # (H, W), or one number
    map_deviation: Tensor

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.register_buffer("map_mean", torch.zeros(()))
        self.register_buffer("map_deviation", torch.ones(()))

    @abstractmethod
    def map_and_score(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The raw map (N, H, W), and image scores (N,) where these are not the maximum of the standardised map."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raw, score = self.map_and_score(images)
        heat = (raw - self.map_mean) / self.map_deviation
        if self.map_mean.ndim:
            heat = torch.maximum(heat, BELOW * heat)
        return anomaly_outputs(heat, score, self.options.worst_share)

    @torch.no_grad()
    def after_training(self, good: Iterable[Batch]) -> None:
        super().after_training(good)
        if self.options.standardise == "none":
            return
        self.eval()
        raws, valid, greys = [], [], []
        for batch in good:
            raws.append(self.map_and_score(batch["image"].to(self.device))[0].cpu())
            valid.append(batch["valid"])
            greys += [small_grey(image.permute(1, 2, 0).cpu().numpy(), SIDE) for image in batch["image"]]
        by_pixel = self.options.standardise == "pixel" or (self.options.standardise == "auto" and is_aligned(greys))
        mean, deviation = map_statistics(torch.cat(raws), torch.cat(valid), by_pixel)
        self.map_mean, self.map_deviation = mean.to(self.device), deviation.to(self.device)


def is_aligned(images: Sequence[Any]) -> bool:
    """Whether grey images (S, S) show the same part at the same place, by the measure of the fingerprint."""
    return len(images) >= MIN_IMAGES and alignment(np.stack(images)) >= ALIGNED


def map_statistics(maps: Tensor, valid: Tensor, by_pixel: bool) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of maps (N, H, W) over their valid pixels: numbers, or (H, W) where `by_pixel`.

    With N images the variance of a pixel is a rough estimate. The mean of all variances counts for PRIOR images
    beside it; a pixel that was never valid has the mean and the variance of the whole map.
    """
    values, weights = maps.double(), valid.double()
    count, total = weights.sum(dim=0), weights.sum().clamp(min=1)
    mean = (values * weights).sum() / total
    variance = ((values - mean).square() * weights).sum() / total
    if not by_pixel:
        return mean.float(), variance.sqrt().clamp(min=_smallest(mean)).float()
    own = torch.where(count > 0, (values * weights).sum(dim=0) / count.clamp(min=1), mean)
    squares = ((values - own).square() * weights).sum(dim=0)
    within = squares.sum() / (count - 1).clamp(min=0).sum().clamp(min=1)
    spread = (squares + PRIOR * within) / ((count - 1).clamp(min=0) + PRIOR)
    spread = torch.where(count > 0, spread, variance)
    return own.float(), spread.sqrt().clamp(min=_smallest(mean)).float()


def _smallest(mean: Tensor) -> float:
    """The least deviation: maps that are all alike are no reason to divide by nothing."""
    return max(1e-3 * abs(float(mean)), 1e-6)
