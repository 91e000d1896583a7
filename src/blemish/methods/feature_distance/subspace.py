"""SubspaceAD: a linear subspace of good patch features; the residual of a patch outside it scores a defect."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.anomaly import anomaly_outputs, blur_option, mean_of_worst
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import (
    FrozenNetwork,
    GaussianBlur,
    enlarge,
    flatten_maps,
    patch_features,
    valid_patches,
)
from blemish.methods.common.distributed import sum_over_ranks


class SubspaceOptions(FeatureOptions):
    strides: tuple[int, ...] = Field((4, 8, 16), min_length=1, description="feature maps used, finest first")
    variance: float = Field(0.99, gt=0, lt=1, description="share of the variance that the subspace keeps")
    worst: float = Field(0.01, ge=0, le=1, description="share of the worst patches whose mean is the score; 0: maximum")
    blur: float = blur_option(4.0)


class Subspace(OnePassMethod):
    """Lendering et al. 2026, "SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling".

    Kept: the principal components of all good patch features together, as many as a share of the variance needs; the
    norm of the residual outside them is the map; the score is the mean of the worst hundredth of the patches.
    Deviations: features of one or several layers of a light convolutional network, each averaged over 3 x 3 patches and
    concatenated, where the paper averages layers of DINOv2-G; training images are not rotated; the residual is taken
    directly on the complement of the subspace, which loses no digits to a difference of large squares.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="subspace",
        branch="feature_distance",
        title="SubspaceAD",
        paper="Lendering et al. 2026, SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling, CVPR",
        requires=("good",),
        answers=("where", "how much"),
        summary="PCA of good patch features, whatever their place; fits in one pass in constant memory.",
        smoke={"variance": 0.9},
    )
    Options: ClassVar[type[Options]] = SubspaceOptions
    options: SubspaceOptions
    mean: Tensor
    complement: Tensor

    def __init__(self, options: SubspaceOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.backbone = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("mean", torch.empty(0))  # (D,)
        self.register_buffer("complement", torch.empty(0, 0))  # (D, R), orthonormal columns outside the subspace
        size = sum(backbone.channels)
        # In float64 on the CPU: one pass of sums, and no digits lost in their difference.
        self._count = torch.zeros((), dtype=torch.float64)
        self._first = torch.zeros(size, dtype=torch.float64)
        self._second = torch.zeros(size, size, dtype=torch.float64)

    @property
    def worst_share(self) -> float:
        return self.options.worst

    def features(self, images: Tensor) -> Tensor:
        """Patch features (N, D, h, w)."""
        return patch_features(self.backbone(images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.features(images)
        count, _, height, width = features.shape
        residual = (flatten_maps(features) - self.mean) @ self.complement
        distances = residual.square().sum(dim=1).sqrt().view(count, height, width)
        smooth = self.blur(enlarge(distances, images.shape[-2:]))
        return anomaly_outputs(smooth, mean_of_worst(distances, self.options.worst) if self.options.worst else None)

    def training_step(self, batch: Batch, index: int) -> None:
        features = self.features(batch["image"])
        keep = valid_patches(batch["valid"], features.shape[-2:]).flatten()
        vectors = flatten_maps(features)[keep].cpu().double()
        self._count += len(vectors)
        self._first += vectors.sum(dim=0)
        self._second += vectors.T @ vectors

    def finish(self) -> None:
        device = self.mean.device
        sums = [self._count, self._first, self._second]
        if device.type != "mps":  # which has no float64; it runs in one process
            sums = [sum_over_ranks(own.to(device)).cpu() for own in sums]
        count, first, second = sums
        if count < 2:
            raise DataError("subspace needs at least two valid patches of good images; add some to train")
        mean = first / count
        covariance = second / count - torch.outer(mean, mean)
        self.mean = mean.float().to(device)
        self.complement = complement_basis(covariance, self.options.variance).float().to(device)
        for own in (self._count, self._first, self._second):
            own.zero_()


def complement_basis(covariance: Tensor, variance: float) -> Tensor:
    """Eigenvectors (D, R) of a covariance (D, D) outside the fewest that keep this share of the variance.

    At least one is outside.
    """
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    share = values.clamp(min=0).flip(0).cumsum(0) / values.clamp(min=0).sum().clamp(min=1e-300)
    kept = min(int((share < variance).sum()) + 1, len(values) - 1)
    return vectors[:, : len(values) - kept]
