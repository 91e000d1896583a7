"""Metric-learning losses for small sets: embeddings of a class close together, classes apart.

Each is a module of embeddings (N, E) and labels (N,) int64 to a scalar; its own parameters (centres, class vectors) are
trained too. Those that pytorch-metric-learning has come from there.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn


class PrototypeLoss(nn.Module):
    """Snell et al. 2017, "Prototypical Networks for Few-shot Learning", NeurIPS, within a batch.

    Half of each class's embeddings, at random, make its prototype; the others are classified by their squared
    distance to all prototypes. Classes with a single image only give a prototype; 0 where no query is left.
    """

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        support, query = split_halves(labels)
        if not len(query):
            return embeddings.sum() * 0
        embeddings = F.normalize(embeddings, dim=1)
        present, own = labels[support].unique(return_inverse=True)
        prototypes = class_means(embeddings[support], own, len(present))
        distance = torch.cdist(embeddings[query], prototypes).square()
        return F.cross_entropy(-self.log_scale.exp() * distance, torch.searchsorted(present, labels[query]))


class CentreLoss(nn.Module):
    """Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV.

    Half the mean squared distance to the learned centre of the own class. Deviation: embeddings of unit length, and
    centres are moved by the optimiser instead of a rule of their own. To be added to a loss that separates classes.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(F.normalize(torch.randn(classes, size), dim=1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return 0.5 * (F.normalize(embeddings, dim=1) - self.centres[labels]).square().sum(dim=1).mean()


class TripletLoss(nn.Module):
    """Schroff et al. 2015, "FaceNet", CVPR: semi-hard and harder triplets of the batch, at a margin."""

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.miner = miners.TripletMarginMiner(margin=margin, type_of_triplets="all")
        self.loss = losses.TripletMarginLoss(margin=margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


# Name -> module for that many classes and that size of embedding.
METRIC_LOSSES: dict[str, Callable[[int, int], nn.Module]] = {
    "prototype": lambda classes, size: PrototypeLoss(),
    "triplet": lambda classes, size: TripletLoss(),
    "supervised-contrastive": lambda classes, size: losses.SupConLoss(temperature=0.1),  # Khosla et al. 2020
    "centre": CentreLoss,
    # Wang et al. 2018, CosFace; scale and margin for few classes
    "large-margin-cosine": lambda classes, size: losses.CosFaceLoss(classes, size, margin=0.2, scale=16),
}


def metric_loss(name: str, classes: int, size: int) -> nn.Module:
    """The loss of that name (see METRIC_LOSSES) for `classes` classes and embeddings of `size` numbers."""
    return METRIC_LOSSES[name](classes, size)


def split_halves(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of a random half (rounded up) of each class's items, and of the rest."""
    order = torch.randperm(len(labels), device=labels.device)
    shuffled = labels[order]
    rank = (shuffled[:, None] == shuffled[None]).tril(-1).sum(dim=1)  # number of items of the class before this one
    count = (shuffled[:, None] == shuffled[None]).sum(dim=1)
    first = rank < (count + 1) // 2
    return order[first], order[~first]


def class_means(vectors: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of the vectors (N, E) of each label 0 to classes - 1: (classes, E)."""
    member = F.one_hot(labels, classes).to(vectors)
    return (member.T @ vectors) / member.sum(dim=0)[:, None]
