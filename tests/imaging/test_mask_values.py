"""Masks as people write them: read right, or refused, so that no defect vanishes because its value is low."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from blemish.errors import ImageError
from blemish.imaging.mask_values import marked_pixels
from blemish.imaging.read import read_mask, write_image

SHAPE = np.zeros((40, 60), np.bool_)
SHAPE[10:20, 15:40] = True
SHAPE[30:33, 5:8] = True


@pytest.mark.parametrize("value", [1, 128, 200, 255, 1023, 4095, 16383, 40000, 65535])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_one_value_and_0_are_marked_and_not(value, dtype):
    if value > 255 and dtype == np.uint8:
        pytest.skip("no such value")
    np.testing.assert_array_equal(marked_pixels((SHAPE * value).astype(dtype)), SHAPE)


@pytest.mark.parametrize("value", [2, 3, 64, 127, 300, 500, 2000, 0.3])
def test_a_single_low_value_is_refused_with_its_name(value):
    with pytest.raises(ValueError, match=rf"values 0, {value} do not say .* classes\.txt"):
        marked_pixels((SHAPE * value).astype(np.float32 if value < 1 else np.uint16))


@pytest.mark.parametrize("values", [(1, 2), (85, 255), (1, 255), (2, 200), (300, 301), (127, 128), (50, 100)])
def test_regions_of_several_values_are_refused(values):
    numbers = np.where(SHAPE, np.where(np.arange(60) < 20, *values), 0)
    with pytest.raises(ValueError, match="do not say"):
        marked_pixels(numbers.astype(np.uint16))


@pytest.mark.parametrize("values", [[-1, 0, 1], [0, np.nan, 1], [0, 1, 70000], [0, 1.5, 2]])
def test_numbers_that_no_mask_holds_are_refused(values):
    with pytest.raises(ValueError, match="do not say"):
        marked_pixels(np.array([values], np.float32))


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("full", [255, 4095, 65535])
def test_soft_edges_are_cut_at_half(sigma, full):
    disc = cv2.circle(np.zeros((60, 60), np.float32), (30, 30), 14, 1.0, -1)
    soft = np.rint(cv2.GaussianBlur(disc, (0, 0), sigma) * full).astype(np.uint16)
    np.testing.assert_array_equal(marked_pixels(soft), soft > full // 2)
    assert (marked_pixels(soft) == (disc > 0)).mean() > 0.95


@pytest.mark.parametrize("quality", [30, 60, 75, 95])
def test_jpeg_masks_keep_their_regions(tmp_path, quality):
    Image.fromarray((SHAPE * 255).astype(np.uint8)).convert("RGB").save(tmp_path / "mask.jpg", quality=quality)
    mask = read_mask(tmp_path / "mask.jpg", SHAPE.shape)
    assert (mask & SHAPE).sum() / (mask | SHAPE).sum() > 0.9


def picture_with_alpha(kind):
    alpha = Image.fromarray((SHAPE * 255).astype(np.uint8))
    if kind == "grey":
        return Image.merge("LA", [Image.new("L", alpha.size, 255), alpha])
    colour = alpha if kind == "both" else Image.new("L", alpha.size, {"white": 255, "black": 0, "opaque": 0}[kind])
    return Image.merge("RGBA", [colour, colour, colour, alpha])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kind", ["white", "black", "both", "grey"])
def test_what_is_drawn_on_a_transparent_ground_is_marked(tmp_path, form, kind):
    if (form, kind) == ("WEBP", "grey"):
        pytest.skip("no such files")
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    picture_with_alpha(kind).save(tmp_path / "mask.x", form, **options)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.x"), SHAPE)


def test_an_opaque_mask_is_read_by_its_colours(tmp_path):
    grey = Image.fromarray((SHAPE * 255).astype(np.uint8))
    Image.merge("RGBA", [grey, grey, grey, Image.new("L", grey.size, 255)]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), SHAPE)


def palette_mask(indices, colours):
    picture = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def test_palettes_of_two_colours_are_read_and_dark_ones_of_more_are_refused(tmp_path):
    path = tmp_path / "mask.png"
    for colours in ([(0, 0, 0), (64, 0, 0)], [(0, 0, 0), (255, 0, 0)], [(20, 20, 20), (90, 90, 90)]):
        palette_mask(SHAPE, colours).save(path)
        np.testing.assert_array_equal(read_mask(path), SHAPE)
        palette_mask(~SHAPE, colours[::-1]).save(path)
        np.testing.assert_array_equal(read_mask(path), SHAPE)
        palette_mask(SHAPE & False, colours).save(path)
        assert not read_mask(path).any()
    palette_mask(SHAPE, [(0, 0, 0), (64, 0, 0), (0, 64, 0)]).save(path)
    with pytest.raises(ImageError, match=r"mask\.png: its values 0, 64 do not say .* classes\.txt"):
        read_mask(path)
    palette_mask(SHAPE, [(0, 0, 0), (128, 0, 0), (0, 64, 0)]).save(path)
    np.testing.assert_array_equal(read_mask(path), SHAPE)


levels = st.sampled_from([0, 1, 2, 90, 255])


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=levels))
@settings(max_examples=150, deadline=None)
def test_a_mask_with_any_value_is_never_empty(values):
    try:
        mask = marked_pixels(values)
    except ValueError:
        assert 0 < values[values > 0].min(initial=255) < 128
    else:
        assert mask.any() == values.any()
        assert mask[values == 255].all()


def test_numbers_in_a_file_are_refused_by_its_name(tmp_path):
    write_image(tmp_path / "part 7.png", (SHAPE * np.arange(60) // 5).astype(np.uint8))
    with pytest.raises(ImageError, match=r"part 7\.png: its values 0, 1, 3, 4, 5, 6, 7 do not"):
        read_mask(tmp_path / "part 7.png")
