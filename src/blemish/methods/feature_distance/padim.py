"""PaDiM: a Gaussian of good features at each location of the image; the Mahalanobis distance scores a defect."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.anomaly import anomaly_outputs, blur_option
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge, grid_shape, to_grid, valid_patches
from blemish.methods.common.distributed import sum_over_ranks

PAPER_REGULARISATION = 0.01


class PadimOptions(FeatureOptions):
    strides: tuple[int, ...] = Field((4, 8, 16), description="feature maps used, finest first")
    grid_stride: int = Field(8, ge=1, description="spacing of the Gaussians in px of the network's input; paper: 4")
    dimensions: int = Field(100, ge=1, description="feature channels kept, chosen at random by the seed")
    regularisation: float = Field(PAPER_REGULARISATION, gt=0, description="added to the diagonal of each covariance")
    blur: float = blur_option(4.0)
    seed: int = Field(0, description="of the random choice of channels")


class Padim(OnePassMethod):
    """Defard et al. 2021, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection".

    Kept: concatenated features of three layers, random choice of channels, a Gaussian per location with 0.01 I added to
    its covariance, Mahalanobis distance, map smoothed with sigma 4, image score = maximum of the map. The distance is
    taken as the norm of L^T (x - mean), L the Cholesky factor of the precision: one matrix product and no inverse in
    the shipped graph. Deviations: a lighter default backbone, and by default one Gaussian for each 8 x 8 pixels, where
    the paper has 4 x 4 (`grid_stride=4`), because the bundle is then four times smaller and faster.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="padim",
        branch="feature_distance",
        title="PaDiM",
        paper="Defard et al. 2021, PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection, ICPR",
        requires=("good",),
        answers=("where", "how much"),
        summary="A Gaussian of good features at each location; for aligned parts. Fits in one pass in constant memory.",
        smoke={"dimensions": 20},
    )
    Options: ClassVar[type[Options]] = PadimOptions
    options: PadimOptions
    kept: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, options: PadimOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.backbone = FrozenNetwork(backbone)
        self.blur = GaussianBlur(options.blur)
        order = torch.randperm(sum(backbone.channels), generator=torch.Generator().manual_seed(options.seed))
        self.register_buffer("kept", order[: options.dimensions].sort().values)
        self.register_buffer("mean", torch.empty(0, 0))  # (P, D)
        self.register_buffer("factor", torch.empty(0, 0, 0))  # (P, D, D), L of precision = L L^T
        self.grid = grid_shape(options.image_size, options.grid_stride)
        self._sums: list[Tensor] = []

    def embed(self, images: Tensor) -> Tensor:
        """(N, P, D) features, one vector for each location of the grid, row by row."""
        maps = [to_grid(m, self.grid) for m in self.backbone(images)]
        return torch.cat(maps, dim=1)[:, self.kept].flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        offsets = (self.embed(images) - self.mean).transpose(0, 1)  # (P, N, D)
        distances = torch.bmm(offsets, self.factor).square().sum(dim=2).sqrt().T
        return anomaly_outputs(self.blur(enlarge(distances.reshape(-1, *self.grid), images.shape[-2:])))

    def training_step(self, batch: Batch, index: int) -> None:
        x = self.embed(batch["image"])
        keep = valid_patches(batch["valid"], self.grid).flatten(1).to(x.dtype)
        if not self._sums:
            # Sums are taken about the first image: differences of large numbers would lose digits.
            reference = x[:1].clone()
            locations, size = x.shape[1:]
            moments = [x.new_zeros(locations, *shape) for shape in ((), (size,), (size, size))]
            self._sums = [*moments, reference]
        count, first, second, reference = self._sums
        y = (x - reference) * keep[:, :, None]
        count += keep.sum(dim=0)
        first += y.sum(dim=0)
        rows = y.transpose(0, 1)  # (P, N, D)
        second.baddbmm_(rows.transpose(1, 2), rows)

    def finish(self) -> None:
        count, first, second, reference = self._moments()
        self._sums = []
        enough = count >= 2
        if not bool(enough.any()):
            raise DataError(
                "padim needs at least two good images to train on, beside those that are held out, to estimate the "
                "variance of each location; add some"
            )
        size = count.clamp(min=2)[:, None]
        mean = first / size
        covariance = (second - size[:, :, None] * mean[:, :, None] * mean[:, None, :]) / (size[:, :, None] - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(self.options.regularisation)
        self.mean = mean + reference
        factor = precision_factor(covariance, self.options.regularisation)
        if factor is None:
            raise DataError(
                f"regularisation={self.options.regularisation:g} of padim is too small to invert the covariance of "
                "these images' features; raise it"
            )
        self.factor = factor
        self.factor[~enough] = 0  # locations that were never valid have no Gaussian

    def _moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts and moments over all ranks, about one common reference."""
        count, first, second, reference = self._sums
        common = sum_over_ranks(reference) / sum_over_ranks(torch.ones_like(reference))
        shift = (reference - common)[0]
        n = count[:, None]
        cross = shift[:, :, None] * first[:, None, :]
        second = second + cross + cross.transpose(1, 2) + n[:, :, None] * shift[:, :, None] * shift[:, None, :]
        first = first + n * shift
        return sum_over_ranks(count), sum_over_ranks(first), sum_over_ranks(second), common[0]


def precision_factor(covariance: Tensor, regularisation: float) -> Tensor | None:
    """Cholesky factors of the inverses of matrices (P, D, D) with that on their diagonal; None where rounding rules.

    In float64 below the paper's regularisation, where float32 would lose too many digits.
    """
    dtype = covariance.dtype if regularisation >= PAPER_REGULARISATION else torch.float64
    factor, failed = torch.linalg.cholesky_ex(covariance.to(dtype))
    if failed.any():
        return None
    precision = torch.cholesky_inverse(factor)
    if precision.diagonal(dim1=1, dim2=2).max() > 2 / regularisation:  # no covariance has a variance below zero
        return None
    factor, failed = torch.linalg.cholesky_ex(precision)
    return None if failed.any() else factor.to(covariance.dtype)
