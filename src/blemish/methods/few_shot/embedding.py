"""What few-shot methods share: an embedding of images, episodes drawn from batches, walks over labelled images."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, Item, Method
from blemish.methods.classification.class_balance import class_balanced_weights, class_counts
from blemish.methods.classification.classifier import keep_labels
from blemish.methods.common.augmentation import UNCHANGED, AugmentationOptions, augment
from blemish.methods.common.backbones import DEFAULT_BACKBONE, freeze_batchnorm, load_backbone

# Options with which a few-shot method learns something from a handful of small images within seconds.
SMOKE: dict[str, Any] = {
    **UNCHANGED, "backbone": "test_resnet", "weights": "random", "strides": (4, 8), "batch_size": 12,
    "learning_rate": 5e-3,
}  # fmt: skip


class FewShotOptions(AugmentationOptions):
    image_size: int = Field(128, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(40, ge=4, description="images in a batch, of which an episode is made")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the embedding network")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="feature maps whose means are embedded")
    ways: int = Field(5, ge=2, description="classes in an episode, or as many as the batch has")
    shots: int = Field(5, ge=1, description="images of a class in an episode to learn from, or half of what there are")
    steps: int = Field(150, ge=1, description="training steps, one episode each")
    learning_rate: float = Field(5e-5, gt=0, description="of Adam on the embedding network")


class Embedding(nn.Module):
    """Images to (N, E): the means of feature maps, each stride's brought to length 1 so that none drowns the others."""

    def __init__(self, options: FewShotOptions, channels: int) -> None:
        super().__init__()
        self.backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.size = sum(self.backbone.channels)
        self.train()  # Lightning leaves modules in the mode that it finds them in

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([F.normalize(maps.mean(dim=(2, 3)), dim=1) for maps in self.backbone(images)], dim=1)

    def train(self, mode: bool = True) -> "Embedding":
        super().train(mode)
        freeze_batchnorm(self)  # episodes are too small to measure means and deviations by
        return self


@dataclass(frozen=True)
class BatchEpisode:
    """Indices into a batch, and labels 0..ways-1: what is learnt from and what is asked."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    ways: int


def sample_episode(labels: Tensor, ways: int, shots: int) -> BatchEpisode | None:
    """Up to `ways` classes of a batch with two images or more, up to `shots` of each to learn from, the rest to ask.

    Never more than half of a class is learnt from. None where fewer than two classes have two images.
    """
    present, counts = labels[labels >= 0].unique(return_counts=True)
    able = present[counts >= 2]
    if len(able) < 2:
        return None
    chosen = able[torch.randperm(len(able), device=able.device)[:ways]]
    support, query, known, asked = [], [], [], []
    for number, name in enumerate(chosen):
        own = (labels == name).nonzero()[:, 0]
        own = own[torch.randperm(len(own), device=own.device)]
        count = min(shots, max(1, len(own) // 2))
        support.append(own[:count])
        query.append(own[count:])
        known += [number] * count
        asked += [number] * (len(own) - count)
    device = labels.device
    return BatchEpisode(
        torch.cat(support),
        torch.tensor(known, device=device),
        torch.cat(query),
        torch.tensor(asked, device=device),
        len(chosen),
    )


class FewShotMethod(Method):
    """Learns by episodes of one batch each; classes are drawn equally often, images with replacement."""

    options: FewShotOptions

    def before_training(self, dataset: Dataset) -> None:
        class_counts(dataset, self.classes)

    def train_transform(self) -> Callable[[Item], Item]:
        options = self.options
        return lambda item: keep_labels(augment(keep_labels(item), options))

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        return class_balanced_weights(dataset, self.classes)

    def trainer_options(self) -> dict[str, int]:
        return {"max_steps": self.options.steps}

    def labelled_batches(self) -> Iterator[Batch]:
        """All training images of known class once, in order, as they are."""
        source = self.trainer.train_dataloader
        items = copy.copy(source.dataset)
        items.transform = None
        seen = 0
        for batch in DataLoader(items, batch_size=source.batch_size, collate_fn=source.collate_fn):
            keep = batch["label"] >= 0
            seen += int(keep.sum())
            if keep.any():
                images, labels = batch["image"][keep].to(self.device), batch["label"][keep].to(self.device)
                yield {"image": images, "label": labels}
        if not seen:
            raise DataError("no training image has a known class")
