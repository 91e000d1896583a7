"""Matching network: all labelled images vote for an image's class, weighted by similarity."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from blemish.inspection.manifest import SupportSet
from blemish.methods.base import Batch, MethodInfo
from blemish.methods.few_shot.embedding import SMOKE, BatchEpisode, Embedding, FewShotMethod, FewShotOptions
from blemish.methods.few_shot.prototypical import few_shot_optimizer

MIN_SHARE = 1e-6  # of attention, so that its logarithm is finite


class MatchingOptions(FewShotOptions):
    scale: float = Field(20.0, gt=0, description="initial factor of the cosines in the softmax; trained")
    remembered: int = Field(50, ge=1, description="largest number of training images of a class that ship")


class Matching(FewShotMethod):
    """Vinyals et al. 2016, "Matching Networks for One Shot Learning", NeurIPS.

    Kept: episodes; attention by softmax over cosine similarities to the support, summed by label. Deviations: a
    pretrained network is fine-tuned, its BatchNorm statistics fixed; the cosines have a trained factor, without which
    the softmax is nearly uniform; the sum of a class is divided by the number of its images, since the numbers differ
    in the shipped support set; no full-context embeddings, as they change with every image of the support; an episode
    is one batch, sampled with replacement, so that with few images one may be support and query at once.
    The embedding ships as the graph, with vectors of training images, to which `blemish enroll` can add.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="matching",
        branch="few_shot",
        title="Matching network",
        paper="Vinyals et al. 2016, Matching Networks for One Shot Learning, NeurIPS",
        requires=("label",),
        answers=("what",),
        summary="Compares with single labelled images, for classes that look different among themselves.",
        smoke={**SMOKE, "steps": 12},
    )
    Options: ClassVar[type[FewShotOptions]] = MatchingOptions
    options: MatchingOptions

    def __init__(self, options: MatchingOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.embedding = Embedding(options, channels)
        self.log_scale = torch.nn.Parameter(torch.tensor(options.scale).log())
        self.register_buffer("vectors", torch.zeros(len(classes), self.embedding.size))
        self.register_buffer("owners", torch.arange(len(classes)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self.embedding(images)
        return {"class_scores": self.attend(embedding, self.vectors, self.owners), "embedding": embedding}

    def attend(self, queries: Tensor, vectors: Tensor, owners: Tensor) -> Tensor:
        """Attention (N, K) of queries (N, E) to the classes `owners` (S,) of vectors (S, E).

        A class has the mean of its vectors' softmax weights, not their sum, so that many vectors do not favour it.
        """
        cosine = F.normalize(queries, dim=1) @ F.normalize(vectors, dim=1).T
        member = (owners[:, None] == torch.arange(len(self.classes), device=owners.device)).to(queries)
        own_count = member @ member.sum(dim=0)  # (S,)
        return (self.log_scale.exp() * cosine - own_count.log()).softmax(dim=1) @ member

    def episode_log_probabilities(self, images: Tensor, episode: BatchEpisode) -> Tensor:
        vectors = self.embedding(images)
        shares = self.attend(vectors[episode.query], vectors[episode.support], episode.support_labels)
        return shares.clamp(min=MIN_SHARE).log()

    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        self.eval()
        vectors, owners = [], []
        with torch.no_grad():
            for batch in self.labelled_batches(batches):
                vectors.append(self.embedding(batch["image"]))
                owners.append(batch["label"])
        kept = sample_per_class(torch.cat(owners), self.options.remembered)
        self.vectors, self.owners = torch.cat(vectors)[kept], torch.cat(owners)[kept]

    def support_set(self) -> tuple[SupportSet, NDArray[np.float32]]:
        support = SupportSet(
            classes=self.owners.tolist(),
            weights=[1] * len(self.owners),
            rule="attention",
            metric="cosine",
            scale=float(self.log_scale.detach().exp()),
        )
        return support, self.vectors.cpu().numpy()

    def configure_optimizers(self) -> Any:
        return few_shot_optimizer(self, self.log_scale)


def sample_per_class(labels: Tensor, max_count: int, seed: int = 0) -> Tensor:
    """Indices of up to `max_count` random items of each label (N,), in order."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    kept = [order[labels[order] == name][:max_count] for name in labels.unique()]
    return torch.cat(kept).sort().values
