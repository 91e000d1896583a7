"""Pictures of inspections, at any size and depth."""

import numpy as np
import pytest

from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.report.overlay import COLOURS, MIN_SIDE, draw_outline, draw_overlay, heat_image, heat_range


def inspection(height, width, regions=(), verdict=Verdict.REJECT, heat=True):
    heat_map = np.zeros((height, width), np.float32)
    heat_map[height // 2 :] = 1
    return Inspection(verdict, "crack", 0.9, list(regions), (height, width), heat_map if heat else None)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 900), (40, 60), (200, 200), (512, 700), (2000, 300)])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.float32, 5)])
def test_overlay_of_any_image(height, width, dtype, channels):
    image = np.zeros((height, width, channels), dtype)
    image[: height // 2] = 1 if dtype == np.float32 else np.iinfo(dtype).max
    before = image.copy()
    box = (width // 4, height // 4, max(width // 4 + 1, width // 2), max(height // 4 + 1, height // 2))
    mask = np.ones((box[3] - box[1], box[2] - box[0]), bool)
    regions = [Region("crack", 0.9, box, mask), Region("pit", 0.5, box), Region("Riß, ein langer Name" * 9, 0.4, box)]
    drawn = draw_overlay(image, inspection(height, width, regions))
    np.testing.assert_array_equal(image, before)
    zoom = drawn.shape[0] // height
    assert drawn.dtype == np.uint8
    assert drawn.shape == (zoom * height, zoom * width, 3)
    assert max(drawn.shape) >= MIN_SIDE
    assert zoom == 1 or max(height, width) < MIN_SIDE
    assert tuple(drawn[0, -1]) == COLOURS[Verdict.REJECT]  # the frame has the colour of the verdict


def test_outlines_follow_the_region():
    image = np.full((500, 500, 3), 128, np.uint8)
    mask = np.zeros((100, 50), bool)
    mask[10:90, 10:40] = True
    drawn = draw_overlay(image, inspection(500, 500, [Region("crack", 1, (200, 300, 250, 400), mask)], heat=False))
    red = (drawn == COLOURS[Verdict.REJECT]).all(axis=2)
    red[:290] = red[410:] = False  # the frame, and the words above the region
    red[:, :20] = red[:, -20:] = False
    rows, columns = np.nonzero(red & (np.arange(500)[:, None] >= 305))
    assert abs(rows.max() - 389) <= 1
    assert (abs(columns.min() - 210), abs(columns.max() - 239)) <= (1, 1)
    assert (drawn[320:380, 215:235] == 128).all()  # the inside stays clear


def test_the_image_stays_unchanged_without_a_heat_map():
    image = np.zeros((500, 500, 3), np.uint8)
    draw_overlay(image, inspection(500, 500, [Region("pit", 0.5, (100, 100, 200, 200))], heat=False))
    assert not image.any()


def test_heat_is_visible_from_the_middle_of_its_range():
    image = np.full((400, 400, 3), 200, np.uint8)
    actual = inspection(400, 400, verdict=Verdict.PASS)
    clear = draw_overlay(image, actual, (0, 4))[100:360, 50:350]
    assert (clear == 200).all()
    hot = draw_overlay(image, actual, (-1, 1))[210:360, 50:350]
    assert (hot[..., 0] > hot[..., 2]).all()


def test_range_of_heat_goes_by_the_decision():
    assert heat_range(Decision()) is None
    low, high = heat_range(Decision(map_low=2, map_high=3))
    assert (low + high) / 2 == 2
    assert heat_range(Decision(map_low=2, map_high=2)) is None


def test_heat_image_runs_from_blue_to_red_and_clips():
    colours = heat_image(np.array([[-9, 0, 1, 9]], np.float32), 0, 1)
    assert (colours[0, 0] == colours[0, 1]).all()
    assert (colours[0, 2] == colours[0, 3]).all()
    assert colours[0, 3, 0] > 200 > colours[0, 3, 2]


def test_outline_of_an_annotation_has_its_own_colour():
    mask = np.zeros((50, 50), bool)
    mask[20:30, 20:30] = True
    picture = draw_outline(np.zeros((50, 50, 3), np.uint8), mask, (1, 2, 3))
    assert {tuple(pixel) for pixel in picture[mask]} == {(0, 0, 0), (1, 2, 3)}
    assert not picture[~mask].any()
