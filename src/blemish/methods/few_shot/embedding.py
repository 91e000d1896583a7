"""Base of the few-shot methods: image embedding, episodes sampled from batches, passes over the labelled images."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, Item, Method
from blemish.methods.classification.class_balance import class_balanced_weights, class_counts
from blemish.methods.classification.classifier import keep_labels
from blemish.methods.common.augmentation import UNCHANGED, AugmentationOptions, augment
from blemish.methods.common.backbones import FeatureOptions, freeze_batchnorm, load_backbone

# Options with which a few-shot method can be trained from a handful of small images within seconds.
SMOKE: dict[str, Any] = {
    **UNCHANGED, "backbone": "test_resnet", "weights": "random", "strides": (4, 8), "batch_size": 12,
    "learning_rate": 5e-3,
}  # fmt: skip


class FewShotOptions(AugmentationOptions, FeatureOptions):
    image_size: int = Field(128, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(40, ge=4, description="images in a batch, of which an episode is made")
    strides: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="feature maps whose means are embedded")
    ways: int = Field(5, ge=2, description="classes in an episode, or as many as the batch has")
    shots: int = Field(5, ge=1, description="support images of a class in an episode, or half of those available")
    steps: int = Field(150, ge=1, description="training steps, one episode each")
    learning_rate: float = Field(5e-5, gt=0, description="of Adam on the embedding network")


class Embedding(nn.Module):
    """Images to embeddings (N, E): the means of feature maps, those of each stride normalised to unit length."""

    def __init__(self, options: FewShotOptions, channels: int) -> None:
        super().__init__()
        self.backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.size = sum(self.backbone.channels)
        self.train()  # Lightning keeps the mode that a module has

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([F.normalize(maps.mean(dim=(2, 3)), dim=1) for maps in self.backbone(images)], dim=1)

    def train(self, mode: bool = True) -> "Embedding":
        super().train(mode)
        freeze_batchnorm(self)  # episodes are too small to estimate statistics
        return self


@dataclass(frozen=True)
class BatchEpisode:
    """Support and query images of an episode: indices into a batch, and labels 0..ways-1."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    ways: int


def sample_episode(labels: Tensor, ways: int, shots: int) -> BatchEpisode | None:
    """Up to `ways` classes of a batch with two or more images: up to `shots` support images of each, the rest queries.

    At most half of a class's images are support. None where fewer than two classes have two images.
    """
    present, counts = labels[labels >= 0].unique(return_counts=True)
    eligible = present[counts >= 2]
    if len(eligible) < 2:
        return None
    chosen = eligible[torch.randperm(len(eligible), device=eligible.device)[:ways]]
    support, query, support_labels, query_labels = [], [], [], []
    for number, name in enumerate(chosen):
        own = (labels == name).nonzero()[:, 0]
        own = own[torch.randperm(len(own), device=own.device)]
        count = min(shots, max(1, len(own) // 2))
        support.append(own[:count])
        query.append(own[count:])
        support_labels += [number] * count
        query_labels += [number] * (len(own) - count)
    device = labels.device
    return BatchEpisode(
        torch.cat(support),
        torch.tensor(support_labels, device=device),
        torch.cat(query),
        torch.tensor(query_labels, device=device),
        len(chosen),
    )


class FewShotMethod(Method):
    """Trained on episodes of one batch each; classes are sampled equally often, images with replacement."""

    options: FewShotOptions
    embedding: Embedding

    @abstractmethod
    def episode_log_probabilities(self, images: Tensor, episode: BatchEpisode) -> Tensor:
        """Log-probabilities (Q, ways) of the episode's query images, from its support; images are the batch's."""

    def training_step(self, batch: Batch, index: int) -> Tensor:
        episode = sample_episode(batch["label"], self.options.ways, self.options.shots)
        if episode is None:
            return self.embedding(batch["image"][:1]).sum() * 0
        log_probabilities = self.episode_log_probabilities(batch["image"], episode)
        loss = F.nll_loss(log_probabilities, episode.query_labels)
        accuracy = (log_probabilities.argmax(dim=1) == episode.query_labels).float().mean()
        self.log_dict({"loss": loss, "episode_accuracy": accuracy}, prog_bar=True)
        return loss

    def before_training(self, dataset: Dataset) -> None:
        class_counts(dataset, self.classes)

    def train_transform(self) -> Callable[[Item], Item]:
        options = self.options
        return lambda item: keep_labels(augment(keep_labels(item), options))

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        return class_balanced_weights(dataset, self.classes)

    def trainer_options(self) -> dict[str, int]:
        return {"max_steps": self.options.steps}

    @staticmethod
    def labelled_batches(batches: Iterable[Batch]) -> Iterator[Batch]:
        """The images of known class; DataError where there is none."""
        count = 0
        for batch in batches:
            keep = batch["label"] >= 0
            count += int(keep.sum())
            if keep.any():
                yield {"image": batch["image"][keep], "label": batch["label"][keep]}
        if not count:
            raise DataError("no training image has a known class")
