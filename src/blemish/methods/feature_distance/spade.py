"""SPADE: find the most similar good images, then for each place the most similar place among them."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge, grid_shape, to_grid, valid_patches
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.feature_distance.coreset import k_center_greedy

FAR = 1e4  # a gallery place that does not count is put this far away; fits into half precision


class SpadeOptions(Options):
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the feature network")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field(
        (4, 8, 16), min_length=1, description="feature maps compared place by place, finest first"
    )
    image_stride: int = Field(32, ge=1, description="feature map whose mean describes a whole image")
    grid_stride: int = Field(8, ge=1, description="spacing of the places in px of the network's input; paper: 4")
    neighbours: int = Field(50, ge=1, description="most similar good images that are compared place by place")
    gallery: int = Field(200, ge=1, description="good images kept in the bundle; of more, the most different ones")
    blur: float = Field(4.0, ge=0, description="sigma of the map's Gaussian, in px of the network's input")


class Spade(OnePassMethod):
    """Cohen & Hoshen 2020, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences" (SPADE).

    Kept: image score = mean squared distance of the image's mean features to those of its 50 nearest good images; map =
    distance of each place's pyramid of features to the nearest place of those images, anywhere in them, smoothed with
    sigma 4. Deviations: a lighter default backbone (the paper's is `backbone=wide_resnet50_2`); one place for each
    8 x 8 pixels where the paper has 4 x 4 (`grid_stride=4`), and a gallery in half precision of at most `gallery`
    images, chosen as a k-centre coreset, because all of it ships in the graph.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="spade",
        branch="feature_distance",
        title="SPADE",
        paper="Cohen & Hoshen 2020, Sub-Image Anomaly Detection with Deep Pyramid Correspondences",
        requires=("good",),
        answers=("where", "how much"),
        summary="Nearest good images, then nearest places in them; nothing is learnt, but the gallery is large.",
        smoke={"neighbours": 4},
    )
    Options: ClassVar[type[Options]] = SpadeOptions
    options: SpadeOptions

    def __init__(self, options: SpadeOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        strides = (*options.strides, options.image_stride)
        backbone = load_backbone(options.backbone, options.weights, channels, strides)
        self.grid = grid_shape(options.image_size, options.grid_stride)
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("image_bank", torch.empty(0, backbone.channels[-1]))
        self.register_buffer("place_mean", torch.zeros(sum(backbone.channels[:-1])))
        places = self.grid[0] * self.grid[1]
        self.register_buffer("place_bank", torch.empty(0, places, sum(backbone.channels[:-1]), dtype=torch.float16))
        self.backbone = FrozenNetwork(backbone)
        self._collected: list[tuple[Tensor, Tensor]] = []

    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) features of the whole images, and (N, P, D) features of the places, row by row."""
        *maps, last = self.backbone(images)
        places = torch.cat([to_grid(m, self.grid) for m in maps], dim=1).flatten(2).transpose(1, 2)
        return last.mean(dim=(2, 3)), places

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        whole, places = self.describe(images)
        squared = (whole[:, None] - self.image_bank[None]).square().sum(dim=2)  # (N, G)
        count = min(self.options.neighbours, len(self.image_bank))
        nearest = squared.topk(count, dim=1, largest=False)
        distances = self.nearest_places(places - self.place_mean, nearest.indices).clamp(min=0).sqrt()
        heat = self.blur(enlarge(distances.reshape(-1, *self.grid), images.shape[-2:]))
        return {"anomaly_score": nearest.values.mean(dim=1), "anomaly_map": heat}

    def nearest_places(self, places: Tensor, chosen: Tensor) -> Tensor:
        """Squared distance of (N, P, D) places to the nearest place of the (N, K) chosen gallery images: (N, P).

        One gallery image at a time, so that the memory does not grow with K.
        """
        best = None
        for column in chosen.unbind(dim=1):
            others = self.place_bank[column].float()  # (N, P, D)
            norms = others.square().sum(dim=2)[:, None]
            distance = (norms - 2 * torch.bmm(places, others.transpose(1, 2))).amin(dim=2)
            best = distance if best is None else torch.minimum(best, distance)
        return best + places.square().sum(dim=2)

    def training_step(self, batch: Batch, index: int) -> None:
        whole, places = self.describe(batch["image"])
        keep = valid_patches(batch["valid"], self.grid).flatten(1)
        places = torch.where(keep[:, :, None], places, far(places.shape[2]))
        self._collected.append((whole, places.half()))
        if sum(len(w) for w, _ in self._collected) > 2 * self.options.gallery:
            self._collected = [self._thin(*self._joined())]

    def finish(self) -> None:
        whole, places = self._joined()
        self._collected = []
        self.image_bank, places = self._thin(gather_vectors(whole), gather_vectors(places))
        # About their mean the features are shorter, and half precision and differences of squares lose less.
        counting = places[places[:, :, 0] != places.new_tensor(far(places.shape[2]))]
        self.place_mean = counting.float().mean(dim=0)
        self.place_bank = (places.float() - self.place_mean).half()

    def _joined(self) -> tuple[Tensor, Tensor]:
        return torch.cat([w for w, _ in self._collected]), torch.cat([p for _, p in self._collected])

    def _thin(self, whole: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        if len(whole) <= self.options.gallery:
            return whole, places
        kept = k_center_greedy(whole, self.options.gallery).sort().values
        return whole[kept].clone(), places[kept].clone()

    def state_summary(self) -> dict[str, Any]:
        return {"gallery images": len(self.image_bank), "places": self.place_bank.shape[1]}


def far(dimensions: int) -> float:
    """Each coordinate of a place that does not count."""
    return FAR / dimensions**0.5
