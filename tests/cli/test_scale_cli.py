"""`blemish scale`, from the picture of a target to a bundle that measures in mm."""

import sys

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

import blemish.cli
from blemish.imaging.pixel_range import PixelSpec
from blemish.inspection.bundle import open_bundle
from blemish.inspection.manifest import InputSpec

GIVEN = ("--columns", "7", "--rows", "5")


@pytest.fixture
def target(tmp_path):
    """7 x 5 circles, 64 px apart along x and 48 along y."""
    image = np.full((320, 560, 3), 230, np.uint8)
    for row in range(5):
        for column in range(7):
            cv2.ellipse(image, (80 + 64 * column, 60 + 48 * row), (18, 14), 0, 0, 360, (30, 30, 30), -1, cv2.LINE_AA)
    cv2.imwrite(str(tmp_path / "target.png"), image)
    return tmp_path / "target.png"


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"scale": "Inspect", "decide": "Inspect"})

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", "scale", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            blemish.cli.main()
        return left.value.code, capsys.readouterr()

    return command


def test_scale_is_shown_and_written_into_the_bundle(run, target, tmp_path):
    bundle = anomaly_bundle(tmp_path / "run" / "grey.blemish", side=64)
    code, shown = run(target, *GIVEN, "--pitch-mm", "4", "--pattern", "circles", "--bundle", tmp_path / "run")
    assert code == 0
    scale = open_bundle(bundle).manifest.scale
    assert (scale.x, scale.y) == (pytest.approx(16, rel=5e-3), pytest.approx(12, rel=5e-3))
    assert shown.out.startswith("--px-per-mm 16.0,12.0\n")


@pytest.mark.parametrize(("sizes", "code"), [(((320, 320), (560, 560)), 0), (((240, 240), (560, 560)), 2),
                                             (((320, 320), (280, 560)), 0)])  # fmt: skip
def test_a_target_of_another_size_than_the_images_is_refused(run, target, tmp_path, sizes, code):
    pixels = PixelSpec(ranges={"uint8": (0, 255)}, height=sizes[0], width=sizes[1])
    spec = InputSpec(channels=1, height=64, width=64, pixels=pixels)
    bundle = anomaly_bundle(tmp_path / "grey.blemish", input=spec)
    options = ("--pitch-mm", "4", "--pattern", "circles", "--bundle", bundle, "--json", tmp_path / "s.json")
    left, shown = run(target, *GIVEN, *options)
    assert left == code
    assert (open_bundle(bundle).manifest.scale is None) == (not (tmp_path / "s.json").exists()) == (code == 2)
    assert ("has 560×320 pixels, and the images of the bundle 560×240" in shown.err) == (code == 2)
    assert ("the scale holds for 560×320 only" in shown.err) == (sizes[1] == (280, 560))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pitch-mm", "4"), "no chessboard of 7 x 5 points was found"),
        (("--pitch-mm", "4", "--pattern", "stars"), "not one of 'chessboard', 'circles'"),
        (("--pitch-mm", "0"), "positive number"),
        (("--pitch-mm", "4", "--bundle", "nowhere"), "there is no bundle"),
    ],
)
def test_one_clear_line(run, target, options, words):
    code, shown = run(target, *GIVEN, *options)
    assert code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
