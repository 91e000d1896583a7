"""Training images per class, and what follows from the counts: errors, loss weights, sampling weights."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from blemish.dataset.ground_truth import find_defect_classes
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError

MIN_IMAGES = 2  # of a class, without which it cannot be learned


def image_label(sample: Sample) -> str | None:
    """The class of a sample, which is good if it is only known to have no defects; None: unknown."""
    return GOOD if sample.label is None and sample.defective is False else sample.label


def image_labels(sample: Sample, multi_label: bool) -> frozenset[str | None]:
    """The class of a sample; with `multi_label`, all classes in it."""
    if not multi_label:
        return frozenset([image_label(sample)])
    shown = find_defect_classes(sample)
    return frozenset([None]) if shown is None else shown or frozenset([GOOD])


def count_labels(samples: Iterable[Sample], multi_label: bool) -> Counter[str | None]:
    """Images of each class, and of none that is known; with `multi_label`, an image counts for all classes in it."""
    return Counter(name for sample in samples for name in image_labels(sample, multi_label))


def class_counts(dataset: Dataset, classes: Sequence[str], multi_label: bool = False) -> list[int]:
    """Labelled images of each class; with `multi_label`, an image counts for all classes in it.

    Raises DataError for a single class, or a class with fewer than MIN_IMAGES images: nothing can be learned then.
    """
    counter = count_labels(dataset.samples, multi_label)
    counts = [counter[name] for name in classes]
    if len(classes) < 2:
        only = f"'{classes[0]}' alone" if classes else "none at all"
        raise DataError(f"a classifier needs two classes in training or more, and there is {only}")
    for name, count in zip(classes, counts, strict=True):
        if count < MIN_IMAGES:
            have = "one training image" if count == 1 else f"{count or 'no'} labelled training images"
            raise DataError(
                f"class '{name}' has {have}; a classifier needs {MIN_IMAGES} or more: add some, or leave the class out"
            )
    return counts


def effective_number_weights(counts: Sequence[int], beta: float) -> Tensor:
    """Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", CVPR: (K,) weights of mean 1.

    (1 - beta) / (1 - beta^n): beta 0 weighs all classes alike, beta near 1 by the inverse of their counts.
    """
    n = torch.tensor(counts, dtype=torch.float64)
    weights = (1 - beta) / (1 - beta**n)
    return (weights * len(weights) / weights.sum()).float()


def class_balanced_weights(dataset: Dataset, classes: Sequence[str], multi_label: bool = False) -> list[float]:
    """Sampling weight of each image, so that every class is sampled equally often; 0 without a known class.

    With `multi_label`, an image with more than one class has the weight of the rarest.
    """
    labels = [image_labels(s, multi_label) for s in dataset.samples]
    counter = Counter(name for names in labels for name in names)
    return [max((1 / counter[name] for name in names if name in classes), default=0.0) for names in labels]


def prior_correction(dataset: Dataset, classes: Sequence[str], sampling: Sequence[float] | None) -> Tensor:
    """Offset of the logits (K,) of a network trained on images sampled with these weights, one per image.

    The log of each class's share of the images over its share of the sampled ones (Saerens et al. 2002, "Adjusting the
    Outputs of a Classifier to New a Priori Probabilities", Neural Computation). 0 for a class without images.
    """
    sampled, original = torch.zeros(len(classes), dtype=torch.float64), torch.zeros(len(classes), dtype=torch.float64)
    for sample, weight in zip(dataset.samples, sampling or [1.0] * len(dataset), strict=True):
        label = image_label(sample)
        if label in classes:
            sampled[classes.index(label)] += weight
            original[classes.index(label)] += 1
    offset = (original / original.sum()).log() - (sampled / sampled.sum()).log()
    return torch.where((original > 0) & (sampled > 0), offset, 0).float()
