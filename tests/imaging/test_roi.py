"""Regions of interest: boxes and masks of known geometry, scaled with the image."""

import numpy as np
import pytest

from blemish.errors import ImageError
from blemish.imaging.roi import Roi, locate_roi

IMAGE = np.zeros((100, 200, 3), np.uint8)


def test_without_a_roi_all_of_the_image_counts():
    box, valid = locate_roi(IMAGE, None)
    assert box == (0, 0, 200, 100)
    assert valid.shape == (100, 200)
    assert valid.all()


@pytest.mark.parametrize(("size", "expected"), [((100, 200), (10, 20, 60, 80)), ((50, 400), (20, 10, 120, 40))])
def test_a_rectangle_is_scaled_to_the_image(size, expected):
    roi = Roi(image_height=100, image_width=200, rectangle=(10, 20, 60, 80))
    box, valid = locate_roi(np.zeros((*size, 1)), roi)
    assert box == expected
    assert valid.shape == (box[3] - box[1], box[2] - box[0])
    assert valid.all()


def test_a_rectangle_beyond_the_image_is_cut_to_it():
    roi = Roi(image_height=100, image_width=200, rectangle=(150, -20, 260, 30))
    assert locate_roi(IMAGE, roi)[0] == (150, 0, 200, 30)


def test_polygon_and_ignored_polygons():
    square = [(20.0, 10.0), (60.0, 10.0), (60.0, 50.0), (20.0, 50.0)]
    hole = [(30.0, 20.0), (40.0, 20.0), (40.0, 30.0), (30.0, 30.0)]
    box, valid = locate_roi(IMAGE, Roi(image_height=100, image_width=200, polygon=square, ignore=[hole]))
    assert box == (20, 10, 60, 50)
    expected = np.ones((40, 40), bool)
    expected[10:20, 10:20] = False
    np.testing.assert_array_equal(valid, expected)


def test_rectangle_and_polygon_both_limit():
    diamond = [(100.0, 0.0), (200.0, 50.0), (100.0, 100.0), (0.0, 50.0)]
    roi = Roi(image_height=100, image_width=200, polygon=diamond, rectangle=(0, 0, 100, 50))
    box, valid = locate_roi(IMAGE, roi)
    assert box == (1, 0, 100, 50)  # no pixel centre of the first column is inside the diamond
    assert valid.mean() == pytest.approx(0.5, abs=0.02)
    assert valid[-1, -1]
    assert not valid[0, 0]


@pytest.mark.parametrize(
    ("roi", "words"),
    [
        ({"rectangle": (300, 10, 400, 20)}, "region of interest"),
        ({"rectangle": (50, 50, 50, 60)}, "region of interest"),
        ({"polygon": [(-50.0, -50.0), (-10.0, -50.0), (-10.0, -10.0)]}, "region of interest"),
        ({"polygon": [(0.0, 0.0), (10.0, 10.0)]}, "three"),
        ({"rectangle": (0, 0, 9, 9), "ignore": [[(-1.0, -1.0), (20.0, -1.0), (20.0, 20.0), (-1.0, 20.0)]]}, "ignored"),
    ],
)
def test_nothing_left_is_one_clear_line(roi, words):
    with pytest.raises(ImageError, match=words) as caught:
        locate_roi(IMAGE, Roi(image_height=100, image_width=200, **roi))
    assert "\n" not in str(caught.value)
