"""Matching network: an image's class is voted for by all labelled images, the more alike the louder."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from blemish.inspection.manifest import SupportSet
from blemish.methods.base import Batch, MethodInfo
from blemish.methods.few_shot.embedding import SMOKE, Embedding, FewShotMethod, FewShotOptions, sample_episode
from blemish.methods.few_shot.prototypical import few_shot_optimizer

LEAST = 1e-6  # share of attention, so that its logarithm is finite


class MatchingOptions(FewShotOptions):
    scale: float = Field(20.0, gt=0, description="first factor of the cosines in the softmax; learned")
    remembered: int = Field(50, ge=1, description="training images of a class that ship, at most")


class Matching(FewShotMethod):
    """Vinyals et al. 2016, "Matching Networks for One Shot Learning", NeurIPS.

    Kept: episodes; attention by softmax over cosine similarities to the support, whose labels it adds up. Deviations:
    a pretrained network is fine-tuned, its BatchNorm statistics fixed; the cosines have a learned factor, without
    which the softmax is all but flat; what a class adds up is divided by the number of its images, as they are not
    equally many in what ships; no full-context embeddings, as they change with every image of the support; an
    episode is one batch, drawn with replacement, so that of few images one may be learnt from and asked about.
    What ships: the embedding as the graph, and vectors of training images beside it for `blemish enroll` to add to.
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
        """(N, K) shares of attention; of the classes in `owners` (S,) when they number fewer.

        A class has the mean of its vectors' softmax weights, not their sum, so that many vectors make it no likelier.
        """
        cosine = F.normalize(queries, dim=1) @ F.normalize(vectors, dim=1).T
        member = (owners[:, None] == torch.arange(len(self.classes), device=owners.device)).to(queries)
        own_count = member @ member.sum(dim=0)  # (S,)
        return (self.log_scale.exp() * cosine - own_count.log()).softmax(dim=1) @ member

    def training_step(self, batch: Batch, index: int) -> Tensor:
        vectors = self.embedding(batch["image"])
        episode = sample_episode(batch["label"], self.options.ways, self.options.shots)
        if episode is None:
            return vectors.sum() * 0
        shares = self.attend(vectors[episode.query], vectors[episode.support], episode.support_labels)
        loss = F.nll_loss(shares.clamp(min=LEAST).log(), episode.query_labels)
        right = (shares.argmax(dim=1) == episode.query_labels).float().mean()
        self.log_dict({"loss": loss, "episode_accuracy": right}, prog_bar=True)
        return loss

    def on_train_end(self) -> None:
        self.eval()
        vectors, owners = [], []
        with torch.no_grad():
            for batch in self.labelled_batches():
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

    def configure_optimizers(self) -> dict[str, Any]:
        return few_shot_optimizer(self, self.log_scale)


def sample_per_class(labels: Tensor, most: int, seed: int = 0) -> Tensor:
    """Indices of up to `most` items of each label (N,), drawn at random and in order: a file's place tells nothing."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    kept = [order[labels[order] == name][:most] for name in labels.unique()]
    return torch.cat(kept).sort().values
