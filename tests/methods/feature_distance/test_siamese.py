"""Siamese comparison: distances, tolerance and borders."""

import torch

from blemish.methods.feature_distance.siamese import Siamese, SiameseOptions, extend_inner, inner_mask

CLASSES = ("good", "defect")


def siamese(**options) -> Siamese:
    torch.manual_seed(0)
    return Siamese(SiameseOptions(image_size=64, dimensions=8, blur=0, **options), CLASSES).eval()


def test_a_difference_from_the_template_is_localized():
    method = siamese(tolerance=0)
    template = torch.rand(1, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    image = template.clone()
    image[:, :, 40:52, 8:20] = 1 - image[:, :, 40:52, 8:20]
    with torch.inference_mode():
        assert float(method(template, template)["anomaly_map"].max()) < 1e-2
        heat = method(image, template)["anomaly_map"][0]
    y, x = divmod(int(heat.argmax()), 64)
    assert 36 <= y < 56
    assert 4 <= x < 24


def test_small_distances_equal_double_precision():
    torch.manual_seed(7)
    own = torch.nn.functional.normalize(torch.randn(1, 8, 16, 16), dim=1)
    near = torch.nn.functional.normalize(own + 1e-3 * torch.randn_like(own), dim=1)
    method = siamese(tolerance=0)
    exact = method.distance(own.double(), near.double())
    torch.testing.assert_close(method.distance(own, near).double(), exact, rtol=1e-4, atol=0)


def test_no_image_is_compared_with_itself():
    method = siamese()
    images = torch.rand(9, 3, 64, 64)
    for batch in (images[:8], images[8:], images[:8], images[8:]):
        others = method.other_images(batch)
        assert all(not torch.equal(other, own) for other, own in zip(others, batch, strict=True))
        assert all(any(torch.equal(other, one) for one in images) for other in others)


def test_small_shifts_are_tolerated():
    own = torch.nn.functional.normalize(torch.randn(1, 8, 10, 10), dim=1)
    shifted = own.roll((1, -1), dims=(2, 3))
    strict, tolerant = siamese(tolerance=0), siamese(tolerance=1)
    assert float(strict.distance(own, shifted)[:, 1:-1, 1:-1].mean()) > 0.5
    assert float(tolerant.distance(own, shifted)[:, 1:-1, 1:-1].max()) < 1e-2


def test_the_border_within_the_tolerance_is_not_a_difference():
    distance = torch.rand(2, 40, 40)
    method = siamese(tolerance=1)
    assert [method.edge(distance), siamese(tolerance=0).edge(distance), siamese(tolerance=8).edge(distance)] == [
        2,
        0,
        2,
    ]
    result = extend_inner(distance, 2)
    kept = inner_mask(distance, 2)
    assert torch.equal(result[:, kept], distance[:, kept])
    assert torch.equal(result[:, 0], result[:, 2])
    assert torch.equal(result[:, :, -1], result[:, :, -3])
    assert torch.equal(result[:, 0, 0], distance[:, 2, 2])
    assert int(kept.sum()) == 36**2
