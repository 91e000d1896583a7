"""Classical classifiers on feature vectors: fitted by scikit-learn, turned into heads, chosen by cross-validation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, LinearSVC

from blemish.methods.classification.heads import ForestHead, Head, KernelHead, LinearHead, NeighboursHead, linear_head
from blemish.methods.classification.temperature import fit_temperature, log_loss

Vectors = NDArray[np.float32]  # (N, D), each column of mean 0 and deviation 1
Labels = NDArray[np.int64]  # (N,), every class from 0 on occurs
Fit = Callable[[Vectors, Labels, int], Head]  # the last is a seed


def linear_svm(x: Vectors, y: Labels, seed: int, cost: float) -> LinearHead:
    """One against the rest, classes of equal weight."""
    found = LinearSVC(C=cost, class_weight="balanced", random_state=seed, dual="auto", max_iter=5000).fit(x, y)
    return linear_head(found.coef_, found.intercept_)


def rbf_svm(x: Vectors, y: Labels, seed: int, cost: float, width: float) -> KernelHead:
    """One against the rest, classes of equal weight; the kernel's gamma is `width` / D."""
    gamma = width / x.shape[1]
    coefficients, bias = np.zeros((len(x), y.max() + 1)), []
    for k in range(y.max() + 1):
        found = SVC(C=cost, gamma=gamma, class_weight="balanced").fit(x, y == k)
        coefficients[found.support_, k] = found.dual_coef_[0]
        bias.append(found.intercept_[0])
    used = coefficients.any(axis=1)
    return KernelHead(
        vectors=torch.from_numpy(x[used].copy()),
        coefficients=torch.tensor(coefficients[used], dtype=torch.float32),
        bias=torch.tensor(bias, dtype=torch.float32),
        gamma=torch.tensor(gamma, dtype=torch.float32),
    )


def logistic(x: Vectors, y: Labels, seed: int, cost: float) -> LinearHead:
    """Softmax regression with a squared penalty, classes of equal weight."""
    found = LogisticRegression(C=cost, class_weight="balanced", max_iter=500).fit(x, y)
    return linear_head(found.coef_, found.intercept_)


def gaussian(x: Vectors, y: Labels, seed: int) -> LinearHead:
    """A Gaussian for each class, of a common covariance shrunk as Ledoit and Wolf 2004 say; equal priors."""
    classes = int(y.max()) + 1
    priors = np.full(classes, 1 / classes)
    found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors).fit(x, y)
    return linear_head(found.coef_, found.intercept_)


def neighbours(x: Vectors, y: Labels, seed: int, count: int) -> NeighboursHead:
    """The nearest training vectors vote, each with 1 / distance."""
    return NeighboursHead(
        vectors=torch.from_numpy(x.copy()),
        member=torch.eye(int(y.max()) + 1)[torch.from_numpy(y)],
        count=torch.tensor(min(count, len(x))),
    )


def forest(x: Vectors, y: Labels, seed: int, trees: int) -> ForestHead:
    """Random forest (Breiman 2001), classes of equal weight in each tree."""
    found = RandomForestClassifier(
        trees, class_weight="balanced_subsample", min_samples_leaf=2, random_state=seed, n_jobs=1
    ).fit(x, y)
    grown = [one.tree_ for one in found.estimators_]
    shape = (len(grown), max(tree.node_count for tree in grown))
    own = np.broadcast_to(np.arange(shape[1]), shape)
    feature, left, right = np.zeros(shape, np.int64), own.copy(), own.copy()
    threshold, share = np.zeros(shape), np.zeros((*shape, found.n_classes_))
    for i, tree in enumerate(grown):
        inner = np.flatnonzero(tree.children_left >= 0)
        feature[i, inner], threshold[i, inner] = tree.feature[inner], tree.threshold[inner]
        left[i, inner], right[i, inner] = tree.children_left[inner], tree.children_right[inner]
        votes = tree.value[:, 0]
        share[i, : tree.node_count] = votes / votes.sum(axis=1, keepdims=True)
    return ForestHead(
        feature=torch.from_numpy(feature),
        threshold=torch.from_numpy(_rounded_down(threshold)),
        left=torch.from_numpy(left),
        right=torch.from_numpy(right),
        share=torch.tensor(share, dtype=torch.float32),
        depth=torch.tensor(max(tree.max_depth for tree in grown)),
    )


CLASSIFIERS: dict[str, list[Fit]] = {
    "linear-svm": [partial(linear_svm, cost=cost) for cost in (0.001, 0.01, 0.1)],
    "rbf-svm": [partial(rbf_svm, cost=cost, width=width) for cost in (1.0, 10.0) for width in (0.3, 1.0)],
    "logistic": [partial(logistic, cost=cost) for cost in (0.01, 0.1, 1.0)],
    "neighbours": [partial(neighbours, count=count) for count in (1, 3, 7)],
    "forest": [partial(forest, trees=200)],
    "gaussian": [gaussian],
}
HEADS: dict[str, type[Head]] = {
    "linear-svm": LinearHead,
    "rbf-svm": KernelHead,
    "logistic": LinearHead,
    "neighbours": NeighboursHead,
    "forest": ForestHead,
    "gaussian": LinearHead,
}


@dataclass(frozen=True)
class FittedClassifier:
    """A candidate with its cross-validated figures."""

    name: str
    fit: Fit
    macro_f1: float
    loss: float  # in nats, at `temperature`
    temperature: float


def select_classifier(x: Vectors, y: Labels, names: list[str], folds: int, seed: int) -> list[FittedClassifier]:
    """All candidates of the named classifiers, the best first: by macro F1 over all folds together, then by loss.

    `x` is (N, V, D): V views of each image, all of which are learnt from; the first of the left-out images is judged.
    The temperature is fitted on those left-out scores. What is measured is the head that ships.
    """
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y))
    found = [_measure(name, fit, x, y, splits, seed) for name, fit in _candidates(names)]
    return sorted(found, key=lambda one: (-one.macro_f1, one.loss))


def _measure(name: str, fit: Fit, x: Vectors, y: Labels, splits: list[tuple], seed: int) -> FittedClassifier:
    scores = torch.zeros(len(x), int(y.max()) + 1)
    for train, held in splits:
        head = fit(*flatten_views(x[train], y[train]), seed)
        scores[held] = head(torch.from_numpy(x[held, 0]))
    labels = torch.from_numpy(y)
    temperature = fit_temperature(scores, labels)
    macro_f1 = float(f1_score(y, scores.argmax(dim=1).numpy(), average="macro"))
    return FittedClassifier(name, fit, macro_f1, log_loss(scores / temperature, labels), temperature)


def flatten_views(x: Vectors, y: Labels) -> tuple[Vectors, Labels]:
    """(N, V, D) views and (N,) labels as (N * V, D) and (N * V,)."""
    return x.reshape(-1, x.shape[2]), y.repeat(x.shape[1])


def _candidates(names: list[str]) -> Iterator[tuple[str, Fit]]:
    return ((name, fit) for name in names for fit in CLASSIFIERS[name])


def _rounded_down(values: NDArray[np.float64]) -> Vectors:
    """To float32, never upwards: x <= t then holds for the same float32 numbers x."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
