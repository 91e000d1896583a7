"""Class means and distances of a prototypical network."""

import pytest
import torch

from blemish.methods.common.metric_losses import class_means
from blemish.methods.few_shot.prototypical import mean_square_distance, within_class_variance


def test_means_and_distances_by_hand():
    vectors = torch.randn(5, 3)
    labels = torch.tensor([1, 0, 1, 1, 0])
    means = class_means(vectors, labels, 2)
    torch.testing.assert_close(means[0], vectors[[1, 4]].mean(0))
    expected = (vectors[:, None] - means[None]).square().mean(2)
    torch.testing.assert_close(mean_square_distance(vectors, means), expected, atol=1e-5, rtol=1e-4)


def test_within_class_variance_is_unbiased():
    torch.manual_seed(0)
    labels = torch.arange(2000).repeat_interleave(2)
    vectors = 10 * torch.randn(2000, 8)[labels] + 0.5 * torch.randn(4000, 8)
    assert within_class_variance(vectors, labels) == pytest.approx(0.25, rel=0.02)
    assert within_class_variance(vectors[:2], torch.tensor([0, 1])) == 0
