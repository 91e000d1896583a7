"""Segmentation and classification on one encoder, trained from many labelled images of which a few have masks."""

from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.arrays import FloatMap, Mask
from blemish.dataset.ground_truth import has_mask
from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo
from blemish.methods.classification.class_balance import class_counts, prior_correction
from blemish.methods.classification.classifier import macro_f1
from blemish.methods.classification.temperature import fit_temperature
from blemish.methods.common.backbones import freeze_stages
from blemish.methods.common.blocks import conv_block
from blemish.methods.common.collector import Collector
from blemish.methods.segmentation.networks import Encoder, EncoderDecoder, unet
from blemish.methods.segmentation.segmenter import SMOKE, Segmenter, SegmenterOptions

STRIDE = 32  # of the coarsest map, on which the image is classified


class MultiTaskOptions(SegmenterOptions):
    width: int = Field(16, ge=1, description="channels of the decoder at half size, doubled at each coarser one")
    frozen_stride: int = Field(4, ge=0, le=16, description="pretrained layers to this stride stay as they are; 0: none")
    steps: int = Field(1600, ge=1, description="training steps")
    head_width: int = Field(64, ge=1, description="channels of the classification head")
    class_weight: float = Field(1.0, gt=0, description="weight of the classification loss relative to the pixels'")
    min_pixel_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="final weight of the pixel loss, which falls from 1; the label loss has the rest; paper: 0",
    )
    border_power: float = Field(
        1.0, ge=0, description="a defect's pixel weighs (its depth / the greatest depth) to this power; 0: all alike"
    )
    positive_weight: float = Field(2.0, gt=0, description="times this")
    pixel_balance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="cross_entropy and focal: each of a class's n pixels weighs n^-this; 0: all alike, as in the paper",
    )
    # As with the classifier: the grey border of a shifted image would disturb the classification head.
    zoom: float = Field(0.0, ge=0, lt=1, description="largest change of scale, as a share")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift, as a share of the image")


