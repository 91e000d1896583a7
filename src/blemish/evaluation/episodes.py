"""Few-shot classification by episodes: N classes, K labelled images of each, and the accuracy on their other images.

Works on embeddings, so that any network, a bundle included, can be evaluated without torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from blemish.arrays import Indices, Labels, Vectors
from blemish.errors import DataError

# support vectors, their labels 0..ways-1, query vectors -> labels of the queries
Classify = Callable[[Vectors, Labels, Vectors], Labels]
EPISODES = 600


@dataclass(frozen=True, slots=True)
class Episode:
    """Indices of the images: `support` (ways, shots) and `query` (ways, queries); the row is the class."""

    support: Indices
    query: Indices


@dataclass(frozen=True, slots=True)
class EpisodeAccuracy:
    """Mean accuracy over episodes with its 95 % interval, and each episode's own."""

    ways: int
    shots: int
    mean: float
    low: float
    high: float
    accuracies: tuple[float, ...]


def draw_episode(
    labels: Labels, ways: int, shots: int, queries: int, rng: np.random.Generator, groups: Labels | None = None
) -> Episode:
    """Sample classes, and from each `shots` support images and `queries` other query images.

    Negative labels are ignored. With `groups`, images with the same group number show the same part: the support images
    are of that many different parts, and the query images of further parts. Raises DataError where fewer than `ways`
    classes have enough images.
    """
    classes = np.unique(labels[labels >= 0])
    eligible = np.array([c for c in classes if max_queries(labels, shots, groups, of=c) >= queries])
    if len(eligible) < ways:
        raise DataError(
            f"an episode of {ways} classes with {shots} + {queries} images needs {ways} classes with that many; "
            f"there are {len(eligible)}"
        )
    chosen = rng.permutation(eligible)[:ways]
    sampled = [_split(rng.permutation(np.flatnonzero(labels == c)), shots, groups) for c in chosen]
    return Episode(np.stack([support for support, _ in sampled]), np.stack([rest[:queries] for _, rest in sampled]))


def max_queries(labels: Labels, shots: int, groups: Labels | None = None, of: int | None = None) -> int:
    """Number of query images left whichever support images are sampled; the minimum over all classes, or of one."""
    counts = []
    for name in np.unique(labels[labels >= 0]) if of is None else [of]:
        own = np.flatnonzero(labels == name)
        sizes = np.ones(len(own), np.int64) if groups is None else np.unique(groups[own], return_counts=True)[1]
        counts.append(int(np.sort(sizes)[: len(sizes) - shots].sum()) if len(sizes) > shots else 0)
    return min(counts, default=0)


def _split(order: Labels, shots: int, groups: Labels | None) -> tuple[Labels, Labels]:
    """Images of one class, in a random order, as support and the rest."""
    if groups is None:
        return order[:shots], order[shots:]
    first = np.sort(np.unique(groups[order], return_index=True)[1])  # of each group
    support = order[first[:shots]]
    return support, order[~np.isin(groups[order], groups[support])]


def evaluate_episodes(
    embeddings: Vectors,
    labels: Labels,
    ways: int,
    shots: int,
    queries: int = 15,
    count: int = EPISODES,
    seed: int = 0,
    classify: Classify | None = None,
    groups: Labels | None = None,
) -> EpisodeAccuracy:
    """Accuracy of `classify` (by default the nearest prototype) over `count` episodes (see `draw_episode`)."""
    rng = np.random.default_rng(seed)
    accuracies = []
    for _ in range(count):
        episode = draw_episode(labels, ways, shots, queries, rng, groups)
        known = np.repeat(np.arange(ways), shots)
        predicted = (classify or nearest_prototype)(
            embeddings[episode.support.ravel()], known, embeddings[episode.query.ravel()]
        )
        accuracies.append(float(np.mean(predicted == np.repeat(np.arange(ways), episode.query.shape[1]))))
    return summarize_episodes(ways, shots, accuracies)


def summarize_episodes(ways: int, shots: int, accuracies: list[float]) -> EpisodeAccuracy:
    """Mean and normal 95 % interval of the mean, as is usual for episodes; a single episode is its own interval."""
    mean = float(np.mean(accuracies))
    error = float(np.std(accuracies, ddof=1)) / math.sqrt(len(accuracies)) if len(accuracies) > 1 else 0.0
    half = NormalDist().inv_cdf(0.975) * error
    return EpisodeAccuracy(ways, shots, mean, max(0.0, mean - half), min(1.0, mean + half), tuple(accuracies))


def nearest_prototype(support: Vectors, labels: Labels, query: Vectors) -> Labels:
    """The class whose mean is nearest (Snell et al. 2017)."""
    prototypes = np.stack([support[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    return np.asarray(squared_distances(query, prototypes).argmin(axis=1))


def attention(support: Vectors, labels: Labels, query: Vectors, scale: float = 10.0) -> Labels:
    """The class with the highest attention: a softmax over cosine similarities (Vinyals et al. 2016)."""
    weights = np.exp(scale * (unit(query) @ unit(support).T - 1))
    return np.asarray((weights @ np.eye(labels.max() + 1)[labels]).argmax(axis=1))


def softmax_regression(support: Vectors, labels: Labels, query: Vectors, steps: int = 20, rate: float = 0.5) -> Labels:
    """Gradient descent on a linear layer that starts at zero: ANIL's inner loop (Raghu et al. 2020)."""
    one_hot = np.eye(labels.max() + 1)[labels]
    weight, bias = np.zeros((support.shape[1], one_hot.shape[1])), np.zeros(one_hot.shape[1])
    for _ in range(steps):
        logits = support @ weight + bias
        estimate_rate = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (estimate_rate / estimate_rate.sum(axis=1, keepdims=True) - one_hot) / len(support)
        weight, bias = weight - rate * support.T @ error, bias - rate * error.sum(axis=0)
    return np.asarray((query @ weight + bias).argmax(axis=1))


def unit(vectors: Vectors) -> Vectors:
    """The vectors (N, E) scaled to length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def squared_distances(a: Vectors, b: Vectors) -> Vectors:
    """Squared Euclidean distances (N, M) of vectors (N, E) and (M, E)."""
    cross = a @ b.T
    return np.asarray((a * a).sum(axis=1)[:, None] - 2 * cross + (b * b).sum(axis=1))
