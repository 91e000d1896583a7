"""Regions of interest from a YAML file: the image of a pattern, and one clear line for each mistake."""

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.errors import ImageError, OptionError
from blemish.imaging.read import read_image, write_image
from blemish.imaging.roi import BlobLocator, Roi
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.roi_file import read_roi

SIZE = (180, 260)
AT_HALF = Decision(review=0.5, reject=0.6, map_low=0.64, map_high=0.66)


def test_a_roi_file_with_a_pattern_cut_from_an_image(tmp_path):
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8), (0, 0), 2)
    write_image(tmp_path / "first.png", image[..., None])
    (tmp_path / "roi.yaml").write_text(
        "pattern:\n  file: first.png\n  cut: [50, 60, 90, 100]\n  crop: [40, 50, 140, 120]\n  degrees: 5\n"
    )
    roi = read_roi(tmp_path / "roi.yaml")
    assert roi.pattern.crop == (-10, -10, 90, 60)
    assert Roi.model_validate_json(roi.model_dump_json()) == roi
    path = anomaly_bundle(tmp_path / "g.blemish", AT_HALF, roi=roi)
    moved = np.roll(read_image(tmp_path / "first.png"), (7, -12), (0, 1))
    valid = Inspector.open(path).inspect(moved).valid
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], [28, 57, 128, 127], atol=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "blob, contour and pattern"),
        ("rectangle: [0, 0, 9, 9]", "image_height"),
        ("blob: {levle: 3}", "blob.levle"),
        ("blob: {level: bright}", "blob.level"),
        ("blub: {}", "did you mean blob"),
        ("pattern: {file: none.png}", "none.png"),
        ("pattern: {file: i.png, cut: [0, 0, 999, 10]}", "is not inside"),
        ("pattern: {file: i.png, cut: [0, 0]}", "four numbers"),
        ("pattern: {file: i.png, cut: [0, 0, 20, 20]}", "one grey"),
        ("{", "neither YAML nor JSON"),
    ],
)
def test_a_bad_roi_file_is_one_clear_line(tmp_path, text, words):
    write_image(tmp_path / "i.png", np.zeros((120, 200, 1), np.uint8))
    (tmp_path / "roi.yaml").write_text(text)
    with pytest.raises((OptionError, ImageError), match=words) as caught:
        read_roi(tmp_path / "roi.yaml")
    assert "\n" not in str(caught.value)


def test_a_locator_without_settings_has_its_defaults(tmp_path):
    (tmp_path / "good.yaml").write_text("blob:\n")
    assert read_roi(tmp_path / "good.yaml").blob == BlobLocator()
