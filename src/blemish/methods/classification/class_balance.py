"""How many training images each class has, and what follows: errors, weights, chances of being drawn."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.dataset.ground_truth import find_defect_classes
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError


def image_label(sample_label: str | None, defective: bool | None) -> str | None:
    """The class of a sample; good where nothing but the lack of defects is known."""
    return GOOD if sample_label is None and defective is False else sample_label


def image_labels(sample: Sample, multi_label: bool) -> frozenset[str | None]:
    """The class of a sample; with `multi_label`, all that it shows."""
    if not multi_label:
        return frozenset([image_label(sample.label, sample.defective)])
    shown = find_defect_classes(sample)
    return frozenset([None]) if shown is None else shown or frozenset([GOOD])


def class_counts(dataset: Dataset, classes: Sequence[str], least: int = 2, multi_label: bool = False) -> list[int]:
    """Labelled images of each class; with `multi_label`, an image counts for all classes that it shows.

    Raises DataError with one class only, or where a class has fewer than `least` images: nothing can then be learnt.
    """
    found = Counter(name for s in dataset.samples for name in image_labels(s, multi_label))
    counts = [found[name] for name in classes]
    if len(classes) < 2:
        only = f"'{classes[0]}' alone" if classes else "none at all"
        raise DataError(f"a classifier needs two classes in training or more, and there is {only}")
    for name, count in zip(classes, counts, strict=True):
        if count < least:
            have = "one training image" if count == 1 else f"{count or 'no'} labelled training images"
            raise DataError(
                f"class '{name}' has {have}; a classifier needs {least} or more: add some, or leave the class out"
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
    """One weight an image, so that every class is drawn equally often; images without a known class never.

    With `multi_label`, an image that shows more than one class has the weight of the rarest.
    """
    labels = [image_labels(s, multi_label) for s in dataset.samples]
    found = Counter(name for names in labels for name in names)
    return [max((1 / found[name] for name in names if name in classes), default=0.0) for names in labels]


def prior_correction(dataset: Dataset, classes: Sequence[str], chances: Sequence[float] | None) -> Tensor:
    """What to add to the logits (K,) of a network that learned from images drawn by `chances`, one weight an image.

    The log of each class's share of the images over its share of those drawn (Saerens et al. 2002, "Adjusting the
    Outputs of a Classifier to New a Priori Probabilities", Neural Computation). 0 for a class that is not there.
    """
    drawn, there = torch.zeros(len(classes), dtype=torch.float64), torch.zeros(len(classes), dtype=torch.float64)
    for sample, chance in zip(dataset.samples, chances or [1.0] * len(dataset), strict=True):
        label = image_label(sample.label, sample.defective)
        if label in classes:
            drawn[classes.index(label)] += chance
            there[classes.index(label)] += 1
    shift = (there / there.sum()).log() - (drawn / drawn.sum()).log()
    return torch.where((there > 0) & (drawn > 0), shift, 0).float()
