"""The live picture of a camera, in a headless Chromium: figures of a known picture, and a picture that is kept."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Browser
from station_helpers import Server, wait_until

from blemish.imaging.read import read_image


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Without a recipe; a quarter of each picture is saturated."""
    frame = np.full((48, 64, 3), 100, np.uint8)
    frame[:24, :32] = 255
    video = cv2.VideoWriter(str(tmp_path / "belt.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 10, (64, 48))
    for _ in range(3):
        video.write(frame)
    video.release()
    (tmp_path / "images").mkdir()
    images = str(tmp_path / "images")
    started = Server(tmp_path / "station", "--line-camera", str(tmp_path / "belt.avi"), "--images", images)
    started.start("healthz")
    yield started
    started.kill()


def test_a_camera_is_set_up_and_its_pictures_are_kept(browser: Browser, server: Server, tmp_path: Path) -> None:
    page = browser
    page.open(f"{server.url}/camera")
    page.one("[data-name=camera-figures]", "25.00%")
    page.one("[data-name=camera-figures]", "64 × 48 px")
    page.one("[data-name=live-picture] img")
    page.fill("label", "good")
    page.click("[data-name=keep]")
    kept = tmp_path / "images" / "pictures" / "good"
    wait_until(lambda: kept.is_dir() and len(list(kept.iterdir())) == 1)
    image = read_image(next(kept.iterdir()))
    assert image.shape == (48, 64, 3)
    assert (image == 255).all(axis=2).mean() == 0.25