class MultiTask(Segmenter):
    """Božič, Tabernik and Skočaj 2021, "Mixed supervision for surface-defect detection: From weakly to fully supervised
    learning", Computers in Industry.

    Kept: one network trained end to end, whose classification head takes the shared features and the segmentation map,
    with averages and maxima of both; no gradient flows from that head back through the map, so labels only shape the
    shared features; the weight moves from pixels to labels linearly over the training; pixels deep inside a defect
    weigh more than those at its uncertain border; images with a label but no mask contribute to the label loss.
    Deviations: a pretrained encoder, its first layers frozen, with U-Net's decoder to half the image size instead of a
    network of their own at an eighth; several classes; the pixel losses of `unet`; the learning rate, constant in the
    paper, falls at the end, when labels weigh most (`full_rate_until`); the weight of the pixels falls to a half and
    not to none, and classes are balanced among them, without which small defects are lost (`min_pixel_weight=0
    pixel_balance=0`: the paper's); images are sampled by `defect_share` and `class_balance` instead of good and
    defective ones equally, and the class probabilities are corrected for it.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="multitask",
        branch="classification",
        title="Multi-task network",
        paper="Božič et al. 2021, Mixed supervision for surface-defect detection, Computers in Industry",
        requires=("label",),
        answers=("what", "where", "how much"),
        optional=("mask",),
        summary="Segmentation and classification on one encoder; for many labelled images of which some have masks.",
        smoke={**SMOKE, "steps": 30, "width": 4, "class_weight": 2.0},
    )
    Options: ClassVar[type[MultiTaskOptions]] = MultiTaskOptions
    monitor: ClassVar[str | None] = "val_score"
    options: MultiTaskOptions
    network: EncoderDecoder
    temperature: Tensor
    prior_correction: Tensor

    def __init__(self, options: MultiTaskOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        deepest = self.network.encoder.channels[-1]
        self.head = ClassHead(deepest, self.layers, len(classes), options.head_width)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("prior_correction", torch.zeros(len(classes)))
        self.validation = Collector()

    def build(self) -> nn.Module:
        encoder = Encoder(self.options.backbone, self.options.weights, self.channels)
        if encoder.pretrained:
            freeze_stages(encoder.backbone, self.options.frozen_stride)
        return unet(encoder, self.layers, self.options.width, half=True)

    def before_training(self, dataset: Dataset) -> None:
        defective = [sample for sample in dataset.samples if sample.defective]
        # Without defects, synthetic ones with masks are made during training, which are a class then.
        if defective or len(self.classes) < 2:
            class_counts(dataset, dataset.classes)
        if defective and not any(has_mask(sample) for sample in defective):
            raise DataError(
                "multitask is trained on masks and labels, and no defective training image has a mask; "
                "add some, or use classifier"
            )

    def before_sampling(self, dataset: Dataset, weights: list[float]) -> None:
        self.prior_correction = prior_correction(dataset, self.classes, weights)

    def forward_heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the pixels (N, layers, H, W) and of the image (N, K)."""
        features = self.network.encoder(images)
        pixels = self.network.decode(features)
        return pixels, self.head(features[-1], pixels.detach())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pixels, image = self.forward_heads(images)
        image = image + self.prior_correction
        return {"class_scores": (image / self.temperature).softmax(dim=1), "mask_scores": self.probabilities(pixels)}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        batch, partner, share = self.mixed(batch, self.global_step)
        pixels, image = self.forward_heads(batch["image"])
        weight = self.border_weights(batch["mask"])
        by_pixel = self.pixel_loss(pixels, batch, weight)
        by_label = label_loss(image, batch["label"])
        if partner is not None:
            by_label = share * by_label + (1 - share) * label_loss(image, batch["label"][partner])
        pixel_weight = self.pixel_weight(self.global_step / self.options.steps)
        loss = pixel_weight * by_pixel + (1 - pixel_weight) * self.options.class_weight * by_label
        self.log_dict({"loss": loss, "pixels": by_pixel, "labels": by_label}, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        pixels, image = self.forward_heads(batch["image"])
        self.update_iou(self.probabilities(pixels), batch)
        self.validation.add(image.float() + self.prior_correction, batch["label"])

    def on_validation_epoch_end(self) -> None:
        """The metric that selects the best epoch, and the temperature (Guo et al. 2017) of the class probabilities."""
        image, labels = self.validation.gather()
        self.temperature.fill_(fit_temperature(image, labels))
        f1 = macro_f1(image, labels)
        score = torch.stack([f1, self.val_iou.compute()]).nanmean()  # of what the images for tuning define
        self.log_dict({"val_f1": f1, "val_score": score}, prog_bar=True)

    def pixel_weight(self, done: float) -> float:
        """Weight of the pixel loss when a share `done` of the training is over."""
        return 1 - (1 - self.options.min_pixel_weight) * min(1.0, done)

    def border_weights(self, masks: Tensor) -> Tensor:
        """(N, H, W) bool to the weight of each pixel, 1 where there is no defect."""
        weights = np.ones(masks.shape, np.float32)
        for mask, weight in zip(masks.cpu().numpy(), weights, strict=True):
            if mask.any():
                weight[mask] = self.options.positive_weight * depth(mask)[mask] ** self.options.border_power
        return torch.from_numpy(weights).to(masks.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.head.parameters()]


class ClassHead(nn.Module):
    """Image classes from the deepest features (N, C, h, w) and the pixels' logits (N, L, H, W): logits (N, K)."""

    def __init__(self, channels: int, layers: int, classes: int, width: int) -> None:
        super().__init__()
        self.joined = nn.Sequential(conv_block(channels + layers, width, 1), conv_block(width, width))
        self.last = nn.Linear(2 * (width + layers), classes)

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        peaks = F.max_pool2d(pixels, STRIDE)
        x = self.joined(torch.cat([features, peaks], dim=1))
        pooled: list[Any] = [f(m, dim=(2, 3)) for m in (x, pixels) for f in (torch.mean, torch.amax)]
        return self.last(torch.cat(pooled, dim=1))


def depth(mask: Mask) -> FloatMap:
    """Distance of each pixel of a mask (H, W) from the border, relative to the maximum of its 8-connected region."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    inside = cv2.distanceTransform(pixels, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    count, labels = cv2.connectedComponents(pixels, connectivity=8)
    greatest = np.full(count, 1e-6, np.float32)
    np.maximum.at(greatest, np.asarray(labels, np.int64).ravel(), inside.ravel())
    return np.asarray(inside / greatest[labels], np.float32)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K) over the images whose label (N,) is known, that is, not negative."""
    known = labels >= 0
    return F.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0
