"""The scale measured from a rendered target of known pitch."""

import cv2
import numpy as np
import pytest

from blemish.errors import ImageError
from blemish.imaging.scale import fit_scale, scale_from_target


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


@pytest.mark.parametrize(("x", "y", "turn"), [(40.0, 40.0, 0), (37.3, 52.6, 0), (41.0, 41.0, 4), (40.0, 40.0, 20)])
def test_chessboard(x, y, turn):
    found = scale_from_target(chessboard(x, y, turn), 7, 5, pitch_mm=2.0)
    assert (found.x, found.y) == (pytest.approx(x / 2, rel=5e-3), pytest.approx(y / 2, rel=5e-3))
    assert found.residual_px < 0.2
    assert max(abs(found.x * 2 / x - 1), abs(found.y * 2 / y - 1)) <= found.uncertainty < 0.02


def test_a_turned_target_under_pixels_that_are_not_square():
    image = chessboard(40.0, 40.0, 8)
    wide = cv2.resize(image, (round(image.shape[1] * 1.3), image.shape[0]), interpolation=cv2.INTER_LINEAR)
    found = scale_from_target(wide[..., None], 7, 5, 2.0)
    assert (found.x, found.y) == (pytest.approx(26, rel=5e-3), pytest.approx(20, rel=5e-3))


def test_circles():
    image = np.full((400, 560, 3), 230, np.uint8)
    for row in range(5):
        for column in range(7):
            cv2.circle(image, (80 + 64 * column, 60 + 64 * row), 18, (30, 30, 30), -1, cv2.LINE_AA)
    found = scale_from_target(image, 7, 5, 4.0, "circles", pitch_uncertainty_mm=0.04)
    assert (found.x, found.y) == (pytest.approx(16, rel=5e-3),) * 2
    assert 0.01 <= found.uncertainty < 0.015


def test_what_is_wrong_with_the_picture():
    with pytest.raises(ImageError, match="no chessboard of 7 x 5 points was found"):
        scale_from_target(np.full((200, 200, 1), 128, np.uint8), 7, 5, 1.0)


def camera_points(tilt: float, barrel: float):
    """A grid of 11 x 9 points, 5 mm apart, by OpenCV's camera of 1,000 x 800 px at 20 px/mm, tilted and with a lens."""
    column, row = np.meshgrid(np.arange(11) - 5.0, np.arange(9) - 4.0)
    target = 5.0 * np.stack([column.ravel(), row.ravel()], axis=1)
    focal, distance = 4000.0, 200.0  # 20 px/mm in the middle
    camera = np.array([[focal, 0, 499.5], [0, focal, 399.5], [0, 0, 1]])
    corner = np.hypot(500, 400) / focal
    solid = np.column_stack([target, np.zeros(len(target))])
    rotation = np.array([0.0, np.radians(tilt), 0.0])
    move = np.array([0.0, 0.0, distance])
    pixels, _ = cv2.projectPoints(solid, rotation, move, camera, np.array([barrel / corner**2, 0, 0, 0]))
    return target, pixels.reshape(-1, 2)


def test_perspective_and_lens_are_kept_apart_from_the_scale():
    plain = fit_scale(*camera_points(0, 0), (800, 1000))
    assert (plain.x, plain.y, plain.residual_px) == pytest.approx((20, 20, 0), abs=1e-4)
    assert (plain.distortion, plain.perspective, plain.uncertainty) == pytest.approx((0, 0, 0), abs=1e-4)
    lens = fit_scale(*camera_points(0, -0.04), (800, 1000))
    assert lens.distortion == pytest.approx(1 / 1.0457 - 1, abs=0.003)  # r (1 - 0.04 r^2) = 1 at r = 1.0457
    assert lens.residual_px < 0.2
    assert lens.perspective < 0.01
    # Brown's local scales: 1 + 3 k r^2 along the radius, 1 + k r^2 across; the least one is 12 % below the middle's
    assert 0.02 < lens.variation < 0.12
    tilted = fit_scale(*camera_points(5, 0), (800, 1000))
    assert abs(tilted.distortion) < 0.002
    # depths of the image's left and right ends differ by 50 mm x sin(5 degrees); along x the scale goes by its square
    assert tilted.perspective == pytest.approx(2 * 2 * 25 * np.sin(np.radians(5)) / 200, rel=0.15)
    assert tilted.y == pytest.approx(20, rel=0.01)
    assert tilted.variation > 0.01


def test_the_uncertainty_holds_lengths_that_are_measured_with_the_mean_scale():
    """Nine of ten short lengths anywhere in the image, by their true size and by the scale."""
    target, pixels = camera_points(4, -0.03)
    found = fit_scale(target, pixels, (800, 1000))
    grid, places = target.reshape(9, 11, 2), pixels.reshape(9, 11, 2)
    errors = []
    for axis in (0, 1):
        true = np.linalg.norm(np.diff(grid, axis=axis), axis=2)
        step = np.diff(places, axis=axis) / (found.x, found.y)
        errors.append(np.abs(np.linalg.norm(step, axis=2) / true - 1).ravel())
    assert np.mean(np.concatenate(errors) <= found.uncertainty) >= 0.9


def test_a_telecentric_lens_has_no_perspective():
    """The same points by an affine camera with a lens distortion; a perspective one does not fit the model."""
    target, _ = camera_points(0, 0)
    turned = target @ np.array([[19.0, 3.0], [-3.0, 21.0]]).T
    radius = np.hypot(500, 400)
    for strength in (0.0, 0.02):  # straight = distorted x (1 + strength r^2)
        away = turned.copy()
        for _ in range(50):
            away = turned / (1 + strength * (away**2).sum(axis=1, keepdims=True) / radius**2)
        found = fit_scale(target, away + np.array([499.5, 399.5]), (800, 1000), telecentric=True)
        assert found.residual_px < 1e-3
        assert found.perspective == pytest.approx(0, abs=1e-9)
        assert found.distortion == pytest.approx(1 / (1 + strength) - 1, abs=1e-4)
        if not strength:
            assert (found.x, found.y) == pytest.approx((np.hypot(19, 3), np.hypot(3, 21)))
    free = fit_scale(*camera_points(5, 0), (800, 1000))
    with pytest.raises(ImageError, match="under a telecentric lens"):
        fit_scale(*camera_points(5, 0), (800, 1000), telecentric=True)
    assert free.residual_px < 0.2


def test_a_target_that_is_not_flat_is_refused():
    target, pixels = camera_points(0, 0)
    pixels[:, 0] += 6 * np.sin(target[:, 1] / 4)
    with pytest.raises(ImageError, match="off a flat target"):
        fit_scale(target, pixels, (800, 1000))
