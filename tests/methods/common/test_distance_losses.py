"""Losses of distances by hand and by the definition."""

import numpy as np
import pytest
import torch

from blemish.methods.common.losses import (
    contrastive_loss,
    hard_feature_loss,
    hypersphere_loss,
    masked_mean,
    pseudo_huber,
    squared_unit_distance,
    whole_map_distance,
)


def test_hard_feature_loss_is_the_mean_beyond_the_quantile():
    values = torch.rand(4, 5, 10, 10)
    expected = values[values >= torch.quantile(values, 0.99)].mean()
    assert float(hard_feature_loss(values, 0.99)) == pytest.approx(float(expected), rel=1e-3)
    assert float(hard_feature_loss(values, 0.0)) == pytest.approx(float(values.mean()), rel=1e-5)


def test_squared_unit_distance_is_the_cosine_distance():
    a, b = torch.randn(2, 7, 3, 4), torch.randn(2, 7, 3, 4)
    expected = 1 - torch.nn.functional.cosine_similarity(a, b, dim=1)
    torch.testing.assert_close(squared_unit_distance(a, b), expected, rtol=1e-4, atol=1e-5)


def test_whole_map_distance_is_that_of_all_valid_features_as_one_vector():
    a, b = torch.randn(2, 7, 4, 4), torch.randn(2, 7, 4, 4)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[1, :4] = False  # the upper half of the cells
    cosines = [
        float(x.flatten() @ y.flatten() / x.norm() / y.norm()) for x, y in ((a[0], b[0]), (a[1, :, 2:], b[1, :, 2:]))
    ]
    assert float(whole_map_distance(a, b, valid)) == pytest.approx(1 - sum(cosines) / 2, rel=1e-5)


def test_strong_features_weigh_more_in_the_distance_of_whole_maps():
    a = torch.randn(1, 7, 4, 4)
    a[..., 2:] *= 0.01  # a plain background
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    background, part = a.clone(), a.clone()
    background[..., 2:] *= -1
    part[..., :2] *= -1
    assert whole_map_distance(a, background, valid) < 0.01
    assert whole_map_distance(a, part, valid) > 1.9


def test_masked_mean_of_a_coarser_map_leaves_out_invalid_cells():
    values = torch.arange(16.0).view(1, 4, 4)
    valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[:, :4, :4] = True
    assert float(masked_mean(values, valid)) == pytest.approx((0 + 1 + 4 + 5) / 4)


def test_contrastive_loss():
    distance = torch.tensor([0.3, 0.3, 1.4])
    different = torch.tensor([False, True, True])
    np.testing.assert_allclose(contrastive_loss(distance, different, 1.0), [0.09, 0.49, 0], atol=1e-6)


def test_hypersphere_loss_pulls_good_in_and_pushes_anomalies_out():
    distance = torch.tensor([0.5, 0.5], requires_grad=True)
    hypersphere_loss(distance, torch.tensor([False, True])).backward()
    assert distance.grad[0] > 0 > distance.grad[1]
    expected = -np.log(1 - np.exp(-0.5))
    assert float(hypersphere_loss(torch.tensor([0.5]), torch.tensor([True]))) == pytest.approx(expected, rel=1e-5)


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    x = torch.tensor([0.0, 0.01, 1000.0])
    np.testing.assert_allclose(pseudo_huber(x).numpy(), [0, 0.00005, 999.0005], rtol=1e-2, atol=1e-6)
