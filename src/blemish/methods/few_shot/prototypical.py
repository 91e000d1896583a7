"""Prototypical network: a class is the mean embedding of its images; an image has the class of the nearest mean."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from blemish.inspection.manifest import SupportSet
from blemish.methods.base import Batch, MethodInfo
from blemish.methods.common.losses import squared_distances
from blemish.methods.common.metric_losses import class_means
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.few_shot.embedding import SMOKE, BatchEpisode, Embedding, FewShotMethod, FewShotOptions


class PrototypicalOptions(FewShotOptions):
    scale: float = Field(
        3.0,
        gt=0,
        description="initial factor of the distances, in units of those within a class; trained",
    )


class Prototypical(FewShotMethod):
    """Snell et al. 2017, "Prototypical Networks for Few-shot Learning", NeurIPS.

    Kept: episodes; class means of the embedded support; softmax over negative squared Euclidean distances. Deviations:
    a pretrained network, with means of several feature maps, is fine-tuned, its BatchNorm statistics fixed; the mean
    square replaces the sum, times a trained factor, which is initialised from the distances within a class; an episode
    is one class-balanced batch, sampled with replacement, so that with few images one may be support and query at once.
    The embedding ships as the graph, with the prototypes of the training images, so that `blemish enroll` adds classes
    without training.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="prototypical",
        branch="few_shot",
        title="Prototypical network",
        paper="Snell et al. 2017, Prototypical Networks for Few-shot Learning, NeurIPS",
        requires=("label",),
        answers=("what",),
        summary="Classes from a handful of images each; new ones are added later without training.",
        smoke={**SMOKE, "steps": 12},
    )
    Options: ClassVar[type[FewShotOptions]] = PrototypicalOptions
    options: PrototypicalOptions
    prototypes: Tensor
    counts: Tensor

    def __init__(self, options: PrototypicalOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.embedding = Embedding(options, channels)
        self.log_scale = torch.nn.Parameter(torch.tensor(options.scale).log())
        self.register_buffer("prototypes", torch.zeros(len(classes), self.embedding.size))
        self.register_buffer("counts", torch.zeros(len(classes), dtype=torch.long))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self.embedding(images)
        logits = -self.log_scale.exp() * mean_square_distance(embedding, self.prototypes)
        logits = logits.masked_fill(self.counts == 0, -1e9)
        return {"class_scores": logits.softmax(dim=1), "embedding": embedding}

    def on_train_start(self) -> None:
        """Initialise the factor on about a hundred images: distances depend on the network and its size."""
        if self.global_step:  # resumed
            return
        training: Any = self.trainer.train_dataloader
        vectors, labels = [], []
        with torch.no_grad():
            for batch in training:
                known = batch["label"] >= 0
                vectors.append(self.embedding(batch["image"][known].to(self.device)))
                labels.append(batch["label"][known].to(self.device))
                if sum(map(len, labels)) >= 100:
                    break
            variance = within_class_variance(torch.cat(vectors), torch.cat(labels))
            if variance > 0:
                self.log_scale.fill_(math.log(self.options.scale / variance))

    def episode_log_probabilities(self, images: Tensor, episode: BatchEpisode) -> Tensor:
        vectors = self.embedding(images)
        prototypes = class_means(vectors[episode.support], episode.support_labels, episode.ways)
        logits = -self.log_scale.exp() * mean_square_distance(vectors[episode.query], prototypes)
        return logits.log_softmax(dim=1)

    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        self.eval()
        sums, counts = torch.zeros_like(self.prototypes), torch.zeros_like(self.counts)
        with torch.no_grad():
            for batch in self.labelled_batches(batches):
                sums.index_add_(0, batch["label"], self.embedding(batch["image"]))
                counts += batch["label"].bincount(minlength=len(counts))
        self.prototypes = sums / counts.clamp(min=1)[:, None]
        self.counts = counts

    def support_set(self) -> tuple[SupportSet, NDArray[np.float32]]:
        known = self.counts.nonzero()[:, 0]
        support = SupportSet(
            classes=known.tolist(),
            weights=self.counts[known].tolist(),
            rule="prototype",
            metric="euclidean",
            scale=float(self.log_scale.detach().exp()),
        )
        return support, self.prototypes[known].cpu().numpy()

    def configure_optimizers(self) -> Any:
        return few_shot_optimizer(self, self.log_scale)


def few_shot_optimizer(method: FewShotMethod, log_scale: Tensor) -> dict[str, Any]:
    """Adam on the embedding, with a higher learning rate for the factor, and cosine decay."""
    options = method.options
    groups = [
        {"params": method.embedding.parameters(), "lr": options.learning_rate},
        {"params": [log_scale], "lr": 20 * options.learning_rate},
    ]
    return cosine_decay(torch.optim.Adam(groups), options.steps)


def within_class_variance(vectors: Tensor, labels: Tensor) -> float:
    """Unbiased mean square distance of vectors (N, E) to their class's mean; 0 where no class has two vectors."""
    names, index = labels.unique(return_inverse=True)
    if len(names) == len(labels):
        return 0.0
    distances = (vectors - class_means(vectors, index, len(names))[index]).square().mean(dim=1)
    return float(distances.sum() / (len(labels) - len(names)))


def mean_square_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the E components of the squared differences of (N, E) and (M, E) vectors: (N, M)."""
    return squared_distances(a, b) / a.shape[1]
