"""Dark, blurred and shifted images."""

import math

import cv2
import numpy as np
import pytest

from blemish.imaging.quality import make_thumbnail, measure_quality
from blemish.station import image_quality


def test_dark_blurred_and_shifted_images_raise_their_alarm() -> None:
    rng = np.random.default_rng(1)
    image = (cv2.GaussianBlur(rng.random((300, 400)), (0, 0), 2) * 4 - 1.5).clip(0.05, 0.95)
    usual = (image * 200).astype(np.uint8)[..., None]
    moved = np.roll(usual, (12, 30), axis=(0, 1))
    reference = make_thumbnail(usual)
    base = measure_quality(usual, reference)

    def alarms(changed: np.ndarray) -> list[str]:
        return [alarm.kind for alarm in image_quality.compare_quality(base, measure_quality(changed, reference))]

    assert alarms(usual) == []
    assert alarms((usual * 0.5).astype(np.uint8)) == ["Dark images"]
    assert alarms(cv2.GaussianBlur(usual, (0, 0), 4)[..., None]) == ["Blurred images"]
    assert alarms(moved) == ["Shifted images"]
    assert measure_quality(moved, reference)["shift"] == pytest.approx(math.hypot(12, 30) / 400, rel=0.15)


@pytest.mark.parametrize("directed", [True, False])
def test_a_first_image_that_lay_askew_makes_no_shift_of_the_others(directed: bool) -> None:
    """The reference is shifted by 20 px of 400 along x; against the others, 20 px along y are as far."""
    rng = np.random.default_rng(1)
    usual = (cv2.GaussianBlur(rng.random((300, 400)), (0, 0), 2) * 800 - 300).clip(10, 190).astype(np.uint8)[..., None]
    reference = make_thumbnail(np.roll(usual, 20, axis=1))

    def measured(x: int, y: int) -> dict[str, float]:
        quality = measure_quality(np.roll(usual, (y, x), axis=(0, 1)), reference)
        return quality if directed else {name: quality[name] for name in quality if name not in ("shift_x", "shift_y")}

    base = measured(0, 0)
    assert base["shift"] == pytest.approx(20 / 400, rel=0.15)
    assert image_quality.compare_quality(base, base) == []
    for x, y in ((-20, 0), (20, 0), *([(0, 20), (0, -20)] if directed else [])):
        (alarm,) = image_quality.compare_quality(base, measured(x, y))
        assert alarm.kind == "Shifted images"
        assert alarm.value == pytest.approx(20 / 400, rel=0.2)
