"""Images whose label disagrees with the others: probably defective ones among the good, or of another class.

No method is trained: one pass of a frozen network gives patch features of each image. By cross-fitting, patches of each
image are compared with those of good images in other folds, as PatchCore does (Roth et al. 2022); where defects are
labelled, a linear classifier of the pooled features is fitted on the other folds as well. Both give each image a rank.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from blemish.arrays import FloatArray, Scores
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample, sort_by_name
from blemish.errors import DataError, ImageError
from blemish.imaging.prepare import prepare
from blemish.imaging.read import read_image
from blemish.methods.common.backbones import load_backbone
from blemish.methods.common.blocks import patch_features
from blemish.training.ship.cross_fit import make_folds

FOLDS = 5
SIDE = 256  # of the network's input, px
BANK = 4096  # patches of good images that others are compared with
NEIGHBOURS = 3  # more than one, so that a defect that two images have is no match for itself
WORST = 0.001  # share of an image's patches that its score is the mean of
MIN_OF_CLASS = 5  # images, of a class that the classifier knows


@dataclass(frozen=True)
class Suspect:
    """An image, the label that it has and the one that it looks like; of `suspicion` 1 is the highest of all images."""

    sample: Sample
    label: str
    looks_like: str
    suspicion: float


def find_suspects(
    dataset: Dataset, seed: int = 0, progress: Callable[[int], None] = lambda done: None
) -> list[Suspect]:
    """All labelled images, the most suspicious first. DataError where fewer than two of them are good.

    Images that cannot be read are left out: the audit lists them.
    """
    samples, features = _extract(sort_by_name(s for s in dataset.samples if _label(s)), progress)
    labels = np.array([_label(s) for s in samples], dtype=object)
    good = np.flatnonzero(labels == GOOD).tolist()
    if len(good) < 2:
        raise DataError(f"suspects are found by comparison with good images, and {len(good)} can be read")
    folds = make_folds(samples, min(FOLDS, len(good)), seed)
    anomaly = np.zeros(len(samples))
    for held in folds:
        others = [i for i in good if i not in held]
        if others:
            anomaly[sorted(held)] = _score(features, sorted(held), others, seed)
    suspicion = _rank_by_anomaly(anomaly, labels == GOOD)
    looks_like = np.where(labels == GOOD, DEFECT, GOOD).astype(object)
    known = [name for name, count in Counter(labels).items() if count >= MIN_OF_CLASS]
    if len(known) > 1:
        other, names = _classify(features, anomaly, labels, folds, known)
        suspicion = (suspicion + other) / 2
        looks_like = np.where(other > 0, names, looks_like)
    order = np.argsort(-suspicion, kind="stable")
    return [Suspect(samples[i], labels[i], looks_like[i], float(suspicion[i])) for i in order]


def _label(sample: Sample) -> str | None:
    return sample.label or {True: DEFECT, False: GOOD, None: None}[sample.defective]


def _extract(samples: Sequence[Sample], progress: Callable[[int], None]) -> tuple[list[Sample], Tensor]:
    """Patch features (N, patches, D) float16 of the images that can be read."""
    network = load_backbone().eval()
    read, rows = [], []
    for batch in _batches(samples, progress):
        with torch.inference_mode():
            maps = patch_features(network(torch.from_numpy(np.stack([image for _, image in batch]))))
            rows.append(torch.nn.functional.avg_pool2d(maps, 2).flatten(2).transpose(1, 2).half())
        read += [sample for sample, _ in batch]
    if not rows:
        raise DataError("suspects are found among labelled images, and none can be read")
    return read, torch.cat(rows)


def _batches(
    samples: Sequence[Sample], progress: Callable[[int], None], size: int = 8
) -> Iterator[list[tuple[Sample, FloatArray]]]:
    batch: list[tuple[Sample, FloatArray]] = []
    for number, sample in enumerate(samples, 1):
        with suppress(ImageError):
            batch.append((sample, prepare(read_image(sample.image), 3, SIDE, SIDE, "stretch")))
        progress(1)
        if batch and (len(batch) == size or number == len(samples)):
            yield batch
            batch = []


def _score(features: Tensor, held: Sequence[int], good: Sequence[int], seed: int) -> Scores:
    """Distance of each held image's worst patches from the patches of good images."""
    vectors = features[good].flatten(0, 1)
    chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:BANK]
    bank = vectors[chosen].float()
    worst = max(1, round(WORST * features.shape[1]))
    scores = []
    for i in held:
        nearest = torch.cdist(features[i].float(), bank).topk(min(NEIGHBOURS, len(bank)), dim=1, largest=False).values
        scores.append(float(nearest.mean(dim=1).topk(worst).values.mean()))
    return np.array(scores)


def _rank_by_anomaly(anomaly: Scores, good: NDArray[np.bool_]) -> Scores:
    """From 0 to 1: among good images the share that is less anomalous, among defective ones the share that is more."""
    suspicion = np.zeros(len(anomaly))
    for members, sign in ((np.flatnonzero(good), 1), (np.flatnonzero(~good), -1)):
        order = members[np.argsort(sign * anomaly[members], kind="stable")]
        suspicion[order] = np.arange(1, len(order) + 1) / max(1, len(order))
    return suspicion


def _classify(
    features: Tensor, anomaly: Scores, labels: NDArray[Any], folds: Sequence[set[int]], known: Sequence[str]
) -> tuple[Scores, NDArray[Any]]:
    """By cross-fitting, how much likelier (0 to 1) another class is than the image's own, and that class."""
    inputs = np.concatenate(
        [features.float().mean(dim=1).numpy(), features.float().amax(dim=1).numpy(), anomaly[:, None]], axis=1
    )
    other, names = np.zeros(len(labels)), labels.copy()
    usable = np.isin(labels, known)
    for held in folds:
        inside = np.array([i for i in range(len(labels)) if usable[i] and i not in held])
        if len(set(labels[inside])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        model.fit(inputs[inside], labels[inside].astype(str))
        for i in sorted(held):
            likely = dict(zip(model.classes_, model.predict_proba(inputs[i : i + 1])[0], strict=True))
            own = likely.pop(labels[i], 0.0)
            names[i] = max(likely, key=likely.__getitem__)
            other[i] = max(0.0, likely[names[i]] - own) if usable[i] else 0.0
    return other, names
