"""DFM: a linear subspace of good deep features; the residual of an image's features outside it scores a defect."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from blemish.errors import DataError, OptionError
from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options, graph_score_only
from blemish.methods.common.anomaly import anomaly_outputs, blur_option
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge
from blemish.methods.common.distributed import gather_vectors


class DFMOptions(FeatureOptions):
    stride: int = Field(16, ge=1, description="the feature map that is modelled")
    pooling: int = Field(2, ge=1, description="side of the squares over which features are averaged first")
    variance: float = Field(0.97, gt=0, lt=1, description="share of the variance that the subspace keeps")
    score: Literal["fre", "nll"] = Field(
        "fre",
        description="image score: reconstruction error or neg. log-likelihood",
        json_schema_extra=graph_score_only("nll"),
    )
    blur: float = blur_option(4.0)


class DFM(OnePassMethod):
    """Ahuja et al. 2019, "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection".

    The feature maps of an image, averaged in small squares, are one long vector. Kept: its principal components up to a
    share of the variance, a Gaussian in that subspace, the negative log-likelihood as the score. With it the feature
    reconstruction error (Ndiour et al. 2022): the part of the vector outside the subspace, whose locations also give
    the map. Deviations: a lighter default backbone (papers: ResNets); the components are found through the Gram matrix
    of the images, so all training vectors (some 30 kB each) are in memory at once.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="dfm",
        branch="one_class",
        title="Deep feature modelling",
        paper="Ahuja et al. 2019, Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial "
        "Detection; Ndiour et al. 2022, Subspace Modeling for Fast Out-of-Distribution and Anomaly Detection, ICIP",
        requires=("good",),
        answers=("where", "how much"),
        summary="PCA and a Gaussian on deep features of aligned images; fits in seconds, runs as fast as its backbone.",
        smoke={"pooling": 1},
    )
    Options: ClassVar[type[Options]] = DFMOptions
    options: DFMOptions
    mean: Tensor
    components: Tensor
    deviations: Tensor

    def __init__(self, options: DFMOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, (options.stride,))
        if math.ceil(options.image_size / options.stride) < options.pooling:
            raise OptionError(f"pooling={options.pooling} leaves nothing of a map of {options.image_size} px input")
        self.blur = GaussianBlur(options.blur)
        self.register_buffer("mean", torch.empty(0))  # (D,)
        self.register_buffer("components", torch.empty(0, 0))  # (K, D), orthonormal rows
        self.register_buffer("deviations", torch.empty(0))  # (K,), standard deviation along each component
        self.backbone = FrozenNetwork(backbone)
        self._collected: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        """(N, C, h, w) features of whole images, averaged in small squares; D = C h w."""
        return average_squares(self.backbone(images)[0], self.options.pooling)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.features(images)
        vectors = features.flatten(1)
        if vectors.shape[1] != len(self.mean):
            raise DataError("this dfm was trained by an older version, which left the right edge out; train it again")
        offset = vectors - self.mean
        inside = offset @ self.components.T  # (N, K)
        outside = offset - inside @ self.components
        error = outside.square()
        shape = [int(side) for side in features.shape[1:]]
        heat = self._to_image(error.view(-1, *shape).mean(dim=1).sqrt(), int(images.shape[-1]))
        if self.options.score == "fre":
            score = error.sum(dim=1)
        else:
            standard = inside / self.deviations
            score = 0.5 * standard.square().sum(dim=1) + self.deviations.log().sum()
        return anomaly_outputs(self.blur(heat), score)

    def _to_image(self, maps: Tensor, size: int) -> Tensor:
        """Maps of the squares (N, h, w) at the image's size; the squares of the last row and column may be cut off."""
        locations, pooling = math.ceil(size / self.options.stride), self.options.pooling
        whole = round(size * math.ceil(locations / pooling) * pooling / locations)
        return enlarge(maps, (whole, whole))[:, :size, :size]

    def training_step(self, batch: Batch, index: int) -> None:
        self._collected.append(self.features(batch["image"]).flatten(1))

    def finish(self) -> None:
        x = gather_vectors(torch.cat(self._collected))
        self._collected = []
        if len(x) < 3:
            raise DataError(
                "dfm needs at least three good images to train on, beside those that are held out, to model their "
                "variance; add some"
            )
        self.mean, self.components, self.deviations = principal_components(x, self.options.variance)


def average_squares(maps: Tensor, side: int) -> Tensor:
    """Means of maps (N, C, h, w) over squares; those at the right and bottom edge are over what is inside the map."""
    beyond = [-int(length) % side for length in (maps.shape[-1], maps.shape[-2])]
    if not any(beyond):
        return F.avg_pool2d(maps, side)
    # By zeros, not by `ceil_mode`, whose partial means differ between runtimes of ONNX.
    padding = (0, beyond[0], 0, beyond[1])
    inside = F.avg_pool2d(F.pad(torch.ones_like(maps[:1, :1]), padding), side)
    return F.avg_pool2d(F.pad(maps, padding), side) / inside


def principal_components(x: Tensor, variance: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of (N, D) vectors, the fewest (K, D) components that keep a share of the variance, and their deviations.

    K stays below N - 1, so that something remains outside the subspace. By the N x N Gram matrix: N is far below D.
    """
    mean = x.mean(dim=0)
    centred = (x - mean).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    share = values.cumsum(0) / values.sum().clamp(min=1e-12)
    enough = int((share < variance).sum()) + 1
    count = max(1, min(enough, len(x) - 2))
    values, vectors = values[:count].clamp(min=1e-9), vectors[:, :count]
    components = (centred.T @ vectors / values.sqrt()).T
    return mean, components.to(x.dtype), (values / (len(x) - 1)).sqrt().to(x.dtype)
