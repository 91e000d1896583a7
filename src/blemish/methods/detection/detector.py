"""What all detectors share: options, the training loop, averaged weights, and the form of the graph that ships."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import timm
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import DataError
from blemish.methods.base import Batch, Item, Method, at_least_two, ignored_when
from blemish.methods.common.augmentation import UNCHANGED, Augmentation, augmented, cut_out
from blemish.methods.common.backbones import DEFAULT_BACKBONE
from blemish.methods.common.ema import AveragedWeights
from blemish.methods.common.schedule import held_cosine, training_batches
from blemish.methods.detection.boxes import centres_and_sizes
from blemish.methods.detection.matching import counted
from blemish.methods.detection.mosaic import mosaic
from blemish.methods.detection.suppression import Kind, Suppression, detections

WARMUP = 0.05  # share of the steps in which the learning rate rises
DECAY = 1e-2
CLIP = 10.0  # largest norm of the gradient
BOXED = ("boxes", "box_masks")  # what a batch has an entry of for each box
CANDIDATES: dict[Kind, int] = {"hard": 1000, "soft": 400}  # boxes of an image that take part; soft compares all pairs

Losses = dict[str, Tensor]
# Options with which a detector learns something from a handful of small images within seconds.
SMOKE: dict[str, Any] = {
    **UNCHANGED, "backbone": "test_resnet", "weights": "random", "learning_rate": 1e-2, "backbone_rate": 1.0,
    "batch_size": 8, "steps": 40, "width": 16, "average": 0.8,
    "min_score": 1e-6,  # scores of 1e-40 are no detections: not every processor keeps such numbers
}  # fmt: skip
# Anchors of 12 and 24 px on the finest level: the defects are as small as that.
SMOKE_ANCHORS = {**SMOKE, "steps": 60, "scales": (1.5, 3.0)}
SMOKE_REGIONS = {**SMOKE_ANCHORS, "hidden": 32, "proposals": 20, "sampled": 32, "positive_share": 0.5}


def overlap_option(usual: float) -> Any:
    """The option `suppression_iou`, of which papers differ in what is usual."""
    return Field(
        usual,
        gt=0,
        lt=1,
        description="boxes of a class that overlap by more are one defect",
        json_schema_extra=ignored_when("suppression", "soft"),
    )


class DetectorOptions(Augmentation):
    image_size: int = Field(256, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(16, ge=1, description="images in a training batch")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the network whose features are used")
    weights: str = Field("auto", description="of the backbone: auto, embedded, imagenet, random, or a local file")
    frozen_stride: int = Field(4, ge=0, le=32, description="pretrained layers to this stride stay as they are; 0: none")
    width: int = Field(96, ge=8, le=1024, description="channels of the feature maps that the heads see")
    steps: int = Field(1500, ge=1, description="training steps, each of one batch")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, for what is not pretrained; falls along a cosine")
    full_rate_until: float = Field(0.5, ge=0, lt=1, description="share of the steps before the rate begins to fall")
    backbone_rate: float = Field(0.3, ge=0, le=1, description="the backbone's learning rate, as a share")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights that ship; 0: the last ones")
    crop: float = Field(0.0, ge=0, le=1, description="share of training images cut to a random part, as SSD's are")
    canvas: float = Field(
        1.0, ge=1, le=8, description="longest sides, in its own, of the grey canvas that half of the images are laid on"
    )
    mosaic: float = Field(0.0, ge=0, le=1, description="share of training images put together from four")
    calm_end: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of the steps, the last, without mosaics",
        json_schema_extra=ignored_when("mosaic", 0.0),
    )
    suppression: Kind = Field("hard", description="boxes on one defect: hard keeps the best, soft lowers the others")
    suppression_iou: float = overlap_option(0.5)
    min_score: float = Field(0.01, ge=0, lt=1, description="boxes that score less are not given at all")
    max_boxes: int = Field(100, ge=1, le=1000, description="most boxes that are given of an image")


class Detector(Method):
    """A network that gives boxes, each with a score and a defect class.

    A subclass builds itself, gives raw boxes and scores in `raw`, and its losses in `losses`. Images of which no boxes
    are known count for nothing; good images are all background. Where pixels do not count, outside the region of
    interest or ignored, boxes with their centre there are not learnt, and nothing there is background.
    """

    Options: ClassVar[type[DetectorOptions]] = DetectorOptions
    options: DetectorOptions

    def __init__(self, options: DetectorOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.kinds = max(1, len(self.defect_classes))
        self.suppression = Suppression(
            kind=options.suppression,
            iou=options.suppression_iou,
            candidates=CANDIDATES[options.suppression],
            most=options.max_boxes,
            min_score=options.min_score,
        )

    @abstractmethod
    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, K, 4), or (N, K, C, 4) where each class has its own, and scores (N, K, C)."""

    @abstractmethod
    def losses(self, images: Tensor, truth: list[Tensor], batch: Batch) -> Losses:
        """Losses by name, to be added; `truth` holds boxes (M, 5), x0 y0 x1 y1 and class, of each image."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        boxes, scores = self.raw(images)
        return detections(boxes, scores, self.suppression)

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        batch = with_counted_boxes(with_known_boxes(batch))
        if not len(batch["image"]):
            return None
        batch = at_least_two(batch)
        if self.options.mosaic and self.global_step < (1 - self.options.calm_end) * self.options.steps:
            batch = mosaic(batch, self.options.mosaic)
        images = batch["image"].contiguous(memory_format=torch.channels_last)  # half the time on a CPU
        parts = self.losses(images, batch["boxes"], batch)
        loss = torch.stack(list(parts.values())).sum()
        self.log_dict(parts)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options
        pretrained = set()
        if options.weights != "random" and timm.is_model(options.backbone):  # else it begins from nothing
            pretrained = {id(p) for name, p in self.named_parameters() if ".backbone." in name}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                rate = options.learning_rate * (options.backbone_rate if id(parameter) in pretrained else 1.0)
                groups.setdefault((rate, DECAY if parameter.dim() > 1 else 0.0), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]
        )
        return held_cosine(optimizer, options.steps, WARMUP, options.full_rate_until)

    def configure_callbacks(self) -> list[Callback]:
        return [AveragedWeights(self.options.average)] if self.options.average else []

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps, "gradient_clip_val": CLIP}

    def augment(self) -> Callable[[Item], Item]:
        options = self.options
        if options.crop or options.canvas > 1:
            return lambda item: augmented(cut_out(item, options.crop, options.canvas), options)
        return lambda item: augmented(item, options)

    def fit_anchors(self) -> None:
        """To the sizes of the training boxes as the network sees them, tiled, cropped and augmented."""
        boxes = torch.cat([torch.cat(batch["boxes"]) for batch in map(with_counted_boxes, training_batches(self))])
        if not len(boxes):
            raise DataError("no training image has a box to fit anchors to")
        self.anchors.fit((boxes[:, 2:4] - boxes[:, :2]).double().cpu().numpy())

    def on_train_start(self) -> None:
        if getattr(self.options, "anchors", "stated") == "fitted" and self.global_step == 0:
            self.fit_anchors()


def with_known_boxes(batch: Batch) -> Batch:
    """The batch without images of which no boxes are known."""
    keep = batch["has_boxes"].nonzero().squeeze(1).tolist()
    if len(keep) == len(batch["image"]):
        return batch
    return {key: [value[i] for i in keep] if isinstance(value, list) else value[keep] for key, value in batch.items()}


def with_counted_boxes(batch: Batch) -> Batch:
    """The batch without boxes whose centre lies on pixels that do not count."""
    keep = [
        counted(centres_and_sizes(boxes)[0], valid) for boxes, valid in zip(batch["boxes"], batch["valid"], strict=True)
    ]
    lists = {key: [own[k] for own, k in zip(batch[key], keep, strict=True)] for key in BOXED if key in batch}
    return {**batch, **lists}
