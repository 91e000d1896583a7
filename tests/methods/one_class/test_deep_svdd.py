"""Deep SVDD: score, centre and radius."""

import pytest
import torch

from blemish.errors import OptionError
from blemish.methods.one_class import deep_svdd as svdd
from blemish.methods.one_class.deep_svdd import DeepSVDD, DeepSVDDOptions

CLASSES = ("good", "defect")


def deep_svdd(**options) -> DeepSVDD:
    torch.manual_seed(0)
    return DeepSVDD(DeepSVDDOptions(image_size=32, width=4, dimensions=8, **options), CLASSES)


def test_network_has_no_bias_and_no_trained_shift():
    names = [name for name, _ in deep_svdd().named_parameters()]
    assert names
    assert not [name for name in names if "bias" in name]


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_deep_svdd_score_is_squared_distance_from_the_centre(objective):
    method = deep_svdd(objective=objective, blur=0).eval()
    method.centre = torch.randn(8)
    method.squared_radius = torch.tensor(0.7)
    images = torch.rand(3, 3, 32, 32)
    expected = (method.embed(images) - method.centre).square().sum(dim=1)
    outputs = method(images)
    torch.testing.assert_close(
        outputs["anomaly_score"], expected - (0.7 if objective == "soft-boundary" else 0.0), rtol=1e-4, atol=1e-4
    )
    # With the centre at the locations' mean, the shares of the map add up to the squared distance.
    method.location_mean = torch.randn(8, 8, 8) * 0.01
    method.centre = method.location_mean.sum(dim=(1, 2))
    offset = method.embed(images) - method.centre
    shares = method.location_shares(method.convolutions(normalised(images))) - method.location_mean
    total = (offset[:, :, None, None] * shares).sum(dim=(1, 2, 3))
    torch.testing.assert_close(total, offset.square().sum(dim=1), rtol=1e-3, atol=1e-4)


def normalised(images):
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    return centred / centred.abs().mean(dim=(1, 2, 3), keepdim=True)


def test_deep_svdd_centre_is_the_mean_of_the_good_points_away_from_zero(monkeypatch):
    method = deep_svdd(nu=0.25).eval()
    batches = [{"image": torch.rand(count, 3, 32, 32)} for count in (5, 3)]
    monkeypatch.setattr(svdd, "training_batches", lambda _: batches)
    with torch.no_grad():
        points = torch.cat([method.embed(batch["image"]) for batch in batches])
    method.join.weight.data *= 0.2 / points.mean(dim=0).abs().median()  # some coordinates near zero, some not
    method._set_centre()
    with torch.no_grad():
        points = torch.cat([method.eval().embed(batch["image"]) for batch in batches])
    mean = points.mean(dim=0)
    near = mean.abs() < 0.1
    assert near.any()
    assert not near.all()
    torch.testing.assert_close(method.centre[~near], mean[~near])
    torch.testing.assert_close(method.centre[near], mean[near].sign() * 0.1)
    inside = (points - method.centre).square().sum(dim=1) <= method.squared_radius
    assert int(inside.sum()) == 6  # all but the share nu


def test_deep_svdd_soft_radius_leaves_the_share_nu_outside():
    method = deep_svdd(nu=0.2)
    squared = torch.rand(1000)
    method._follow_radius(squared, share=1.0)
    assert float((squared > method.squared_radius).float().mean()) == pytest.approx(0.2, abs=0.01)


def test_deep_svdd_refuses_a_side_that_does_not_halve():
    with pytest.raises(OptionError, match="power of two"):
        DeepSVDD(DeepSVDDOptions(image_size=96), CLASSES)
