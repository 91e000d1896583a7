"""Parts found in pictures of known geometry: blobs, edges and patterns, shifted and turned; crops and the way back."""

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage.feature import match_template
from skimage.filters import threshold_otsu

from blemish.errors import ImageError
from blemish.geometry import polygon_mask
from blemish.imaging.blob import find_blob, otsu_threshold
from blemish.imaging.contour import find_contour
from blemish.imaging.part_locator import locate_part
from blemish.imaging.pattern_match import encode_pattern, match_pattern, normalised_correlation, rotate_pattern
from blemish.imaging.roi import BlobLocator, ContourLocator, PatternLocator, Roi
from blemish.imaging.rotated_crop import RotatedCrop

SIZE = (160, 240)


def rectangle(centre, degrees, height, width):
    """Corners of a rectangle that is rotated anticlockwise on the screen, by plain trigonometry."""
    angle = np.radians(degrees)
    along, down = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    return [
        tuple(np.array(centre) + a * width / 2 * along + b * height / 2 * down)
        for a, b in [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    ]


def drawn(corners, inside=200, outside=40, size=SIZE, noise=4):
    image = np.full(size, outside, np.float64)
    image[polygon_mask(corners, *size)] = inside
    image = cv2.GaussianBlur(image, (0, 0), 0.7) + np.random.default_rng(0).normal(0, noise, size)
    return image.clip(0, 255).astype(np.uint8)[..., None]


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("degrees", [0, 17, -31, 44])
def test_a_rotated_crop_and_the_way_back(degrees):
    crop = RotatedCrop((120, 80), degrees, 60, 100)
    np.testing.assert_allclose(crop.corners(), rectangle((120, 80), degrees, 60, 100), atol=1e-9)
    points = np.random.default_rng(1).uniform(0, 60, (20, 2))
    np.testing.assert_allclose(crop.to_crop(crop.to_image(points)), points, atol=1e-9)
    # A square drawn in the crop's own frame is upright in the crop, and back where it was in the image.
    image = np.zeros((*SIZE, 5), np.float32)
    own = np.array([[20, 10], [50, 10], [50, 40], [20, 40]], np.float64)
    mask = polygon_mask([tuple(p) for p in crop.to_image(own)], *SIZE)
    image[mask] = 1
    cut = crop.crop(image)
    assert cut.shape == (60, 100, 5)
    expected = np.zeros((60, 100), bool)
    expected[10:40, 20:50] = True
    for layer in range(5):
        assert overlap(cut[..., layer] >= 0.5, expected) > 0.93
    assert overlap(crop.crop_mask(mask), expected) > 0.93
    back = crop.map_to_image(expected.astype(np.float32), SIZE)
    assert overlap(back >= 0.5, mask) > 0.95
    np.testing.assert_allclose(
        crop.boxes_to_image(np.array([[20, 10, 50, 40]])),
        [[*crop.to_image(own).min(axis=0), *crop.to_image(own).max(axis=0)]],
    )


def test_a_crop_that_is_not_rotated_is_a_plain_slice():
    image = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    crop = RotatedCrop((50, 40), 0, 20, 30)
    np.testing.assert_array_equal(crop.crop(image), image[30:50, 35:65])
    assert crop.boxes_to_crop(np.array([[35, 30, 65, 50]])).tolist() == [[0, 0, 30, 20]]
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    np.testing.assert_allclose(crop.map_to_image(values, SIZE)[30:50, 35:65], values, atol=1e-6)


@pytest.mark.parametrize("side", ["bright", "dark"])
@pytest.mark.parametrize("level", ["otsu", 0.47])
def test_the_largest_blob_is_found_with_its_holes(side, level):
    corners = rectangle((100, 70), 0, 50, 80)
    image = drawn(corners, *((200, 40) if side == "bright" else (40, 200)))
    image[60:70, 90:100] = 255 - image[60:70, 90:100]  # a defect in it, on the other side of the level
    image[140:145, 220:225] = image[70, 70]  # a speck of the part's grey
    found = find_blob(image, level, side)
    assert overlap(found, polygon_mask(corners, *SIZE)) > 0.97
    assert found[60:70, 90:100].all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_otsus_level_is_the_one_of_scikit_image(seed, share):
    rng = np.random.default_rng(seed)
    grey = np.where(rng.random((60, 60)) < share, rng.normal(0.3, 0.04, (60, 60)), rng.normal(0.7, 0.06, (60, 60)))
    grey = grey.clip(0, 1).astype(np.float32)
    ours, reference = otsu_threshold(grey), threshold_otsu(grey, nbins=4096)
    assert np.mean((grey > ours) != (grey > reference)) < 0.005


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32])
def test_an_edge_is_found_between_equal_greys(depth):
    corners = rectangle((110, 75), 20, 70, 110)
    inside = polygon_mask(corners, *SIZE)
    image = np.full(SIZE, 100.0)
    rim = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    image[rim] = 160
    image = (image + np.random.default_rng(0).normal(0, 2, SIZE)).clip(0, 255) / 255
    scale = 1.0 if depth == np.float32 else np.iinfo(depth).max
    found = find_contour((image * scale).astype(depth)[..., None])
    assert overlap(found, inside | rim) > 0.93
    assert found[inside].all()


