"""Prototypical network: a class is the mean of its images' embeddings, and an image is of the nearest class."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from blemish.inspection.manifest import SupportSet
from blemish.methods.base import Batch, MethodInfo
from blemish.methods.common.losses import squared_distances
from blemish.methods.common.metric_losses import class_means
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.few_shot.embedding import SMOKE, Embedding, FewShotMethod, FewShotOptions, sample_episode


class PrototypicalOptions(FewShotOptions):
    # Four-way five-shot cross-entropy of the frozen network is least at 3.9 on NEU, at 2.4 on magnetic tiles.
    scale: float = Field(
        3.0, gt=0, description="first factor of the distances in the softmax, over that within a class; learned"
    )


class Prototypical(FewShotMethod):
    """Snell et al. 2017, "Prototypical Networks for Few-shot Learning", NeurIPS.

    Kept: episodes; class means of the embedded support; softmax over negative squared Euclidean distances. Deviations:
    a pretrained network, with means of several feature maps, is fine-tuned, its BatchNorm statistics fixed; the mean
    square takes the place of the sum, times a learned factor, which starts from how far images of a class lie apart; an
    episode is one class-balanced batch, drawn with replacement, so that of few images one may be learnt from and asked
    about.
    What ships: the embedding as the graph, and the prototypes of the training images beside it, so that
    `blemish enroll` adds classes without training.
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
        """The factor's start, by the first hundred images or so: distances depend on the network and its size."""
        if self.global_step:  # resumed
            return
        vectors, labels = [], []
        with torch.no_grad():
            for batch in self.trainer.train_dataloader:
                known = batch["label"] >= 0
                vectors.append(self.embedding(batch["image"][known].to(self.device)))
                labels.append(batch["label"][known].to(self.device))
                if sum(map(len, labels)) >= 100:
                    break
            apart = within_class_variance(torch.cat(vectors), torch.cat(labels))
            if apart > 0:
                self.log_scale.fill_(math.log(self.options.scale / apart))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        vectors = self.embedding(batch["image"])
        episode = sample_episode(batch["label"], self.options.ways, self.options.shots)
        if episode is None:
            return vectors.sum() * 0
        prototypes = class_means(vectors[episode.support], episode.support_labels, episode.ways)
        logits = -self.log_scale.exp() * mean_square_distance(vectors[episode.query], prototypes)
        loss = F.cross_entropy(logits, episode.query_labels)
        right = (logits.argmax(dim=1) == episode.query_labels).float().mean()
        self.log_dict({"loss": loss, "episode_accuracy": right}, prog_bar=True)
        return loss

    def on_train_end(self) -> None:
        self.eval()
        sums, counts = torch.zeros_like(self.prototypes), torch.zeros_like(self.counts)
        with torch.no_grad():
            for batch in self.labelled_batches():
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

    def configure_optimizers(self) -> dict[str, Any]:
        return few_shot_optimizer(self, self.log_scale)


def few_shot_optimizer(method: FewShotMethod, log_scale: Tensor) -> dict[str, Any]:
    """Adam on the embedding, faster on the factor, the rate falling along a cosine."""
    options = method.options
    groups = [
        {"params": method.embedding.parameters(), "lr": options.learning_rate},
        {"params": [log_scale], "lr": 20 * options.learning_rate},
    ]
    return cosine_decay(torch.optim.Adam(groups), options.steps)


def within_class_variance(vectors: Tensor, labels: Tensor) -> float:
    """Mean square distance of vectors (N, E) to their class's true mean, estimated without bias; 0 if none has two."""
    names, place = labels.unique(return_inverse=True)
    if len(names) == len(labels):
        return 0.0
    distances = (vectors - class_means(vectors, place, len(names))[place]).square().mean(dim=1)
    return float(distances.sum() / (len(labels) - len(names)))


def mean_square_distance(a: Tensor, b: Tensor) -> Tensor:
    """(N, E), (M, E) to (N, M)."""
    return squared_distances(a, b) / a.shape[1]
