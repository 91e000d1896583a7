"""Standardised maps: their statistics, which ones `auto` takes, and that they ship."""

import numpy as np
import pytest
import torch

from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.catalogue import METHODS, method_class
from blemish.methods.common.standardise import MapMethod, MapOptions, map_statistics
from blemish.training.ship.export import export_graph

SIZE = 32
SMALL = {"image_size": SIZE, "width": 4, "blur": 0}


def make_method(name: str = "denoising-autoencoder", **options) -> MapMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(kind.Options(**{**SMALL, **options}), ("good", "defect")).eval()


def batches(images: torch.Tensor, valid: torch.Tensor | None = None) -> list[dict[str, torch.Tensor]]:
    valid = torch.ones(len(images), SIZE, SIZE, dtype=torch.bool) if valid is None else valid
    return [{"image": images[i : i + 4], "valid": valid[i : i + 4]} for i in range(0, len(images), 4)]


def same_part(count: int) -> torch.Tensor:
    """Images of one part at one place, with noise."""
    part = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), size=(SIZE, SIZE), mode="bicubic")
    return part + 0.02 * torch.randn(count, 3, SIZE, SIZE)


def test_statistics_of_the_whole_map_equal_numpy():
    maps, valid = torch.rand(6, 9, 8), torch.rand(6, 9, 8) > 0.3
    mean, deviation = map_statistics(maps, valid, by_pixel=False)
    values = maps.numpy()[valid.numpy()]
    np.testing.assert_allclose([mean, deviation], [values.mean(), values.std()], rtol=1e-5)


def test_statistics_of_many_images_approach_those_of_each_pixel():
    torch.manual_seed(0)
    own_mean, own_deviation = torch.rand(9, 8), 0.5 + torch.rand(9, 8)
    maps = own_mean + own_deviation * torch.randn(4000, 9, 8)
    mean, deviation = map_statistics(maps, torch.ones_like(maps, dtype=torch.bool), by_pixel=True)
    torch.testing.assert_close(mean, own_mean, atol=0.1, rtol=0)
    torch.testing.assert_close(deviation, own_deviation, atol=0, rtol=0.08)


def test_few_images_do_not_make_a_pixel_certain():
    """Of pixels that vary alike, the least deviation of three images is a small part of the true one."""
    torch.manual_seed(0)
    maps = torch.randn(3, 40, 40)
    _, deviation = map_statistics(maps, torch.ones_like(maps, dtype=torch.bool), by_pixel=True)
    assert maps.std(dim=0).min() < 0.1
    assert deviation.min() > 0.6
    assert deviation.max() < 2


def test_pixels_that_are_never_valid_have_the_statistics_of_the_whole():
    maps = torch.rand(8, 6, 6)
    valid = torch.ones_like(maps, dtype=torch.bool)
    valid[:, 0] = False
    maps[:, 0] = 100  # must not count
    mean, deviation = map_statistics(maps, valid, by_pixel=True)
    inside = maps[:, 1:]
    torch.testing.assert_close(mean[0], inside.mean().expand(6))
    torch.testing.assert_close(deviation[0], inside.std(correction=0).expand(6))
    torch.testing.assert_close(mean[1:], inside.mean(dim=0))


@pytest.mark.parametrize(
    ("standardise", "aligned", "shape"),
    [
        ("auto", True, (SIZE, SIZE)),
        ("auto", False, ()),
        ("pixel", False, (SIZE, SIZE)),
        ("global", True, ()),
        ("none", True, ()),
    ],
)
def test_auto_takes_each_pixel_where_the_images_are_aligned(standardise, aligned, shape):
    method = make_method(standardise=standardise)
    images = same_part(12) if aligned else torch.rand(12, 3, SIZE, SIZE)
    with torch.inference_mode():
        raw = method.map_and_score(images)[0]
    method.after_training(batches(images))
    assert method.map_mean.shape == method.map_deviation.shape == shape
    with torch.inference_mode():
        heat = method(images)["anomaly_map"]
    if standardise == "none":
        torch.testing.assert_close(heat, raw)
        return
    own = raw.mean(dim=0) if shape else raw.mean()
    above = raw >= own
    signed = torch.where(above, heat, heat if not shape else -2 * heat)  # below the mean of its pixel it counts half
    assert bool((heat >= 0).all()) == bool(shape)
    own = signed.mean(dim=0) if shape else signed.mean()
    torch.testing.assert_close(own, torch.zeros_like(own), atol=1e-4, rtol=0)
    assert 0.5 < float(signed.std()) < 1.5


def test_statistics_ship_and_are_loaded():
    method = make_method(standardise="pixel")
    method.after_training(batches(same_part(8)))
    images = same_part(3)
    with torch.inference_mode():
        expected = method(images)
    shipped = open_engine(export_graph(method, InputSpec(channels=3, height=SIZE, width=SIZE))).run(images.numpy())
    limit = 1e-3 * float(expected["anomaly_map"].abs().max())
    np.testing.assert_allclose(shipped.anomaly_map, expected["anomaly_map"], atol=limit)
    np.testing.assert_allclose(shipped.anomaly_score, expected["anomaly_score"], atol=limit)
    other = make_method(standardise="pixel")
    other.load_state_dict(method.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(other(images)["anomaly_map"], expected["anomaly_map"])


def test_maps_that_are_all_alike_stay_finite():
    method = make_method(standardise="pixel")
    images = torch.full((6, 3, SIZE, SIZE), 0.5)
    method.after_training(batches(images))
    assert method(images)["anomaly_map"].isfinite().all()


def test_every_method_with_the_option_uses_it():
    """An option that its method does not heed would be silent."""
    for name in METHODS:
        kind = method_class(name)
        assert issubclass(kind.Options, MapOptions) == issubclass(kind, MapMethod), name