def test_the_edge_of_a_step_is_where_the_step_is():
    corners = rectangle((110, 75), 20, 70, 110)
    assert overlap(find_contour(drawn(corners)), polygon_mask(corners, *SIZE)) > 0.96


def make_pattern(seed=0, size=(48, 60)):
    noise = np.random.default_rng(seed).normal(0, 1, size)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def placed(pattern, centre, degrees, gain=0.6, offset=0.2, size=SIZE, noise=0.02):
    """The pattern laid into a picture at a place and an angle, with less contrast and some noise."""
    height, width = pattern.shape
    spot = RotatedCrop(centre, degrees, height, width)
    field = cv2.GaussianBlur(np.random.default_rng(5).random(size), (0, 0), 3).astype(np.float32)
    inside = polygon_mask([tuple(p) for p in spot.corners()], *size)
    field[inside] = spot.map_to_image(pattern, size)[inside]
    noisy = gain * field + offset + np.random.default_rng(6).normal(0, noise, size)
    return noisy.clip(0, 1).astype(np.float32)


def test_correlation_is_that_of_scikit_image():
    image = np.random.default_rng(0).random((50, 70)).astype(np.float32)
    pattern = image[10:26, 20:45] + np.random.default_rng(1).normal(0, 0.1, (16, 25)).astype(np.float32)
    ours = normalised_correlation(image, pattern, np.ones(pattern.shape, np.float32))
    np.testing.assert_allclose(ours, match_template(image, pattern), atol=1e-4)


def test_masked_correlation_by_brute_force():
    image = np.random.default_rng(0).random((30, 32)).astype(np.float32)
    pattern, mask = rotate_pattern(make_pattern(3, (9, 12)), 30)
    ours = normalised_correlation(image, pattern, mask)
    keep = mask > 0
    for y, x in [(0, 0), (3, 7), (ours.shape[0] - 1, ours.shape[1] - 1)]:
        own = image[y : y + pattern.shape[0], x : x + pattern.shape[1]][keep]
        assert ours[y, x] == pytest.approx(np.corrcoef(own, pattern[keep])[0, 1], abs=1e-4)


@pytest.mark.parametrize("angle", [0.0, 3.3, -25.0, 90.0, 178.0])
@pytest.mark.parametrize("size", [(48, 60), (16, 20), (90, 40)])
def test_a_rotated_pattern_is_found_to_parts_of_a_pixel(angle, size):
    pattern = make_pattern(1, size)
    centre = (121.3, 77.8)
    match = match_pattern(placed(pattern, centre, angle), pattern, max_degrees=180)
    assert np.hypot(match.centre[0] - centre[0], match.centre[1] - centre[1]) < 0.7
    assert abs((match.degrees - angle + 180) % 360 - 180) < 1.5
    assert match.score > 0.85


def test_a_pattern_in_the_corner_of_the_image():
    pattern = make_pattern(2)
    image = placed(pattern, (30, 24), 0)
    match = match_pattern(image, pattern, max_degrees=10)
    np.testing.assert_allclose(match.centre, (30, 24), atol=0.5)
    assert match_pattern(image[:48, :60], pattern).centre == pytest.approx((30, 24), abs=0.1)


def test_without_rotation_the_crop_is_a_slice():
    pattern = make_pattern(2)
    image = (placed(pattern, (80, 70), 0) * 255).astype(np.uint8)[..., None]
    roi = Roi(pattern=PatternLocator(png=encode_pattern(pattern), crop=(-10, -5, 70, 53)))
    place = locate_part(image, roi)
    assert place.rotated is None
    assert place.box == (40, 41, 120, 99)


