"""The support set of a matching network."""

import torch

from blemish.methods.few_shot.matching import sample_per_class


def test_what_is_remembered_of_a_class_is_drawn_from_all_of_it():
    labels = torch.tensor([0] * 100 + [1] * 3)
    kept = sample_per_class(labels, 10)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert labels[kept].bincount().tolist() == [10, 3]
    assert kept[:10].min() < 40
    assert kept[:10].max() > 60
    assert torch.equal(kept, sample_per_class(labels, 10))
