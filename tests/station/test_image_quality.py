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
