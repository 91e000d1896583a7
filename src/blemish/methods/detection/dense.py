"""One-stage detectors: classes and boxes predicted at every anchor or location of every level, in one training loop."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from blemish.methods.base import Batch
from blemish.methods.detection.boxes import centres_and_sizes, decode_boxes
from blemish.methods.detection.detector import Detector, Losses
from blemish.methods.detection.losses import BoxLoss, box_loss
from blemish.methods.detection.matching import gather_targets, ignore_invalid, match_boxes

NONE = torch.empty(0)


@dataclass(frozen=True)
class DensePredictions:
    """Raw predictions for N images at K anchors, or at K locations without anchors."""

    logits: Tensor  # (N, K, C) of the classes, or (N, K, 1 + C) with background or objectness first
    boxes: Tensor  # (N, K, 4) boxes in pixels, or offsets to the anchors where there are such
    locations: Tensor  # (K, 2) centres of the anchors, or the locations
    references: Tensor  # (K, 4) anchors, or (K,) strides of the locations' levels
    centreness: Tensor = NONE  # (N, K) logits, where they are predicted


class DenseDetector(Detector):
    """A detector whose training assigns a box, the background or nothing to every anchor or location."""

    @abstractmethod
    def predict_dense(self, images: Tensor) -> DensePredictions:
        """Predictions for images (N, C, H, W)."""

    @abstractmethod
    def assign(self, predictions: DensePredictions, image: int, targets: Tensor) -> Tensor:
        """Index (K,) of the box of one image's targets (M, 5) assigned to each location, else BACKGROUND or IGNORED."""

    @abstractmethod
    def assigned_losses(self, predictions: DensePredictions, matches: Tensor, labels: Tensor, boxes: Tensor) -> Losses:
        """Losses by name, given matches (N, K), their classes (N, K), -1 where there is none, and boxes (N, K, 4)."""

    def compute_losses(self, batch: Batch) -> Losses:
        predictions = self.predict_dense(batch["image"])
        matches = torch.stack([self.assign(predictions, i, targets) for i, targets in enumerate(batch["boxes"])])
        matches = ignore_invalid(matches, predictions.locations, batch["valid"])
        return self.assigned_losses(predictions, matches, *gather_targets(matches, batch["boxes"]))


class AnchorDetector(DenseDetector):
    """A one-stage detector with anchors: `features`, `anchors`, `head` and `box_loss` are set by the subclass."""

    features: nn.Module
    head: nn.Module  # maps to logits (N, K, C) and offsets (N, K, 4)
    box_loss: BoxLoss
    variances: ClassVar[tuple[float, float]] = (1.0, 1.0)
    match_ious: ClassVar[tuple[float, float]]  # from the first an anchor is positive, below the second background

    @abstractmethod
    def class_scores(self, logits: Tensor) -> Tensor:
        """Probabilities (N, K, C) of the defect classes."""

    @abstractmethod
    def class_loss(self, logits: Tensor, labels: Tensor, matches: Tensor) -> Tensor:
        """The sum of the class losses, given classes (N, K), -1 where there is none, and matches (N, K)."""

    def predict_dense(self, images: Tensor) -> DensePredictions:
        maps = self.features(images)
        anchors = self.anchors(maps)
        logits, offsets = self.head(maps)
        return DensePredictions(logits, offsets, centres_and_sizes(anchors)[0], anchors)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        predictions = self.predict_dense(images)
        return decode_boxes(predictions.boxes, predictions.references, self.variances), self.class_scores(
            predictions.logits
        )

    def assign(self, predictions: DensePredictions, image: int, targets: Tensor) -> Tensor:
        return match_boxes(predictions.references, targets[:, :4], *self.match_ious)

    def assigned_losses(self, predictions: DensePredictions, matches: Tensor, labels: Tensor, boxes: Tensor) -> Losses:
        positive = matches >= 0
        count = positive.sum().clamp(min=1)
        anchors = predictions.references.expand(len(matches), -1, -1)[positive]
        box = box_loss(self.box_loss, predictions.boxes[positive], anchors, boxes[positive], self.variances)
        return {
            "class_loss": self.class_loss(predictions.logits, labels, matches) / count,
            "box_loss": box.sum() / count,
        }
