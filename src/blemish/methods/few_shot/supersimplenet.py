"""SuperSimpleNet: trained on good images with noise in feature space, and on real defects where there are any."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.dataset.sample import Dataset
from blemish.methods.base import Batch, Item, Method, MethodInfo, Options, graph_score_only
from blemish.methods.common.augmentation import MASK_KEYS
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge, valid_patches
from blemish.methods.common.losses import focal_loss, masked_mean
from blemish.synthesis.noise import perlin_noise

PERLIN_THRESHOLD, SUPERVISED_THRESHOLD = 0.2, 0.6
MARGIN = 0.5  # of the truncated L1
GAMMA = 4.0  # of the focal losses
MIN_DEFECTS = 10  # training images from which on the paper's head ranks images better than the map


class SuperSimpleNetOptions(FeatureOptions):
    batch_size: int = Field(8, ge=2, description="images in a training batch; paper: 32")
    strides: tuple[int, ...] = Field((8, 16), min_length=1, description="feature maps used, finest first")
    upscale: Literal[1, 2] = Field(1, description="upsampling of the feature maps; paper: 2, which is slower")
    width: int = Field(128, ge=8, description="channels in the heads; paper: 1024 in that of the map")
    noise: float = Field(1.0, gt=0, description="of synthetic anomalies, in standard deviations of a feature")
    defect_share: float = Field(0.5, ge=0, lt=1, description="share of defective images, where there are real defects")
    score: Literal["auto", "head", "map"] = Field(
        "auto",
        description="image score: the paper's head, or the map's maximum; auto: head from 10 defects on",  # MIN_DEFECTS
        json_schema_extra=graph_score_only("head"),
    )
    steps: int = Field(500, ge=1, description="training steps; the paper's 300 epochs of 209 images: 2000")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW on the heads, half on the adaptor; paper: 2e-4")


class SuperSimpleNet(Method):
    """Rolih et al. 2024, "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface
    Defect Detection", ICPR.

    Kept: pooled features of a frozen network (in the paper wide_resnet50_2), linear adaptor; Gaussian noise on them
    where Perlin noise is above its threshold, higher with real defects, and there is no real defect; a segmentation
    head and, on features and its map, a classification head; truncated L1 and focal losses, clipped gradients; no
    gradient from the classification head to the segmentation head where there are good images only; as many
    defective images as good ones, mirrored. Deviations: a lighter network, whose maps are upsampled to the finest
    and no further unless `upscale=2`, and a narrower segmentation head; features are standardised so that the noise
    has a unit; with few real defects or none the image score is the map's maximum, since a head trained on hardly
    any defect but noise ranks real ones worse; each image is used once without and once with noise, where the paper
    decides at random; a defect too small for the grid keeps its best cell; an image labelled without a mask
    contributes its label only (cut into tiles, nothing); an unlabelled image contributes nothing; fewer steps, at a
    higher learning rate that falls in two steps near the end.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="supersimplenet",
        branch="few_shot",
        title="SuperSimpleNet",
        paper="Rolih et al. 2024, SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable "
        "Surface Defect Detection, ICPR",
        requires=("good",),
        optional=("label", "mask"),
        answers=("where", "how much"),
        summary="Good images, and any number of real defects with masks or with labels alone; small and fast.",
        smoke={"steps": 40, "width": 16, "learning_rate": 5e-3},
    )
    Options: ClassVar[type[Options]] = SuperSimpleNetOptions
    options: SuperSimpleNetOptions
    mean: Tensor
    deviation: Tensor
    supervised: Tensor
    head_trained: Tensor

    def __init__(self, options: SuperSimpleNetOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        size, width = sum(backbone.channels), options.width
        self.backbone = FrozenNetwork(backbone)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.register_buffer("supervised", torch.tensor(False))
        self.register_buffer("head_trained", torch.tensor(False))  # whether the head was trained on enough defects
        self.enough_defects = True  # whether there are enough defective images for it; set before training
        self.adaptor = nn.Conv2d(size, size, 1)
        self.segment = nn.Sequential(
            nn.Conv2d(size, width, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 1, bias=False)
        )
        self.classify_maps = nn.Sequential(nn.Conv2d(size + 1, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU())
        self.classify = nn.Linear(2 * width + 2, 1)
        for layer in (self.adaptor, *self.segment, *self.classify_maps, self.classify):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(layer.weight)
        self.smooth = GaussianBlur(options.image_size / 64)

    def features(self, images: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Standardised features (N, D, h, w) on the finest stride's grid, upsampled by `upscale`."""
        maps = self.backbone(images, numbers)
        size = [int(side) * self.options.upscale for side in maps[0].shape[-2:]]
        upsampled = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps]
        pooled = F.avg_pool2d(torch.cat(upsampled, dim=1), 3, stride=1, padding=1)
        return (pooled - self.mean[:, None, None]) / self.deviation[:, None, None]

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of pixels (N, h, w) and of images (N,)."""
        pixels = self.segment(features)
        logit_map = pixels if self.supervised or not self.training else pixels.detach()
        hidden = self.classify_maps(torch.cat([features, logit_map], dim=1))
        pooled = [pool for m in (hidden, logit_map) for pool in (m.mean(dim=(2, 3)), m.amax(dim=(2, 3)))]
        return pixels[:, 0], self.classify(torch.cat(pooled, dim=1))[:, 0]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pixels, whole = self.heads(self.adaptor(self.features(images)))
        heat = self.smooth(enlarge(pixels.sigmoid(), images.shape[-2:]))
        score = whole.sigmoid() if self.uses_head else heat.flatten(1).amax(dim=1)
        return {"anomaly_score": score, "anomaly_map": heat}

    @property
    def uses_head(self) -> bool:
        return self.options.score == "head" or (self.options.score == "auto" and bool(self.head_trained))

    def before_training(self, dataset: Dataset) -> None:
        count = sum(bool(sample.defective) for sample in dataset.samples)
        self.supervised.fill_(count > 0)
        self.enough_defects = count >= MIN_DEFECTS

    def train_transform(self) -> Callable[[Item], Item]:
        return self.mirror_defective

    def mirror_defective(self, item: Item) -> Item:
        """A labelled defective item, mirrored at random along each axis."""
        if item["defective"] != 1:
            return item
        axes = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        return {**item, **{key: item[key].flip(axes) for key in ("image", *MASK_KEYS) if key in item}}

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        bad = [bool(sample.defective) for sample in dataset.samples]
        share = self.options.defect_share
        if not any(bad) or all(bad):
            return None
        return [share / sum(bad) if b else (1 - share) / (len(bad) - sum(bad)) for b in bad]

    def on_train_start(self) -> None:
        """Measure means and standard deviations of the features of good surface on about a hundred images."""
        if bool((self.mean != 0).any()):  # resumed
            return
        training: Any = self.trainer.train_dataloader
        values, count, step = [], 0, self.options.upscale
        with torch.no_grad():
            for loaded in training:
                batch = self.transfer_batch_to_device(loaded, self.device, 0)
                features = self.features(batch["image"], batch.get("number"))[..., ::step, ::step]
                good = valid_patches(batch["valid"] & ~batch["mask"], features.shape[-2:])
                good &= ((batch["defective"] == 0) | batch["has_mask"])[:, None, None]
                values.append(features.transpose(0, 1)[:, good])
                count += len(batch["image"])
                if count >= 100:
                    break
        features = torch.cat(values, dim=1)
        self.mean, self.deviation = features.mean(dim=1), features.std(dim=1).clamp(min=1e-6)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        features = self.adaptor(self.features(batch["image"], batch.get("number")))
        size = features.shape[-2:]
        defect, valid = resize_masks(batch["mask"], size), valid_patches(batch["valid"], size)
        bad, known = batch["defective"] == 1, batch["defective"] >= 0
        self.head_trained |= bad.any() & self.enough_defects
        annotated = valid & (batch["has_mask"] | (batch["defective"] == 0))[:, None, None]
        noise_mask = self.noise_mask(len(bad), size).to(defect.device) & valid & ~defect
        noisy = features + noise_mask[:, None] * self.options.noise * torch.randn_like(features)
        pixels, images = self.heads(torch.cat([features, noisy]))
        target = torch.cat([defect, defect | noise_mask])
        annotated, known = torch.cat([annotated, annotated]), torch.cat([known, known])
        labels = torch.cat([bad, bad | noise_mask.flatten(1).any(dim=1)])
        segmentation = masked_mean(focal(pixels, target), annotated) + truncated_l1(pixels, target, annotated)
        classification = (focal(images, labels) * known).sum() / known.sum().clamp(min=1)
        self.log_dict({"loss": segmentation + classification, "classification": classification}, prog_bar=True)
        return segmentation + classification

    def noise_mask(self, count: int, size: torch.Size) -> Tensor:
        """Random masks of the cells to which noise is added: (count, h, w) bool."""
        side = max(size)
        cells = [2 ** int(torch.randint(max(1, side.bit_length() - 1), ())) for _ in range(2 * count)]
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        noise = [
            torch.from_numpy(perlin_noise(rng, side, side, (cells[2 * i], cells[2 * i + 1]))) for i in range(count)
        ]
        threshold = SUPERVISED_THRESHOLD if self.supervised else PERLIN_THRESHOLD
        return torch.stack(noise)[:, : size[0], : size[1]] > threshold

    def configure_optimizers(self) -> Any:
        rate, steps = self.options.learning_rate, self.options.steps
        heads = [*self.segment.parameters(), *self.classify_maps.parameters(), *self.classify.parameters()]
        optimizer = torch.optim.AdamW(
            [{"params": heads, "lr": rate, "weight_decay": 1e-5}, {"params": self.adaptor.parameters(), "lr": rate / 2}]
        )
        drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.8 * steps), int(0.9 * steps)], gamma=0.4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": drops, "interval": "step"}}

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps, "gradient_clip_val": 1.0}


def resize_masks(masks: Tensor, size: torch.Size) -> Tensor:
    """Masks (N, H, W) bool on a grid (N, h, w) bool: cells half covered, by bilinear sampling, or the best cell.

    The best cell of a defect that would vanish is the most covered of its neighbourhood, where none is half covered.
    """
    masks = masks[:, None].float()
    half = F.interpolate(masks, size=size, mode="bilinear", align_corners=False) >= 0.5
    covered = F.adaptive_avg_pool2d(masks, (size[0], size[1]))
    near, most = (F.max_pool2d(m, 3, stride=1, padding=1) for m in (half.float(), covered))
    return (half | ((covered > 0) & (covered == most) & (near == 0)))[:, 0]


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Binary focal loss of each element."""
    return focal_loss(F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none"), GAMMA)


def truncated_l1(logits: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """Truncated L1 (Liu et al. 2023, SimpleNet): logits beyond the margin on the right side have no loss."""
    loss = torch.where(target, MARGIN - logits, MARGIN + logits).clamp(min=0)
    terms = [loss[cells].mean() for cells in (target & annotated, ~target & annotated) if cells.any()]
    return torch.stack(terms).sum() if terms else logits.sum() * 0
