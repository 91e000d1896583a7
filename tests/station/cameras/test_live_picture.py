"""The figures of a live picture against pixels that are counted by hand, and kept pictures read back as a data set."""

import cv2
import numpy as np
import pytest

from blemish.dataset.read import read_dataset
from blemish.errors import OptionError
from blemish.imaging.read import read_image
from blemish.station.cameras.live_picture import BINS, SHOWN_SIDE, draw_grid, examine, keep_picture


def test_exposure():
    image = np.full((10, 20, 1), 100, np.uint8)
    image[0, :4] = 0
    image[1, :6] = 255
    shown = examine(image)
    assert (shown.black, shown.white, shown.size) == (4 / 200, 6 / 200, (10, 20))
    assert sum(shown.histogram) == 200
    assert shown.histogram[100 * BINS // 255] == 190
    assert (shown.histogram[0], shown.histogram[-1]) == (4, 6)
    colour = np.repeat(image, 3, axis=2)
    colour[2, :10, 2] = 255  # one channel is enough to lose the colour
    assert examine(colour).white == 16 / 200
    deep = examine(image.astype(np.uint16) * 257)
    assert (deep.black, deep.white, deep.histogram) == (shown.black, shown.white, shown.histogram)


def test_a_sharper_picture_has_a_higher_focus_figure():
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (200, 200)).astype(np.uint8), (0, 0), 1)
    focus = [examine(cv2.GaussianBlur(scene, (0, 0), blur)[..., None]).focus for blur in (0.5, 1.5, 3.0)]
    assert focus[0] > focus[1] > focus[2]


def test_size_and_grid():
    image = np.zeros((600, 1600, 1), np.uint8)
    shown = cv2.imdecode(np.frombuffer(examine(image, grid=True).png, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (SHOWN_SIDE * 600 // 1600, SHOWN_SIDE, 3)
    assert shown[150, 10].any()  # the middle line
    plain = np.zeros((16, 16, 3), np.uint8)
    lines = draw_grid(plain).any(axis=2)
    assert set(np.flatnonzero(lines.all(axis=1))) == set(range(2, 16, 2))
    assert not plain.any()


def test_kept_pictures_are_a_data_set(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 1), np.uint8)
    paths = [keep_picture(tmp_path, "caps", label, image) for label in ("good", "good", "scratch")]
    assert len(set(paths)) == 3
    assert (read_image(paths[0]) == image).all()
    dataset = read_dataset(tmp_path / "caps")
    assert sorted(sample.label for sample in dataset.samples) == ["good", "good", "scratch"]
    for name, label in (("../x", "good"), ("x", "../good"), ("x", ""), ("", "good")):
        with pytest.raises(OptionError, match="cannot be the name"):
            keep_picture(tmp_path, name, label, image)
