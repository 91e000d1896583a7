"""Base of the segmentation methods: options, sampling of images and crops, loss, optimiser, outputs."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from pydantic import Field, field_validator
from torch import Tensor, nn

from blemish.dataset.sample import Dataset
from blemish.errors import OptionError
from blemish.methods.base import Batch, Item, Method, ignored_when, pad_to_two
from blemish.methods.common.augmentation import AugmentationOptions, augment
from blemish.methods.common.backbones import DEFAULT_BACKBONE
from blemish.methods.common.blocks import check_multiple
from blemish.methods.common.ema import AveragedWeights
from blemish.methods.common.metric_losses import metric_loss
from blemish.methods.common.mixup import cutmix_pixels
from blemish.methods.common.schedule import plateau_cosine
from blemish.methods.common.small_sets import SmallSetOptions
from blemish.methods.segmentation.best_iou import BestIoU
from blemish.methods.segmentation.losses import LossName, combined_loss, one_hot
from blemish.methods.segmentation.networks import PLAIN, last_layer
from blemish.methods.segmentation.sampling import balanced_weights, random_crop, sample_pixels

WARMUP = 0.05  # share of the steps in which the learning rate rises
DECAY = 1e-4
MAX_PIXELS = 64  # of a class in a batch, whose features the embedding loss compares

# Options with which a segmenter learns something from a handful of small images within seconds.
SMOKE: dict[str, Any] = {"backbone": "test_resnet", "weights": "random", "learning_rate": 1e-2, "backbone_rate": 1.0}


class SegmenterOptions(AugmentationOptions, SmallSetOptions):
    few: ClassVar[dict[str, Any]] = {
        "backbone_rate": 0.05, "contrast": 0.3, "noise": 0.02, "embedding_loss": "supervised-contrastive",
        "dropout": 0.2, "cutmix": 1.0, "average": 0.99,
    }  # fmt: skip

    image_size: int = Field(224, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(8, ge=1, description="images in a training batch")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the encoder")
    weights: str = Field("auto", description="the encoder's: auto, embedded, imagenet, random, or a local weights file")
    steps: int = Field(1200, ge=1, description="training steps")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, for what is not pretrained")
    full_rate_until: float = Field(
        0.667, ge=0, le=1, description="share of the steps after which the learning rates fall, along a cosine"
    )
    backbone_rate: float = Field(
        0.3,
        ge=0,
        le=1,
        description="the encoder's learning rate, as a share; 0 freezes it",
        json_schema_extra=ignored_when("backbone", PLAIN),
    )
    loss: dict[LossName, float] = Field(
        {"cross_entropy": 1.0, "dice": 1.0},
        description="weights of the losses that are added: cross_entropy, focal, dice, tversky, boundary; or one name",
    )
    pixel_balance: float = Field(
        0.5, ge=0, le=1, description="cross_entropy and focal: each of a class's n pixels weighs n^-this; 0: all alike"
    )
    defect_share: float | None = Field(
        0.5, gt=0, le=1, description="share of defective images among the sampled ones; null: each image once per epoch"
    )
    class_balance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="among the defective ones, 0 samples each image equally often, 1 each class, 0.5 half-way",
        json_schema_extra=ignored_when("defect_share", None),
    )
    crop: int | None = Field(
        None,
        ge=32,
        description="train on square crops of this side, in px of image_size; null: whole images",
    )
    crop_on_defect: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the crops that contain a defect pixel",
        json_schema_extra=ignored_when("crop", None),
    )
    embedding_weight: float = Field(
        0.1, ge=0, description="weight of the embedding loss", json_schema_extra=ignored_when("embedding_loss", "none")
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the features before the last layer dropped")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix, of images and masks, in every other step; 0: none")

    @field_validator("loss", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {value: 1.0} if isinstance(value, str) else value

    @field_validator("loss")
    @classmethod
    def _some(cls, value: dict[LossName, float]) -> dict[LossName, float]:
        if any(weight < 0 for weight in value.values()) or not any(value.values()):
            raise ValueError("name at least one loss, with a weight above 0")
        return value


class Segmenter(Method):
    """A network that gives each pixel a probability of each defect class.

    A subclass builds the network in `build`. Sampling of images keeps good ones from outweighing defective ones, and
    frequent classes from outweighing rare ones; pixels of large defects weigh less each than those of small ones. A
    pixel has one class; where masks of several overlap, the last. Pixels of unknown class are ignored.
    """

    Options: ClassVar[type[SegmenterOptions]] = SegmenterOptions
    monitor: ClassVar[str | None] = "val_iou"
    exclusive_classes: ClassVar[bool] = True
    options: SegmenterOptions

    def __init__(self, options: SegmenterOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        check_multiple(options.image_size, 32)
        if options.crop is not None:
            check_multiple(options.crop, 32)
            if options.crop > options.image_size:
                raise OptionError(f"crop={options.crop} is larger than image_size={options.image_size}")
        self.layers = 1 + len(self.defect_classes)  # the background first
        self.network = self.build()
        self.val_iou = BestIoU()
        last = last_layer(self.network)
        if options.embedding_loss != "none":
            self.embedding_loss = metric_loss(options.embedding_loss, 1 + len(self.defect_classes), last.in_channels)
            last.register_forward_pre_hook(self._keep_features)
        if options.dropout:
            last.register_forward_pre_hook(self._drop_channels)
        self._features: Tensor | None = None  # of each pixel, the input of the last layer

    @abstractmethod
    def build(self) -> nn.Module:
        """A network from images (N, C, H, W) to logits (N, layers, H, W)."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"mask_scores": self.probabilities(self.network(images))}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of the defect classes (N, D, H, W) from logits (N, layers, H, W)."""
        return logits.softmax(dim=1)[:, 1:]

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        batch, _, _ = self.mixed(batch, self.global_step)
        loss = self.pixel_loss(self.network(batch["image"]), batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def mixed(self, batch: Batch, step: int) -> tuple[Batch, Tensor | None, float]:
        """In every other step, CutMix of images and masks: indices of the partners, and the images' own share."""
        batch = pad_to_two(batch)
        if not self.options.cutmix or step % 2 == 0:
            return batch, None, 1.0
        return cutmix_pixels(batch, self.options.cutmix)

    def pixel_loss(self, logits: Tensor, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """The losses named in the options; `weight` (N, H, W) is a further weight of the valid pixels."""
        weights = (batch["valid"] & batch["has_mask"][:, None, None]).float()
        if weight is not None:
            weights = weights * weight
        options = self.options
        loss = combined_loss(logits, self.target(batch), weights[:, None], options.loss, options.pixel_balance)
        if self._features is not None:
            features, self._features = self._features, None
            loss = loss + options.embedding_weight * self.pixel_embedding_loss(
                features, batch["mask_labels"], weights > 0
            )
        return loss

    def pixel_embedding_loss(self, features: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        """Embedding loss of sampled pixels: features (N, E, h, w), labels (N, H, W) int64, keep (N, H, W) bool."""
        vectors, classes = sample_pixels(features, labels, keep, MAX_PIXELS)
        return self.embedding_loss(vectors.float(), classes) if len(classes) else features.sum() * 0

    def _keep_features(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        if self.training:
            self._features = inputs[0]

    def _drop_channels(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Dropout of whole channels, since neighbouring pixels are correlated (Tompson et al. 2015)."""
        return (F.dropout2d(inputs[0], self.options.dropout, self.training),)

    def target(self, batch: Batch) -> Tensor:
        """Layers (N, layers, H, W) of 0 and 1."""
        return one_hot(batch["mask_labels"], len(self.defect_classes))

    def validation_step(self, batch: Batch, index: int) -> None:
        self.update_iou(self.probabilities(self.network(batch["image"])), batch)

    def update_iou(self, scores: Tensor, batch: Batch) -> None:
        """Validation IoU of all defects together, from probabilities (N, D, H, W)."""
        known = batch["valid"] & batch["has_mask"][:, None, None]
        self.val_iou.update(scores.sum(dim=1)[known], batch["mask"][known])
        self.log("val_iou", self.val_iou, on_epoch=True, prog_bar=True, batch_size=len(scores))

    def configure_optimizers(self) -> Any:
        return plateau_cosine(self.optimizer(), self.options.steps, WARMUP, self.options.full_rate_until)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, with a smaller learning rate for the pretrained encoder."""
        rate = self.options.learning_rate
        encoder = getattr(self.network, "encoder", None)
        pretrained = list(encoder.backbone.parameters()) if encoder is not None and encoder.pretrained else []
        known = {id(parameter) for parameter in pretrained}
        fresh = [parameter for parameter in self.trained_parameters() if id(parameter) not in known]
        if self.options.embedding_loss != "none":
            fresh += self.embedding_loss.parameters()
        slow: dict[str, Any] = {"params": pretrained, "lr": rate * self.options.backbone_rate}
        return torch.optim.AdamW([slow, {"params": fresh}], lr=rate, weight_decay=DECAY)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters of the optimiser."""
        return list(self.network.parameters())

    def configure_callbacks(self) -> list[Callback]:
        return [AveragedWeights(self.options.average)] if self.options.average else []

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.steps}

    def train_transform(self) -> Callable[[Item], Item]:
        options = self.options

        def transform(item: Item) -> Item:
            item = augment(item, options)
            return item if options.crop is None else random_crop(item, options.crop, options.crop_on_defect)

        return transform

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        if self.options.defect_share is None:
            return None
        return balanced_weights(dataset, self.options.defect_share, self.options.class_balance)
