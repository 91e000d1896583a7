"""FastFlow: a normalising flow maps good features to a Gaussian; features of low likelihood are a defect."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, sum_of_means, worst_share_option
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, image_mean, sum_maps


class FastFlowOptions(FeatureOptions):
    strides: tuple[int, ...] = Field((8, 16, 32), description="feature maps, each with a flow of its own")
    flow_steps: int = Field(8, ge=1, description="coupling steps of a flow")
    kernels: tuple[int, ...] = Field(
        (3, 1), min_length=1, description="kernel sizes of the couplings' convolutions, in turn"
    )
    hidden_ratio: float = Field(1.0, gt=0, description="hidden channels of a coupling, in parts of its input channels")
    clamp: float = Field(2.0, gt=0, description="largest logarithm of a coupling's scale")
    steps: int = Field(400, ge=1, description="training steps; the paper's 500 epochs of 209 images, 32 a batch: 3500")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    worst_share: float = worst_share_option(0.0)


class FastFlow(StepMethod):
    """Yu et al. 2021, "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows".

    Kept: a frozen network's features, normalised; for each scale a flow of affine couplings whose
    subnets are two convolutions, 3 x 3 and 1 x 1 in turn, so that the features stay maps; maximum likelihood with Adam
    (1e-3, decay 1e-5); likelihood of each location, enlarged and averaged over the scales. The map is one minus that
    likelihood (per channel, unnormalised), the image score its maximum. Deviations: a lighter default backbone (paper:
    resnet18, wide_resnet50_2 or a vision transformer) and its next three scales, since its first ones know edges and
    little else (the paper's: `strides=[4,8,16]`); batches that fit the memory of a small machine.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="fastflow",
        branch="one_class",
        title="FastFlow",
        paper="Yu et al. 2021, FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows",
        requires=("good",),
        answers=("where", "how much"),
        summary="The likelihood of good features, learned by 2-D normalising flows; no memory bank.",
        smoke={"steps": 30},
    )
    Options: ClassVar[type[Options]] = FastFlowOptions
    options: FastFlowOptions
    falling_rate = False

    def __init__(self, options: FastFlowOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if any(kernel < 1 or kernel % 2 == 0 for kernel in options.kernels):
            raise OptionError(
                f"kernels={list(options.kernels)}: kernel sizes are odd, so that the maps keep their size"
            )
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.flows = nn.ModuleList(
            NormalizingFlow(c, options.flow_steps, options.kernels, options.hidden_ratio, options.clamp)
            for c in backbone.channels
        )
        self.backbone = FrozenNetwork(backbone)

    def latent(self, images: Tensor, numbers: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """For each scale the (N, C, h, w) latent map and the (N, h, w) log-determinant per location."""
        return [flow(normalize(m)) for flow, m in zip(self.flows, self.backbone(images, numbers), strict=True)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        unlikely = [1 - torch.exp(-0.5 * z.square().mean(dim=1)) for z, _ in self.latent(images)]
        heat = sum_maps(unlikely, images.shape[-2:]) / len(unlikely)
        return anomaly_outputs(heat, worst_share=self.options.worst_share)

    def compute_loss(self, batch: Batch) -> Tensor:
        latent = self.latent(batch["image"], batch.get("number"))
        losses = [negative_log_likelihood(z, log_det) / z.shape[1] for z, log_det in latent]
        return sum_of_means(losses, batch["valid"])

    def make_optimizer(self) -> Optimizer:
        return torch.optim.Adam(self.flows.parameters(), lr=self.options.learning_rate, weight_decay=1e-5)

    def trainer_options(self) -> dict[str, Any]:
        # The likelihood is steep at the start; without a bound one step can throw the flow far off.
        return {**super().trainer_options(), "gradient_clip_val": 1.0}


def normalize(features: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels and locations of each image, as the layer norm of the paper's code.

    Not over the channels of each location: that would raise the noise of a plain background to the level of an edge.
    """
    centred = features - image_mean(features)
    return centred / (image_mean(centred.square()) + 1e-5).sqrt()


def negative_log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """Negative log-likelihood of a standard Gaussian, less its constant: (N, C, h, w) and (N, h, w) to (N, h, w)."""
    return 0.5 * z.square().sum(dim=1) - log_det


class NormalizingFlow(nn.Module):
    """Affine couplings one after another, the channels shuffled between them by a fixed permutation."""

    order: Tensor

    def __init__(self, channels: int, steps: int, kernels: tuple[int, ...], hidden_ratio: float, clamp: float) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(
            AffineCoupling(channels, kernels[i % len(kernels)], hidden_ratio, clamp) for i in range(steps)
        )
        self.register_buffer("order", torch.stack([torch.randperm(channels) for _ in range(steps)]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) to the latent map and the (N, h, w) shares of the log-determinant, whose sum is the whole."""
        log_det = torch.zeros_like(x[:, 0])
        for coupling, order in zip(self.couplings, self.order, strict=True):
            x, change = coupling(x[:, order])
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """The input (N, C, h, w) of a latent map (N, C, h, w)."""
        for coupling, order in zip(reversed([*self.couplings]), self.order.flip(0), strict=True):
            z = coupling.inverse(z)[:, order.argsort()]
        return z


class AffineCoupling(nn.Module):
    """Scales and shifts one half of the channels by a small network's output from the other (Dinh et al. 2017)."""

    def __init__(self, channels: int, kernel: int, hidden_ratio: float, clamp: float) -> None:
        super().__init__()
        self.kept = channels // 2
        self.changed = channels - self.kept
        self.clamp = clamp
        hidden = max(1, round(self.kept * hidden_ratio))
        last = nn.Conv2d(hidden, 2 * self.changed, kernel, padding=kernel // 2)
        nn.init.zeros_(last.weight)  # the flow starts as the identity
        nn.init.zeros_(last.get_parameter("bias"))
        self.subnet = nn.Sequential(nn.Conv2d(self.kept, hidden, kernel, padding=kernel // 2), nn.ReLU(), last)

    def _log_scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.subnet(kept).split([self.changed, self.changed], dim=1)
        return self.clamp * (2 / math.pi) * torch.atan(raw), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed = x.split([self.kept, self.changed], dim=1)
        log_scale, shift = self._log_scale_and_shift(kept)
        return torch.cat([kept, changed * torch.exp(log_scale) + shift], dim=1), log_scale.sum(dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        kept, changed = y.split([self.kept, self.changed], dim=1)
        log_scale, shift = self._log_scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) * torch.exp(-log_scale)], dim=1)
