"""The scale measured from a rendered target of known pitch."""

import cv2
import numpy as np
import pytest

from blemish.errors import ImageError
from blemish.imaging.scale import scale_from_target


def chessboard(square_x: float, square_y: float, turn: float = 0) -> np.ndarray:
    """A board of 8 x 6 fields, so 7 x 5 inner corners, rendered at four times its size and averaged down."""
    height, width = round(square_y * 8), round(square_x * 10)
    y, x = np.mgrid[0 : height * 4, 0 : width * 4] / 4
    column, row = np.floor(x / square_x - 1), np.floor(y / square_y - 1)
    dark = ((column + row) % 2 == 0) & (column >= 0) & (column < 8) & (row >= 0) & (row < 6)
    fine = np.where(dark, 40, 220).astype(np.uint8)
    image = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderValue=220)[..., None]


@pytest.mark.parametrize(("x", "y", "turn"), [(40.0, 40.0, 0), (37.3, 52.6, 0), (41.0, 41.0, 4)])
def test_chessboard(x, y, turn):
    found = scale_from_target(chessboard(x, y, turn), 7, 5, pitch_mm=2.0)
    assert found == (pytest.approx(x / 2, rel=5e-3), pytest.approx(y / 2, rel=5e-3))


def test_a_turned_target_under_pixels_that_are_not_square():
    image = chessboard(40.0, 40.0, 8)
    wide = cv2.resize(image, (round(image.shape[1] * 1.3), image.shape[0]), interpolation=cv2.INTER_LINEAR)
    assert scale_from_target(wide[..., None], 7, 5, 2.0) == (pytest.approx(26, rel=5e-3), pytest.approx(20, rel=5e-3))


def test_circles():
    image = np.full((400, 560, 3), 230, np.uint8)
    for row in range(5):
        for column in range(7):
            cv2.circle(image, (80 + 64 * column, 60 + 64 * row), 18, (30, 30, 30), -1, cv2.LINE_AA)
    assert scale_from_target(image, 7, 5, 4.0, "circles") == (pytest.approx(16, rel=5e-3),) * 2


def test_what_is_wrong_with_the_picture():
    with pytest.raises(ImageError, match="no chessboard of 7 x 5 points was found"):
        scale_from_target(np.full((200, 200, 1), 128, np.uint8), 7, 5, 1.0)
    with pytest.raises(ImageError, match="turned by"):
        scale_from_target(chessboard(40, 40, 20), 7, 5, 1.0)
