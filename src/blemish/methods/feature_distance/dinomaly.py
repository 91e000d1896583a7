"""Dinomaly: a transformer decoder behind a noisy bottleneck reconstructs a frozen transformer's features, loosely."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, worst_share_option
from blemish.methods.common.backbones import load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, sum_maps
from blemish.methods.common.losses import squared_unit_distance
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.feature_distance.vit import DecoderBlock, check_side, loose_cosine_loss

EASY_SHARE = 0.9  # share of the locations that count as well reconstructed, once the loss has been loosened


class DinomalyOptions(Options):
    image_size: int = Field(252, ge=32, le=2048, description="side of the network's input; paper: 392")
    batch_size: int = Field(4, ge=1, description="images in a training batch; paper: 16")
    backbone: str = Field("vit_small_patch14_reg4_dinov2", description="timm name of a vision transformer; paper: base")
    weights: str = Field("auto", description="auto, imagenet (timm's own), random, or a local weights file")
    first_block: int = Field(
        2, ge=0, description="first of the transformer's blocks that are reconstructed, counted from 0"
    )
    blocks: int = Field(8, ge=2, description="blocks reconstructed, and blocks of the decoder; even")
    heads: int = Field(6, ge=1, description="attention heads of the decoder")
    noise: float = Field(0.2, ge=0, lt=1, description="dropout of the bottleneck; paper: 0.2, and 0.4 for varied sets")
    steps: int = Field(300, ge=1, description="training steps; paper: 10000 (5000 for a single product)")
    learning_rate: float = Field(2e-3, gt=0, description="of AdamW")
    worst_share: float = worst_share_option(0.01)
    blur: float = blur_option(4.0)


class Dinomaly(StepMethod):
    """Guo et al. 2025, "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection", CVPR.

    Kept: frozen DINOv2 with registers, its eight middle blocks; their mean through a bottleneck of one MLP with
    dropout; a decoder of as many blocks with linear attention; loose reconstruction of two groups of blocks, the
    decoder mirrored; gradient of the well reconstructed locations reduced, increasingly over the first tenth of the
    steps; warm-up and cosine down to a tenth of the rate, gradients clipped to 0.1; map = mean distance of the two
    groups, image score = mean of its worst 1 %. Deviations: AdamW with AMSGrad for StableAdamW; only patch tokens pass
    the bottleneck, without class and register tokens; by default the small transformer, 252 px, and few small batches.
    One network serves several products at once: train it on the images of all of them.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="dinomaly",
        branch="feature_distance",
        title="Dinomaly",
        paper="Guo et al. 2025, Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection",
        requires=("good",),
        answers=("where", "how much"),
        summary="A transformer reconstructs DINOv2 features; one model for several products. Needs DINO weights.",
        smoke={"backbone": "vit_tiny_patch16_224", "weights": "random", "heads": 3, "steps": 40},
        never_advised="its weights, DINOv2, must be fetched from the hub or given as a file",
    )
    Options: ClassVar[type[Options]] = DinomalyOptions
    options: DinomalyOptions

    def __init__(self, options: DinomalyOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_side(options.backbone, options.image_size)
        indices = list(range(options.first_block, options.first_block + options.blocks))
        backbone = load_backbone(
            options.backbone, options.weights, channels, indices=indices, image_size=options.image_size
        )
        size = backbone.channels[0]
        if size % options.heads or options.blocks % 2:
            raise OptionError(f"heads={options.heads} must divide the {size} dimensions, and blocks must be even")
        self.bottleneck = nn.Sequential(
            nn.Dropout(options.noise), nn.Linear(size, 4 * size), nn.GELU(), nn.Dropout(options.noise),
            nn.Linear(4 * size, size), nn.Dropout(options.noise),
        )  # fmt: skip
        self.decoder = nn.ModuleList(DecoderBlock(size, options.heads) for _ in range(options.blocks))
        for module in [*self.bottleneck.modules(), *self.decoder.modules()]:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)
        self.blur = GaussianBlur(options.blur)
        self.backbone = FrozenNetwork(backbone)

    def pairs(self, images: Tensor, numbers: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Original and reconstructed (N, D, h, w) features for the earlier and the later half of the blocks."""
        features = torch.stack(self.backbone(images, numbers))  # (B, N, D, h, w)
        grid = features.shape[-2:]
        x = self.bottleneck(features.mean(dim=0).flatten(2).transpose(1, 2))
        outputs = []
        for block in self.decoder:
            x = block(x)
            outputs.append(x)
        mirrored = torch.stack(outputs[::-1]).transpose(2, 3).unflatten(3, grid)
        return [
            (a.mean(dim=0), b.mean(dim=0))
            for a, b in zip(features.chunk(2, dim=0), mirrored.chunk(2, dim=0), strict=True)
        ]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [squared_unit_distance(a, b) for a, b in self.pairs(images)]
        heat = self.blur(sum_maps(maps, images.shape[-2:]) / len(maps))
        return anomaly_outputs(heat, worst_share=self.options.worst_share)

    def compute_loss(self, batch: Batch) -> Tensor:
        share = EASY_SHARE * min(1.0, self.global_step / max(1, self.options.steps // 10))
        return torch.stack(
            [loose_cosine_loss(a, b, share) for a, b in self.pairs(batch["image"], batch.get("number"))]
        ).mean()

    def configure_optimizers(self) -> Any:
        trained = [*self.bottleneck.parameters(), *self.decoder.parameters()]
        optimizer = torch.optim.AdamW(
            trained, lr=self.options.learning_rate, weight_decay=1e-4, amsgrad=True, eps=1e-10
        )
        return cosine_decay(optimizer, self.options.steps, warmup=min(100, self.options.steps // 10), floor=0.1)

    def trainer_options(self) -> dict[str, Any]:
        return {**super().trainer_options(), "gradient_clip_val": 0.1}
