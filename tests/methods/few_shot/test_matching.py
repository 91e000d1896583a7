"""The support set of a matching network."""

import torch

from blemish.methods.few_shot.matching import sample_per_class


def test_sample_per_class_samples_from_all_items():
    labels = torch.tensor([0] * 100 + [1] * 3)
    kept = sample_per_class(labels, 10)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert labels[kept].bincount().tolist() == [10, 3]
    assert kept[:10].min() < 40
    assert kept[:10].max() > 60
    assert torch.equal(kept, sample_per_class(labels, 10))
