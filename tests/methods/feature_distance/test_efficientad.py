"""EfficientAD's statistics and random changes."""

import pytest
import torch

from blemish.methods.feature_distance.efficientad import EfficientAD, EfficientADOptions, channel_statistics, jitter

CLASSES = ("good", "defect")


@pytest.fixture(scope="module")
def efficientad():
    torch.manual_seed(0)
    method = EfficientAD(EfficientADOptions(image_size=64, width=0.1), CLASSES)
    method.teacher_std.fill_(1.0)
    return method.eval()


def test_maps_are_scaled_by_quantiles_of_good_images(efficientad):
    images = torch.rand(12, 3, 64, 64)
    efficientad.after_training([{"image": part} for part in images.split(4)])
    with torch.inference_mode():
        for result, maps in zip(efficientad.quantiles, efficientad.maps(images), strict=True):
            expected = torch.quantile(maps.flatten(), torch.tensor([0.9, 0.995]))
            torch.testing.assert_close(result, expected, rtol=0.02, atol=1e-4)
        heat = efficientad(images)["anomaly_map"]
    # Two maps that are each 0 and 0.1 at these quantiles have a mean near there.
    assert -0.1 < float(torch.quantile(heat.flatten()[:100_000], 0.95)) < 0.1


def test_channel_statistics_equal_those_of_all_maps_concatenated():
    maps = [torch.randn(n, 5, 6, 6) * 3 + 2 for n in (1, 4, 2)]
    mean, deviation = channel_statistics(iter(maps))
    whole = torch.cat(maps)
    torch.testing.assert_close(mean.flatten(), whole.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deviation.flatten(), whole.std(dim=(0, 2, 3), correction=0), rtol=1e-4, atol=1e-4)


def test_jitter_keeps_the_range_and_changes_every_kind():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 8)
    changes = [float((jitter(image) - image).abs().max()) for _ in range(12)]
    assert max(changes) <= 0.2 + 1e-6
    assert min(changes) > 0
