"""Class counts, loss weights, sampling weights and prior correction."""

import numpy as np
import pytest
import torch

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.methods.classification.class_balance import (
    class_balanced_weights,
    class_counts,
    effective_number_weights,
    prior_correction,
)


def test_effective_number_weights_range_from_equal_to_inverse_counts():
    counts = [1000, 10, 100]
    torch.testing.assert_close(effective_number_weights(counts, 0.0), torch.ones(3))
    inverse = 1 / torch.tensor(counts, dtype=torch.float64)
    near = effective_number_weights(counts, 1 - 1e-7)
    torch.testing.assert_close(near, (3 * inverse / inverse.sum()).float(), rtol=1e-3, atol=0)


def labelled(*labels: str | None) -> Dataset:
    return Dataset(tuple(Sample(f"{i}.png", label) for i, label in enumerate(labels)), "x", "csv")


def test_too_few_classes_or_images_give_a_one_line_error():
    with pytest.raises(DataError, match="needs two classes in training or more, and there is 'pit' alone"):
        class_counts(labelled("pit", "pit"), ("pit",))
    with pytest.raises(DataError, match="class 'dent' has one training image; a classifier needs 2 or more"):
        class_counts(labelled("pit", "pit", "dent"), ("dent", "pit"))
    assert class_counts(labelled("pit", None, "pit", "good", "good"), ("good", "pit")) == [2, 2]


def test_class_balanced_weights_sample_every_class_equally_often():
    data = labelled("good", "good", "good", "pit", None)
    np.testing.assert_allclose(class_balanced_weights(data, ("good", "pit")), [1 / 3, 1 / 3, 1 / 3, 1, 0])


def test_prior_correction_gives_the_posteriors_of_the_data_set():
    data, classes = labelled(*["good"] * 90, *["pit"] * 6, *["crack"] * 4), ("good", "pit", "crack")
    chances = [1.0 if sample.label == "good" else 5.0 for sample in data.samples]
    likelihood = torch.tensor([0.2, 0.7, 0.4])  # of some feature in each class; by Bayes' rule then:
    drawn = torch.tensor([90.0, 30.0, 20.0]) * likelihood
    there = torch.tensor([90.0, 6.0, 4.0]) * likelihood
    shifted = (drawn / drawn.sum()).log() + prior_correction(data, classes, chances)
    torch.testing.assert_close(shifted.softmax(dim=0), there / there.sum())
    assert prior_correction(data, classes, None).tolist() == [0, 0, 0]
    assert prior_correction(data, (*classes, "scratch"), chances)[3] == 0