@pytest.mark.parametrize("locator", [{"blob": BlobLocator(upright=True)}, {"contour": ContourLocator(upright=True)}])
@pytest.mark.parametrize("degrees", [-40, -12, 0, 25])
def test_an_upright_crop_of_a_rotated_part(locator, degrees):
    corners = rectangle((118, 82), degrees, 50, 90)
    place = locate_part(drawn(corners), Roi(**locator))
    assert abs(place.rotated.degrees - degrees) < 1.5
    assert abs(place.rotated.height - 50) <= 3
    assert abs(place.rotated.width - 90) <= 3
    assert overlap(place.valid_pixels(SIZE), polygon_mask(corners, *SIZE)) > 0.93


def test_a_rotated_part_that_goes_with_a_pattern():
    pattern = make_pattern(4)
    spot = RotatedCrop((100, 80), 20, *pattern.shape)
    image = (placed(pattern, (100, 80), 20) * 255).astype(np.uint8)[..., None]
    place = locate_part(
        image, Roi(pattern=PatternLocator(png=encode_pattern(pattern), degrees=30, crop=(-15, -10, 75, 30)))
    )
    expected = spot.to_image(np.array([[-15, -10], [75, -10], [75, 30], [-15, 30]]))
    np.testing.assert_allclose(place.rotated.corners(), expected, atol=1.0)
    assert place.valid.shape == (40, 90)
    assert place.valid.all()


def test_margin_valid_pixels_and_the_search_rectangle():
    corners = [(60.0, 40.0), (100.0, 40.0), (60.0, 80.0)]
    image = drawn(corners)
    image[100:150, 120:230] = 200  # larger, but outside the rectangle
    limits = {"image_height": 160, "image_width": 240, "rectangle": (40, 20, 115, 95)}
    box = locate_part(image, Roi(**limits, blob=BlobLocator(margin=4)))
    assert np.abs(np.subtract(box.box, (56, 36, 104, 84))).max() <= 1
    assert box.valid.all()
    at_the_edge = locate_part(image, Roi(**limits, blob=BlobLocator(margin=400)))
    assert at_the_edge.box == (40, 20, 115, 95)
    outline = locate_part(image, Roi(**limits, blob=BlobLocator(valid="outline")))
    assert outline.valid.mean() == pytest.approx(0.5, abs=0.05)
    hull = locate_part(
        image, Roi(**limits, blob=BlobLocator(valid="hull"), ignore=[[(60, 40), (70, 40), (70, 50), (60, 50)]])
    )
    assert not hull.valid[:8, :8].any()


FLAT = np.full((*SIZE, 1), 90, np.uint8)
NOISE = np.random.default_rng(0).normal(90, 2, (*SIZE, 1)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("image", [FLAT, NOISE])
@pytest.mark.parametrize(
    "roi",
    [
        Roi(blob=BlobLocator()),
        Roi(blob=BlobLocator(level=0.9)),
        Roi(contour=ContourLocator()),
        Roi(pattern=PatternLocator(png=encode_pattern(make_pattern()), degrees=10)),
    ],
)
def test_no_part_is_one_clear_line(image, roi):
    with pytest.raises(ImageError, match="no part was found") as caught:
        locate_part(image, roi)
    assert "\n" not in str(caught.value)


def test_an_open_line_encloses_nothing():
    image = np.full(SIZE, 90, np.uint8)
    cv2.line(image, (40, 40), (200, 100), 200, 3)
    with pytest.raises(ImageError, match="no closed outline"):
        find_contour(image[..., None])


def test_an_image_smaller_than_the_pattern():
    with pytest.raises(ImageError, match="smaller than the pattern"):
        locate_part(FLAT[:20, :20], Roi(pattern=PatternLocator(png=encode_pattern(make_pattern()))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no base64!", "base64"),
        (base64.b64encode(b"GIF89a").decode(), "PNG"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode(), "damaged"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\x00\x01\x00\x00" * 2).decode(), "million"),
        (base64.b64encode(cv2.imencode(".png", FLAT[:30, :30])[1].tobytes()).decode(), "one grey"),
    ],
)
def test_a_pattern_that_is_none_is_refused(content, words):
    with pytest.raises(ValidationError, match=words):
        PatternLocator(png=content)


def test_a_roi_is_complete_and_has_one_way_to_find_the_part():
    with pytest.raises(ValidationError, match="image_height"):
        Roi(rectangle=(0, 0, 10, 10))
    with pytest.raises(ValidationError, match="image_height"):
        Roi()
    with pytest.raises(ValidationError, match="one of"):
        Roi(blob=BlobLocator(), contour=ContourLocator())
