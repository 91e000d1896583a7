"""Geometry to the network and back: brute-force means, round trips, and marks that must be found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import ImageError
from blemish.imaging.prepare import (
    fit_image,
    fit_mask,
    fit_transform,
    map_to_image,
    match_channels,
    prepare,
    resize,
    to_unit,
)

sides = st.integers(1, 40)
fits = st.sampled_from(["stretch", "letterbox"])


def image_of(height, width, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random((height, width, channels))
    return values.astype(np.float32) if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


@given(sides, sides, st.integers(1, 40), st.integers(1, 40), fits)
@settings(max_examples=150, deadline=None)
def test_prepare_has_the_shape_range_and_leaves_the_image_alone(height, width, to_height, to_width, fit):
    image = image_of(height, width)
    before = image.copy()
    out = prepare(image, 3, to_height, to_width, fit)
    assert out.shape == (3, to_height, to_width)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(out, prepare(image, 3, to_height, to_width, fit))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9, 64])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_shrinking_takes_the_mean_of_areas_in_every_channel(channels, dtype):
    image = image_of(24, 30, channels, dtype)
    means = image.reshape(8, 3, 10, 3, channels).mean(axis=(1, 3), dtype=np.float64)
    out = resize(image, 8, 10)
    assert out.shape == (8, 10, channels)
    tolerance = 1e-6 if dtype == np.float32 else 0.501
    assert np.abs(out - means).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 5])
def test_one_axis_may_shrink_while_the_other_grows(channels):
    image = np.repeat(image_of(24, 1, channels, np.float32), 10, axis=1)  # constant along x
    out = resize(image, 8, 35)
    expected = image[:, :1].reshape(8, 3, 1, channels).mean(axis=1)
    np.testing.assert_allclose(out, np.repeat(expected, 35, axis=1), atol=1e-6)


def test_to_unit_by_depth():
    np.testing.assert_array_equal(to_unit(np.array([0, 51, 255], np.uint8)), np.float32([0, 0.2, 1]))
    np.testing.assert_array_equal(to_unit(np.array([0, 13107, 65535], np.uint16)), np.float32([0, 0.2, 1]))
    np.testing.assert_array_equal(to_unit(np.array([-0.1, 0.2, 1.1], np.float32)), np.float32([0, 0.2, 1]))


@pytest.mark.parametrize(
    ("values", "words"), [([0, np.nan], "finite"), ([0, np.inf], "finite"), ([0, 255.0], "scale them")]
)
def test_float_pixels_that_mean_nothing_are_refused(values, words):
    with pytest.raises(ImageError, match=words):
        to_unit(np.array(values, np.float32))


def test_match_channels():
    grey = image_of(4, 5, 1)
    rgb = match_channels(grey, 3)
    np.testing.assert_array_equal(rgb, np.repeat(grey, 3, axis=2))
    np.testing.assert_array_equal(match_channels(rgb, 1), grey)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    assert match_channels(red, 1)[0, 0, 0] == 76  # Rec. 601: 0.299 of red, so the order is RGB
    for have, want in ((5, 3), (3, 5), (4, 3), (2, 1)):
        with pytest.raises(ImageError, match=f"has {have} channels, the network takes {want}"):
            match_channels(image_of(4, 4, have), want)


@given(sides, sides, sides, sides, fits, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_points_go_there_and_back_and_stay_inside(height, width, to_height, to_width, fit, x, y):
    transform = fit_transform((height, width), to_height, to_width, fit)
    points = np.array([[x * width, y * height], [0, 0], [width, height]])
    there = transform.to_network(points)
    assert (there >= -1e-9).all()
    assert (there <= np.array([to_width, to_height]) + 1e-9).all()
    np.testing.assert_allclose(transform.to_image(there), points, atol=1e-9)
    boxes = np.concatenate([points[1:2], points[:1]], axis=1)
    np.testing.assert_allclose(transform.to_network(boxes)[0], np.concatenate([there[1], there[0]]))


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (33, 47), (300, 170)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_mark_in_the_image_is_where_the_transform_says_and_comes_back(size, fit):
    height, width = size
    image = np.zeros((height, width, 1), np.float32)
    y0, y1, x0, x1 = height // 4, height // 2, width // 3, 2 * width // 3
    image[y0:y1, x0:x1] = 1
    out, transform = fit_image(image, 64, 96, fit)
    box = transform.to_network(np.array([x0, y0, x1, y1]))
    placed = out[..., 0].copy()
    if fit == "letterbox":  # the padding holds the mean, well below one half
        assert image.mean() < 0.4
    rows, columns = np.nonzero(placed > 0.5)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(found - box).max() <= 1
    back = map_to_image(out[..., 0], transform, size)
    assert back.shape == size
    rows, columns = np.nonzero(back > 0.5)
    one_pixel = max(1, 1 / min(transform.scale_x, transform.scale_y)) + 1e-9
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(found - [x0, y0, x1, y1]).max() <= one_pixel
    np.testing.assert_array_equal(back, map_to_image(out[..., 0], fit, size))


def test_letterbox_pads_with_the_mean_and_keeps_the_aspect():
    image = image_of(20, 40, 5)
    out, transform = fit_image(image, 40, 40, "letterbox")
    assert (transform.scale_x, transform.scale_y, transform.offset_x, transform.offset_y) == (1, 1, 0, 10)
    np.testing.assert_array_equal(out[10:30], image)
    assert np.abs(out[:10] - image.mean(axis=(0, 1))).max() <= 0.5
    np.testing.assert_array_equal(out[30:], out[:10])


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_flat_map_stays_flat_to_the_edges(fit):
    back = map_to_image(np.full((64, 64), 0.7, np.float32), fit, (30, 200))
    np.testing.assert_allclose(back, 0.7, atol=1e-6)
    assert back.shape == (30, 200)


@given(sides, sides, fits)
@settings(max_examples=100, deadline=None)
def test_masks_land_where_their_image_lands(height, width, fit):
    mask = image_of(height, width, 1)[..., 0] > 127
    scaled = fit_mask(mask, 3 * height, 3 * width, fit)
    np.testing.assert_array_equal(scaled, np.repeat(np.repeat(mask, 3, axis=0), 3, axis=1))
    full = np.ones((height, width), bool)
    _, transform = fit_image(np.ones((height, width, 1), np.float32), 24, 24, fit)
    inside = fit_mask(full, 24, 24, fit)
    assert inside.sum() == round(height * transform.scale_y) * round(width * transform.scale_x)
    assert fit_mask(full, 24, 24, fit, pad=True).all()
