"""The base of all detectors: options, the training loop, averaged weights, and the form of the graph that ships."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import timm
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import DataError
from blemish.methods.base import Batch, Item, Method, ignored_when, pad_to_two
from blemish.methods.common.augmentation import UNCHANGED, AugmentationOptions, augment, iou_crop
from blemish.methods.common.backbones import DEFAULT_BACKBONE
from blemish.methods.common.ema import AveragedWeights
from blemish.methods.common.schedule import plateau_cosine, training_batches
from blemish.methods.detection.anchors import AnchorGenerator
from blemish.methods.detection.boxes import centres_and_sizes, clip_boxes
from blemish.methods.detection.matching import is_valid_at
from blemish.methods.detection.mosaic import make_mosaics
from blemish.methods.detection.suppression import Suppression, SuppressionKind, suppress

WARMUP = 0.05  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 1e-2
MAX_GRADIENT_NORM = 10.0
PER_BOX = ("boxes", "box_masks")  # entries of a batch with one row a box
# Boxes of an image that take part in suppression; the soft kind compares all pairs.
CANDIDATES: dict[SuppressionKind, int] = {"hard": 1000, "soft": 400}

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


def suppression_iou_option(default: float) -> Any:
    """The option `suppression_iou`, whose usual value differs between papers."""
    return Field(
        default,
        gt=0,
        lt=1,
        description="boxes of a class that overlap by more are one defect",
        json_schema_extra=ignored_when("suppression", "soft"),
    )


class DetectorOptions(AugmentationOptions):
    """Options that all detectors share."""

    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the feature network")
    weights: str = Field("auto", description="of the backbone: auto, embedded, imagenet, random, or a local file")
    frozen_stride: int = Field(4, ge=0, le=32, description="pretrained layers up to this stride are frozen; 0: none")
    width: int = Field(96, ge=8, le=1024, description="channels of the feature maps that the heads see")
    steps: int = Field(1500, ge=1, description="training steps, each of one batch")
    learning_rate: float = Field(
        1e-3, gt=0, description="of AdamW, for layers that are not pretrained; falls along a cosine"
    )
    full_rate_until: float = Field(0.5, ge=0, lt=1, description="share of the steps before the rate begins to fall")
    backbone_rate: float = Field(0.3, ge=0, le=1, description="the backbone's learning rate, as a share")
    average: float = Field(
        0.998, ge=0, lt=1, description="decay of the averaged weights that ship; 0: the last weights ship"
    )
    crop: float = Field(0.0, ge=0, le=1, description="share of training images randomly cropped, as in SSD")
    canvas: float = Field(
        1.0,
        ge=1,
        le=8,
        description="largest side, in image sides, of the grey canvas that half of the images are put on",
    )
    mosaic: float = Field(0.0, ge=0, le=1, description="share of training images that are mosaics of four")
    calm_end: float = Field(
        0.2,
        ge=0,
        le=1,
        description="final share of the steps without mosaics",
        json_schema_extra=ignored_when("mosaic", 0.0),
    )
    suppression: SuppressionKind = Field(
        "hard", description="of overlapping boxes: hard keeps the best, soft lowers the scores of the others"
    )
    suppression_iou: float = suppression_iou_option(0.5)
    min_score: float = Field(0.01, ge=0, lt=1, description="boxes that score less are left out")
    max_boxes: int = Field(100, ge=1, le=1000, description="largest number of boxes in the output of an image")


class Detector(Method):
    """A network that detects defects as boxes, each with a score and a defect class.

    A subclass builds itself, predicts boxes and scores in `predict`, and computes its losses in `compute_losses`.
    Images whose boxes are not annotated are left out of training; good images are all background. Outside the valid
    pixels (region of interest, ignore masks, defects of unknown class) there is no background, and boxes whose centre
    is there are left out.
    """

    Options: ClassVar[type[DetectorOptions]] = DetectorOptions
    options: DetectorOptions
    anchors: AnchorGenerator  # of detectors with anchors

    def __init__(self, options: DetectorOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.num_classes = max(1, len(self.defect_classes))
        self.suppression = Suppression(
            kind=options.suppression,
            iou=options.suppression_iou,
            candidates=CANDIDATES[options.suppression],
            max_boxes=options.max_boxes,
            min_score=options.min_score,
        )

    @abstractmethod
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, K, 4), or (N, K, C, 4) with boxes of each class, and scores (N, K, C), before suppression."""

    @abstractmethod
    def compute_losses(self, batch: Batch) -> Losses:
        """Losses by name, to be added; "boxes" of the batch holds boxes (M, 5), x0 y0 x1 y1 and class, an image."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        boxes, scores = self.predict(images)
        return suppress(clip_boxes(boxes, images), scores, self.suppression)

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        batch = drop_invalid_boxes(select_annotated(batch))
        if not len(batch["image"]):
            return None
        batch = pad_to_two(batch)
        if self.options.mosaic and self.global_step < (1 - self.options.calm_end) * self.options.steps:
            batch = make_mosaics(batch, self.options.mosaic)
        # Channels last halves the time on a CPU.
        losses = self.compute_losses({**batch, "image": batch["image"].contiguous(memory_format=torch.channels_last)})
        loss = torch.stack(list(losses.values())).sum()
        self.log_dict(losses)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        options = self.options
        pretrained = set()
        if options.weights != "random" and timm.is_model(options.backbone):  # else it is trained from scratch
            pretrained = {id(p) for name, p in self.named_parameters() if ".backbone." in name}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                rate = options.learning_rate * (options.backbone_rate if id(parameter) in pretrained else 1.0)
                groups.setdefault((rate, WEIGHT_DECAY if parameter.dim() > 1 else 0.0), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
        )
        return plateau_cosine(optimizer, options.steps, WARMUP, options.full_rate_until)

    def configure_callbacks(self) -> list[Callback]:
        return [AveragedWeights(self.options.average)] if self.options.average else []

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps, "gradient_clip_val": MAX_GRADIENT_NORM}

    def train_transform(self) -> Callable[[Item], Item]:
        options = self.options
        if options.crop or options.canvas > 1:
            return lambda item: augment(iou_crop(item, options.crop, options.canvas), options)
        return lambda item: augment(item, options)

    def on_train_start(self) -> None:
        if getattr(self.options, "anchors", "stated") == "fitted" and self.global_step == 0:
            self.fit_anchors()

    def fit_anchors(self) -> None:
        """Fit the anchors to the sizes of the training boxes as the network sees them: tiled, cropped and augmented."""
        boxes = torch.cat([torch.cat(batch["boxes"]) for batch in map(drop_invalid_boxes, training_batches(self))])
        if not len(boxes):
            raise DataError("no training image has a box to fit anchors to")
        self.anchors.fit((boxes[:, 2:4] - boxes[:, :2]).double().cpu().numpy())


def select_annotated(batch: Batch) -> Batch:
    """The batch without images whose boxes are not annotated."""
    keep = batch["has_boxes"].nonzero().squeeze(1).tolist()
    if len(keep) == len(batch["image"]):
        return batch
    return {key: [value[i] for i in keep] if isinstance(value, list) else value[keep] for key, value in batch.items()}


def drop_invalid_boxes(batch: Batch) -> Batch:
    """The batch without boxes whose centre is outside the valid pixels."""
    keep = [
        is_valid_at(centres_and_sizes(boxes[:, :4])[0], valid)
        for boxes, valid in zip(batch["boxes"], batch["valid"], strict=True)
    ]
    rows = {key: [own[k] for own, k in zip(batch[key], keep, strict=True)] for key in PER_BOX if key in batch}
    return {**batch, **rows}
