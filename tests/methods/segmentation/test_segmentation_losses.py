"""Losses of segmentation against segmentation-models-pytorch, scikit-image's distances, and arithmetic."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from blemish.methods.segmentation.losses import (
    SMOOTH,
    boundary,
    combined_loss,
    cross_entropy,
    dice,
    focal,
    one_hot,
    signed_distances,
    tversky,
)

CLASSES = 3  # defect classes; the background comes first


@pytest.fixture
def maps():
    """Logits, labels and full weights of a small batch in which every class occurs."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES + 1, (2, 12, 10), generator=generator)
    logits = 2 * torch.randn(2, CLASSES + 1, 12, 10, generator=generator)
    return logits, labels, torch.ones(2, 1, 12, 10)


@pytest.mark.parametrize(("false_alarm", "escape"), [(0.5, 0.5), (0.2, 0.8)])
def test_overlaps_equal_the_library(maps, false_alarm, escape):
    logits, labels, keep = maps
    scores, target = logits.softmax(dim=1), one_hot(labels, CLASSES)
    expected = smp.losses.TverskyLoss("multiclass", smooth=SMOOTH, alpha=false_alarm, beta=escape)(logits, labels)
    torch.testing.assert_close(tversky(scores, target, keep, false_alarm, escape), expected)
    if false_alarm == escape:
        torch.testing.assert_close(dice(scores, target, keep), expected)


def test_focal_by_arithmetic(maps):
    logits, labels, keep = maps
    p = logits.softmax(dim=1).gather(1, labels[:, None])
    torch.testing.assert_close(focal(logits, one_hot(labels, CLASSES), keep), (-((1 - p) ** 2) * p.log()).mean())


def test_cross_entropy_equals_torch_and_leaves_pixels_out(maps):
    logits, labels, keep = maps
    target = one_hot(labels, CLASSES)
    torch.testing.assert_close(cross_entropy(logits, target, keep), F.cross_entropy(logits, labels))
    keep = keep.clone()
    keep[:, :, :5] = 0
    ignored = labels.clone()
    ignored[:, :5] = -100
    torch.testing.assert_close(cross_entropy(logits, target, keep), F.cross_entropy(logits, ignored))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_balanced_classes_are_torchs_class_weights(power, maps):
    logits, labels, keep = maps
    labels = torch.where(labels == 2, labels, labels.clamp(max=1))  # of unequal numbers, and the last one missing
    keep = keep.clone()
    keep[:, :, :5] = 0
    ignored = labels.clone()
    ignored[:, :5] = -100
    counts = torch.stack([(ignored == k).sum() for k in range(CLASSES + 1)]).clamp(min=1)
    found = combined_loss(logits, one_hot(labels, CLASSES), keep, {"cross_entropy": 1.0}, balance=power)
    torch.testing.assert_close(found, F.cross_entropy(logits, ignored, weight=counts**-power))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "tversky", "boundary"])
def test_pixels_that_do_not_count_get_no_gradient(name, maps):
    logits, labels, keep = maps
    keep = keep.clone()
    keep[0] = 0
    logits = logits.clone().requires_grad_(True)
    combined_loss(logits, one_hot(labels, CLASSES), keep, {name: 1.0}).backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_nothing_known_is_no_loss(maps):
    logits, labels, keep = maps
    weights = {"cross_entropy": 1.0, "focal": 1.0, "dice": 1.0, "tversky": 1.0, "boundary": 1.0}
    assert float(combined_loss(logits, one_hot(labels, CLASSES), 0 * keep, weights)) == 0


def test_combined_is_the_weighted_sum(maps):
    logits, labels, keep = maps
    target = one_hot(labels, CLASSES)
    parts = {"dice": 0.5, "focal": 2.0, "boundary": 0.01}
    alone = sum(weight * combined_loss(logits, target, keep, {name: 1.0}) for name, weight in parts.items())
    torch.testing.assert_close(combined_loss(logits, target, keep, parts), alone)


def test_a_class_without_a_pixel_does_not_count_for_overlap():
    target = one_hot(torch.zeros(1, 4, 4, dtype=torch.int64), 1)
    scores = torch.full((1, 2, 4, 4), 0.5)
    expected = 1 - (8 + SMOOTH) / (8 + 0.5 * 8 + SMOOTH)
    assert float(dice(scores, target, torch.ones(1, 1, 4, 4))) == pytest.approx(expected)


def test_signed_distances_equal_scipy():
    rng = np.random.default_rng(0)
    layers = rng.random((3, 15, 11)) > 0.7
    layers[2] = False
    found = signed_distances(torch.from_numpy(layers).float())
    for layer, distance in zip(layers[:2], found[:2], strict=True):
        inside = distance_transform_edt(layer)
        expected = distance_transform_edt(~layer) - np.maximum(inside - 1, 0)
        np.testing.assert_allclose(distance, expected, rtol=1e-5)
    assert not found[2].any()


def test_boundary_falls_as_the_prediction_comes_nearer():
    target = torch.zeros(1, 1, 32, 32)
    target[..., 10:20, 10:20] = 1
    distances, keep = signed_distances(target), torch.ones(1, 1, 32, 32)
    losses = [float(boundary(target.roll(shift, dims=-1), distances, keep)) for shift in (12, 8, 4, 0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0 < losses[0]
