"""Losses and class activation maps of classifiers."""

import pytest
import torch
import torch.nn.functional as F

from blemish.methods.classification.losses import (
    class_activation_map,
    multi_label_probabilities,
    sigmoid_loss,
    softmax_loss,
)


def test_softmax_loss_is_weighted_cross_entropy_of_known_images():
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 1, 2, -1, 1, -1]), torch.tensor([0.5, 1.0, 1.5])
    expected = F.cross_entropy(logits, labels, weights, ignore_index=-1)
    torch.testing.assert_close(softmax_loss(logits, labels, weights), expected)
    known = labels >= 0
    p = logits[known].softmax(dim=1).gather(1, labels[known][:, None])[:, 0]
    own = weights[labels[known]]
    focal = (-own * (1 - p) ** 2 * p.log()).sum() / own.sum()
    torch.testing.assert_close(softmax_loss(logits, labels, weights, gamma=2.0), focal)
    assert softmax_loss(logits, torch.full((6,), -1), weights) == 0


def test_sigmoid_loss_is_binary_cross_entropy():
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(5, 3), torch.rand(5, 3) < 0.4, torch.tensor([0.5, 1.0, 1.5])
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), weights.expand(5, -1))
    torch.testing.assert_close(sigmoid_loss(logits, targets, weights), expected)
    p = torch.where(targets, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(
        sigmoid_loss(logits, targets, weights, gamma=2.0), (-weights * (1 - p) ** 2 * p.log()).mean()
    )


def test_probability_of_good_is_that_of_no_defect():
    found = multi_label_probabilities(torch.tensor([[0.0, 0.0], [9.0, -9.0]]), good=True)
    torch.testing.assert_close(found[0], torch.tensor([0.25, 0.5, 0.5]))
    assert found[1].argmax() == 1
    assert multi_label_probabilities(torch.zeros(1, 2), good=False).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("reference", [0, None])
def test_mean_class_activation_is_the_logit_relative_to_the_reference(reference):
    """Zhou et al. 2016: the score of a class is the mean of its map (and the bias)."""
    torch.manual_seed(0)
    maps, weight = torch.rand(2, 8, 5, 6), torch.randn(3, 8)
    scores = maps.mean(dim=(2, 3)) @ weight.T
    beyond = scores - (scores[:, :1] if reference == 0 else scores.mean(dim=1, keepdim=True))
    torch.testing.assert_close(class_activation_map(maps, weight, reference).mean(dim=(2, 3)), beyond)
