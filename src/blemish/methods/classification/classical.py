"""Classical classifiers on feature vectors: fitted by scikit-learn, converted to heads, chosen by cross-validation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, LinearSVC

from blemish.arrays import Indices, Labels, Scores, Vectors
from blemish.errors import DataError
from blemish.methods.classification.heads import ForestHead, Head, KernelHead, LinearHead, NeighboursHead, linear_head
from blemish.methods.classification.temperature import fit_temperature, log_loss

# Feature vectors (N, D), each column of mean 0 and deviation 1; labels (N,) in which every class occurs; a seed.
Fit = Callable[[Vectors, Labels, int], Head]


def linear_svm(x: Vectors, y: Labels, seed: int, cost: float) -> LinearHead:
    """One against the rest, classes of equal weight."""
    return linear_head(
        LinearSVC(C=cost, class_weight="balanced", random_state=seed, dual="auto", max_iter=5000).fit(x, y)
    )


def rbf_svm(x: Vectors, y: Labels, seed: int, cost: float, width: float) -> KernelHead:
    """One against the rest, classes of equal weight; the kernel's gamma is `width` / D."""
    gamma = width / x.shape[1]
    coefficients, bias = np.zeros((len(x), y.max() + 1)), []
    for k in range(y.max() + 1):
        svm = SVC(C=cost, gamma=gamma, class_weight="balanced").fit(x, y == k)
        coefficients[svm.support_, k] = svm.dual_coef_[0]
        bias.append(svm.intercept_[0])
    used = coefficients.any(axis=1)
    return KernelHead(
        vectors=torch.from_numpy(x[used].copy()),
        coefficients=torch.tensor(coefficients[used], dtype=torch.float32),
        bias=torch.tensor(bias, dtype=torch.float32),
        gamma=torch.tensor(gamma, dtype=torch.float32),
    )


def logistic(x: Vectors, y: Labels, seed: int, cost: float) -> LinearHead:
    """Softmax regression with a squared penalty, classes of equal weight."""
    return linear_head(LogisticRegression(C=cost, class_weight="balanced", max_iter=500).fit(x, y))


def gaussian(x: Vectors, y: Labels, seed: int) -> LinearHead:
    """A Gaussian for each class, of a common covariance with Ledoit-Wolf shrinkage (2004); equal priors."""
    classes = int(y.max()) + 1
    priors = np.full(classes, 1 / classes)
    return linear_head(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors).fit(x, y))


def neighbours(x: Vectors, y: Labels, seed: int, count: int) -> NeighboursHead:
    """The nearest training vectors vote, each with 1 / distance."""
    return NeighboursHead(
        vectors=torch.from_numpy(x.copy()),
        member=torch.eye(int(y.max()) + 1)[torch.from_numpy(y)],
        count=torch.tensor(min(count, len(x))),
    )


def forest(x: Vectors, y: Labels, seed: int, trees: int) -> ForestHead:
    """Random forest (Breiman 2001), classes of equal weight in each tree."""
    ensemble = RandomForestClassifier(
        trees, class_weight="balanced_subsample", min_samples_leaf=2, random_state=seed, n_jobs=1
    ).fit(x, y)
    fitted = [one.tree_ for one in ensemble.estimators_]
    shape = (len(fitted), max(tree.node_count for tree in fitted))
    own = np.broadcast_to(np.arange(shape[1]), shape)
    feature, left, right = np.zeros(shape, np.int64), own.copy(), own.copy()
    threshold, share = np.zeros(shape), np.zeros((*shape, ensemble.n_classes_))
    for i, tree in enumerate(fitted):
        inner = np.flatnonzero(tree.children_left >= 0)
        feature[i, inner], threshold[i, inner] = tree.feature[inner], tree.threshold[inner]
        left[i, inner], right[i, inner] = tree.children_left[inner], tree.children_right[inner]
        votes = tree.value[:, 0]
        share[i, : tree.node_count] = votes / votes.sum(axis=1, keepdims=True)
    return ForestHead(
        feature=torch.from_numpy(feature),
        threshold=torch.from_numpy(_round_down(threshold)),
        left=torch.from_numpy(left),
        right=torch.from_numpy(right),
        share=torch.tensor(share, dtype=torch.float32),
        depth=torch.tensor(max(tree.max_depth for tree in fitted)),
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
    """A candidate with its cross-validated metrics."""

    name: str
    fit: Fit
    macro_f1: float
    loss: float  # in nats, at `temperature`
    temperature: float


def select_classifier(x: Vectors, y: Labels, names: list[str], folds: int, seed: int) -> list[FittedClassifier]:
    """All candidates of the named classifiers, the best first: by macro F1 over all folds together, then by loss.

    `x` is (N, V, D): V views of each image, all of which are used for fitting; the first view of the left-out images is
    scored. The temperature is fitted on those left-out scores. The head that ships is what is measured. Gaussians need
    more vectors than classes, and are left out where a fold has no more; DataError where they alone are named.
    """
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y))
    fewest, classes = min(len(train) for train, _ in splits) * x.shape[1], int(y.max()) + 1
    if fewest <= classes:
        names = [name for name in names if name != "gaussian"]
    if not names:
        raise DataError(
            "classifier=gaussian needs more images than classes, and a fold of its cross-validation has "
            f"{fewest} images of {classes} classes; add images, or take classifier=auto"
        )
    candidates = [_measure(name, fit, x, y, splits, seed) for name in names for fit in CLASSIFIERS[name]]
    return sorted(candidates, key=lambda one: (-one.macro_f1, one.loss))


def _measure(
    name: str, fit: Fit, x: Vectors, y: Labels, splits: list[tuple[Indices, Indices]], seed: int
) -> FittedClassifier:
    scores = torch.zeros(len(x), int(y.max()) + 1)
    for train, left_out in splits:
        head = fit(*flatten_views(x[train], y[train]), seed)
        scores[left_out] = head(torch.from_numpy(x[left_out, 0]))
    labels = torch.from_numpy(y)
    temperature = fit_temperature(scores, labels)
    macro_f1 = float(f1_score(y, scores.argmax(dim=1).numpy(), average="macro"))
    return FittedClassifier(name, fit, macro_f1, log_loss(scores / temperature, labels), temperature)


def flatten_views(x: Vectors, y: Labels) -> tuple[Vectors, Labels]:
    """(N, V, D) views and (N,) labels as (N * V, D) and (N * V,)."""
    return x.reshape(-1, x.shape[2]), y.repeat(x.shape[1])


def _round_down(values: Scores) -> Vectors:
    """To float32, never upwards: x <= t then holds for the same float32 numbers x."""
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded).astype(np.float32)
