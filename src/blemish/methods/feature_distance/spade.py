"""SPADE: retrieve the most similar good images, then compare each location with the most similar one in them."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.anomaly import anomaly_outputs, blur_option
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge, grid_shape, to_grid, valid_patches
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.feature_distance.coreset import k_center_greedy

FAR_AWAY = 1e4  # distance of masked gallery locations from the origin; fits into half precision


class SpadeOptions(FeatureOptions):
    strides: tuple[int, ...] = Field(
        (4, 8, 16), min_length=1, description="feature maps compared location by location, finest first"
    )
    image_stride: int = Field(32, ge=1, description="feature map whose mean describes a whole image")
    grid_stride: int = Field(8, ge=1, description="spacing of the locations in px of the network's input; paper: 4")
    neighbours: int = Field(50, ge=1, description="most similar good images that are compared location by location")
    gallery: int = Field(200, ge=1, description="good images kept in the bundle; of more, the most different ones")
    blur: float = blur_option(4.0)


class Spade(OnePassMethod):
    """Cohen & Hoshen 2020, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences" (SPADE).

    Kept: image score = mean squared distance of the image's mean features to those of its 50 nearest good images; map =
    distance of each location's pyramid of features to the nearest location of those images, anywhere in them, smoothed
    with sigma 4. Deviations: a lighter default backbone (the paper's is `backbone=wide_resnet50_2`); one location for
    each 8 x 8 pixels where the paper has 4 x 4 (`grid_stride=4`), and a gallery in half precision of at most `gallery`
    images, chosen as a k-centre coreset, because all of it ships in the graph.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="spade",
        branch="feature_distance",
        title="SPADE",
        paper="Cohen & Hoshen 2020, Sub-Image Anomaly Detection with Deep Pyramid Correspondences",
        requires=("good",),
        answers=("where", "how much"),
        summary="Nearest good images, then nearest locations in them; nothing is trained, but the gallery is large.",
        smoke={"neighbours": 4},
    )
    Options: ClassVar[type[Options]] = SpadeOptions
    options: SpadeOptions
    image_bank: Tensor
    location_mean: Tensor
    location_bank: Tensor

    def __init__(self, options: SpadeOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        strides = (*options.strides, options.image_stride)
        backbone = load_backbone(options.backbone, options.weights, channels, strides)
        self.grid = grid_shape(options.image_size, options.grid_stride)
        self.blur = GaussianBlur(options.blur)
        locations, dimensions = self.grid[0] * self.grid[1], sum(backbone.channels[:-1])
        self.register_buffer("image_bank", torch.empty(0, backbone.channels[-1]))
        self.register_buffer("location_mean", torch.zeros(dimensions))
        self.register_buffer("location_bank", torch.empty(0, locations, dimensions, dtype=torch.float16))
        self.backbone = FrozenNetwork(backbone)
        self._collected: list[tuple[Tensor, Tensor]] = []

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C) of the whole images, and features (N, P, D) of the locations, row by row."""
        *maps, last = self.backbone(images)
        features = torch.cat([to_grid(m, self.grid) for m in maps], dim=1).flatten(2).transpose(1, 2)
        return last.mean(dim=(2, 3)), features

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        whole, features = self.embed(images)
        squared = (whole[:, None] - self.image_bank[None]).square().sum(dim=2)  # (N, G)
        count = min(self.options.neighbours, len(self.image_bank))
        nearest = squared.topk(count, dim=1, largest=False)
        distances = self.nearest_squared(features - self.location_mean, nearest.indices).clamp(min=0).sqrt()
        heat = self.blur(enlarge(distances.reshape(-1, *self.grid), images.shape[-2:]))
        return anomaly_outputs(heat, nearest.values.mean(dim=1))

    def nearest_squared(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Squared distance of (N, P, D) features to the nearest location of the (N, K) chosen gallery images: (N, P).

        One gallery image at a time, so that the memory does not grow with K.
        """
        nearest = []
        for column in chosen.unbind(dim=1):
            others = self.location_bank[column].float()  # (N, P, D)
            norms = others.square().sum(dim=2)[:, None]
            nearest.append((norms - 2 * torch.bmm(features, others.transpose(1, 2))).amin(dim=2))
        return torch.stack(nearest).amin(dim=0) + features.square().sum(dim=2)

    def training_step(self, batch: Batch, index: int) -> None:
        whole, features = self.embed(batch["image"])
        keep = valid_patches(batch["valid"], self.grid).flatten(1)
        features = torch.where(keep[:, :, None], features, masked_coordinate(features.shape[2]))
        self._collected.append((whole, features.half()))
        if sum(len(w) for w, _ in self._collected) > 2 * self.options.gallery:
            self._collected = [self._select(*self._joined())]

    def finish(self) -> None:
        whole, features = self._joined()
        self._collected = []
        self.image_bank, features = self._select(gather_vectors(whole), gather_vectors(features))
        # About their mean the features are shorter, and half precision and differences of squares lose less.
        valid = features[features[:, :, 0] != features.new_tensor(masked_coordinate(features.shape[2]))]
        self.location_mean = valid.float().mean(dim=0)
        self.location_bank = (features.float() - self.location_mean).half()

    def _joined(self) -> tuple[Tensor, Tensor]:
        whole, features = zip(*self._collected, strict=True)
        return torch.cat(whole), torch.cat(features)

    def _select(self, whole: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The gallery's images: the most different ones, a k-centre coreset."""
        if len(whole) <= self.options.gallery:
            return whole, features
        kept = k_center_greedy(whole, self.options.gallery).sort().values
        return whole[kept].clone(), features[kept].clone()


def masked_coordinate(dimensions: int) -> float:
    """The value of each coordinate of a masked location, which puts it FAR_AWAY."""
    return FAR_AWAY / dimensions**0.5
