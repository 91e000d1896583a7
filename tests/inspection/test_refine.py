"""The refinement of regions: geometry of windows, borders, what is declined and what becomes one."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.geometry import mask_bounds
from blemish.inspection.refine import (
    DEFECT,
    EDGE,
    MAX_REGIONS,
    Refiner,
    closer_windows,
    expected_iou,
    new_border,
)
from blemish.inspection.refine_window import (
    INPUTS,
    SIDE,
    GoodMemory,
    RefineWindow,
    find_window,
    mask_within,
    window_inputs,
)
from blemish.inspection.result import Outputs, Region

LEVELS = (1.0, 2.0)


class BrightPixels:
    """In place of the network: pixels much brighter than their surroundings are the defect."""

    name, threads = "test", None

    def __init__(self):
        self.windows = 0

    def run(self, batch):
        self.windows += len(batch)
        return Outputs(mask_scores=(batch[:, :1] > 1).astype(np.float32))


class Everything(BrightPixels):
    def run(self, batch):
        return Outputs(mask_scores=np.ones_like(batch[:, :1]))


def flat_memory(channels=1):
    return GoodMemory(
        np.concatenate([np.full((8, 8, channels), 0.4), np.full((8, 8, channels), 0.02)], 2).astype(np.float32)
    )


def surface(size=(200, 300), channels=1):
    grain = np.random.default_rng(0).normal(100, 3, (*size, 1)).clip(0, 255).astype(np.uint8)
    return np.repeat(grain, channels, axis=2)


def square_region(x, y, side, score=3.0):
    return Region("defect", score, (x, y, x + side, y + side), np.ones((side, side), bool))


def heat_of(regions, size=(200, 300)):
    heat = np.zeros(size, np.float32)
    for region in regions:
        x0, y0, x1, y1 = region.box
        heat[y0:y1, x0:x1] = region.score
    return heat


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_window_holds_its_region_and_lies_in_the_image_where_it_fits(data):
    height, width = data.draw(st.tuples(st.integers(8, 400), st.integers(8, 400)))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    window = find_window((x0, y0, x1, y1), (height, width))
    assert window.left <= x0
    assert x1 <= window.left + window.side
    assert window.top <= y0
    assert y1 <= window.top + window.side
    for begin, length in ((window.left, width), (window.top, height)):
        assert (begin >= 0 and begin + window.side <= length) or window.side > length
    pixels = data.draw(st.integers(0, 9)) + np.arange(height * width).reshape(height, width)
    crop = window.crop(pixels)
    assert crop.shape == (window.side, window.side)
    assert crop[y0 - window.top, x0 - window.left] == pixels[y0, x0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_scratch_within_a_wide_region_gets_its_own_border(channels, dtype):
    image = surface(channels=channels)
    image[60:63, 100:160] = 250
    truth = np.zeros(image.shape[:2], bool)
    truth[60:63, 100:160] = True
    region = Region("defect", 3.0, (98, 50, 162, 73), np.ones((23, 64), bool))
    scaled = image if dtype == np.uint8 else (image / 255 * (65535 if dtype == np.uint16 else 1)).astype(dtype)
    (refined,) = Refiner(BrightPixels(), flat_memory(channels), LEVELS).refine([region], scaled, heat_of([region]))
    assert refined.refined
    assert refined.box == (100, 60, 160, 63)
    assert refined.mask.all()
    assert (refined.label, refined.score) == ("defect", 3.0)
    assert region.refined is None  # the given one is as it was


def test_a_region_larger_than_the_networks_window_keeps_its_place_to_a_pixel_of_the_window():
    image = surface((600, 700))
    image[200:420, 150:400] = 250
    region = Region("defect", 3.0, (120, 180, 440, 450), np.ones((270, 320), bool))
    heat = heat_of([region], (600, 700))
    (refined,) = Refiner(BrightPixels(), flat_memory(), LEVELS).refine([region], image, heat)
    step = find_window(region.box, heat.shape).side / SIDE
    np.testing.assert_allclose(refined.box, (150, 200, 400, 420), atol=step)


def test_expected_iou_is_the_mean_over_random_defects_by_the_probabilities():
    """Monte Carlo: each pixel is the defect with its own probability; outside of the region none is."""
    rng = np.random.default_rng(0)
    region = np.zeros((SIDE, SIDE), bool)
    region[20:80, 30:90] = True
    probabilities = np.where(region, rng.beta(0.4, 0.8, region.shape), 0).astype(np.float32)
    shown = probabilities >= DEFECT
    ious = []
    for _ in range(200):
        truth = rng.random(region.shape) < probabilities
        ious.append((truth & shown).sum() / (truth | shown).sum())
    assert expected_iou(probabilities, region) == pytest.approx(np.mean(ious), abs=0.003)


@pytest.mark.parametrize(
    ("sure", "side", "taken"),
    [(0.81, 11, True), (0.79, 11, False), (0.81, 24, True), (0.79, 24, True), (0.64, 24, False), (0.7, 24, True)],
)
def test_the_less_a_border_has_in_common_with_the_region_the_less_sure_it_has_to_be(sure, side, taken):
    """The defect is 10 px wide: of a region of 11 px it is 0.83, of one of 24 px 0.17."""

    class Unsure(BrightPixels):
        def run(self, batch):
            return Outputs(mask_scores=sure * super().run(batch).mask_scores)

    image = surface()
    image[80:90, 100:110] = 250
    region = square_region(100, 80, side)
    (refined,) = Refiner(Unsure(), flat_memory(), LEVELS).refine([region], image, heat_of([region]))
    assert refined.refined is taken
    assert refined.box == ((100, 80, 110, 90) if taken else region.box)


@pytest.mark.parametrize("engine", [Everything(), BrightPixels()])
def test_a_window_full_of_defect_or_without_any_leaves_the_region_as_it_is(engine):
    region = square_region(100, 80, 20)
    (refined,) = Refiner(engine, flat_memory(), LEVELS).refine([region], surface(), heat_of([region]))
    assert refined.refined is False
    assert refined.box == region.box
    np.testing.assert_array_equal(refined.mask, region.mask)


def test_a_defect_elsewhere_in_the_window_is_not_the_regions_and_invalid_pixels_never_are():
    image = surface()
    image[80:90, 100:110] = 250
    image[80:90, 140:150] = 250  # in the window, away from the region
    region, refiner = square_region(95, 75, 20), Refiner(BrightPixels(), flat_memory(), LEVELS)
    (refined,) = refiner.refine([region], image, heat_of([region]))
    assert refined.box == (100, 80, 110, 90)
    valid = np.ones(image.shape[:2], bool)
    valid[:, 105:] = False
    (refined,) = refiner.refine([region], image, heat_of([region]), valid)
    assert refined.box == (100, 80, 105, 90)


def test_two_regions_of_one_scratch_become_one_and_others_stay_two():
    image = surface()
    image[60:63, 100:200] = 250
    image[150:160, 50:60] = 250
    parts = [Region("defect", s, (x, 55, x + 30, 68), np.ones((13, 30), bool)) for x, s in ((100, 2.5), (165, 4.0))]
    regions = [*parts, square_region(45, 145, 20)]
    refined = Refiner(BrightPixels(), flat_memory(), LEVELS).refine(regions, image, heat_of(regions))
    assert sorted((region.box, region.score) for region in refined) == [
        ((50, 150, 60, 160), 3.0),
        ((100, 60, 200, 63), 4.0),
    ]


def test_only_the_strongest_of_many_regions_are_refined_and_none_is_lost():
    image = surface((400, 400))
    regions = [square_region(10 + 35 * (i % 10), 10 + 35 * (i // 10), 8, 2.0 + i) for i in range(MAX_REGIONS + 5)]
    for region in regions:
        x0, y0, _, _ = region.box
        image[y0 + 2 : y0 + 6, x0 + 2 : x0 + 6] = 250
    engine = BrightPixels()
    refined = Refiner(engine, flat_memory(), LEVELS).refine(regions, image, heat_of(regions, (400, 400)))
    assert engine.windows == MAX_REGIONS
    assert [region.refined for region in refined] == [False] * 5 + [True] * MAX_REGIONS


def test_inputs_are_finite_on_a_level_image_smaller_than_a_window():
    image = np.full((20, 30, 3), 128, np.uint8)
    region = Region("defect", 5.0, (0, 0, 30, 20))
    window = find_window(region.box, (20, 30))
    inputs = window_inputs(image, np.full((20, 30), 5.0, np.float32), region, window, flat_memory(3), LEVELS)
    assert inputs.shape == (INPUTS, SIDE, SIDE)
    assert np.isfinite(inputs).all()


def test_specks_are_no_part_of_a_defect():
    probabilities = np.zeros((SIDE, SIDE), np.float32)
    probabilities[40:60, 40:60] = 1
    probabilities[30:32, 30:32] = 1
    region = Region("defect", 3.0, (28, 28, 64, 64), np.ones((36, 36), bool))
    refined = new_border(region, probabilities, RefineWindow(0, 0, SIDE), (SIDE, SIDE), None)
    assert refined.box == (40, 40, 60, 60)


def full_mask(region, size):
    mask = np.zeros(size, bool)
    x0, y0, x1, y1 = region.box
    mask[y0:y1, x0:x1] = region.mask
    return mask


def region_mask_of_window(window, size):
    mask = np.zeros(size, bool)
    mask[max(0, window.top) : window.top + window.side, max(0, window.left) : window.left + window.side] = True
    return mask


def mask_iou(one, other):
    return (one & other).sum() / (one | other).sum()


def thin_line(size, ends, width):
    """A line of bright pixels, and a wide region around it."""
    image, truth, wide = surface(size), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    cv2.line(truth, *ends, 1, width)
    cv2.line(wide, *ends, 1, width + 20)
    image[truth > 0] = 250
    return image, truth > 0, region_of(wide > 0)


def region_of(mask, score=3.0):
    x0, y0, x1, y1 = mask_bounds(mask)
    return Region("defect", score, (x0, y0, x1, y1), mask[y0:y1, x0:x1])


@pytest.mark.parametrize("ends", [((60, 80), (600, 420)), ((5, 300), (690, 320)), ((30, 0), (40, 499))])
def test_a_long_thin_defect_is_seen_piece_by_piece_at_the_images_own_resolution(ends):
    image, truth, region = thin_line((500, 700), ends, 3)
    heat = heat_of([region], truth.shape)
    once, twice = (
        Refiner(BrightPixels(), flat_memory(), LEVELS, closer=closer).refine([region], image, heat)[0]
        for closer in (False, True)
    )
    ious = [mask_iou(full_mask(one, truth.shape), truth) for one in (once, twice)]
    assert ious[0] < 0.7
    assert ious[1] > 0.99
    assert twice.refined
    valid = np.ones(truth.shape, bool)
    valid[:, 350:] = False
    (within,) = Refiner(BrightPixels(), flat_memory(), LEVELS).refine([region], image, heat, valid)
    assert not (full_mask(within, truth.shape) & ~valid).any()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_boxes_of_closer_windows_hold_the_region_and_its_surroundings_once_and_lie_in_the_image(data):
    height, width = data.draw(st.tuples(st.integers(150, 900), st.integers(150, 900)))
    points = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    mask = np.zeros((height, width), np.uint8)
    cv2.line(mask, data.draw(points), data.draw(points), 1, data.draw(st.integers(1, 9)))
    x0, y0, x1, y1 = mask_bounds(mask > 0)
    region, most = Region("defect", 1.0, (x0, y0, x1, y1), mask[y0:y1, x0:x1] > 0), data.draw(st.integers(4, 24))
    first = find_window(region.box, mask.shape)
    step = first.side / SIDE
    windows = closer_windows(region, step, mask.shape, most)
    assert len(windows) <= most
    assert bool(windows) == (step > 1)  # four windows nearly as large as the first hold anything
    covered = np.zeros((height, width), int)
    for window, box in windows:
        assert SIDE <= window.side < first.side
        for i, length in enumerate((width, height)):
            begin = (window.left, window.top)[i]
            assert (begin >= 0 and begin + window.side <= length) or window.side > length
            around = EDGE * window.side // SIDE // 2  # of the box, where it does not end with the image
            assert begin <= box[i] - around or begin <= 0
            assert begin + window.side >= box[i + 2] + around or begin + window.side >= length
        covered[box[1] : box[3], box[0] : box[2]] += 1
    if windows:
        room = min(int(np.ceil(step)), windows[0][0].side * EDGE // SIDE // 2)
        assert covered[cv2.dilate(mask, np.ones((2 * room + 1, 2 * room + 1), np.uint8)) > 0].all()
        assert np.count_nonzero(covered[mask > 0] > 1) <= 4 * room**2 * len(windows)  # where two corners meet


def test_a_straight_line_in_the_middle_of_a_row_of_windows_needs_no_second_row():
    mask = np.zeros((500, 1000), bool)
    mask[248:252, 40:960] = True
    windows = closer_windows(region_of(mask), 11.7, mask.shape)
    assert len(windows) == 10  # of 96 px each
    assert {window.side for window, _ in windows} == {SIDE}


def test_windows_of_a_huge_region_are_found_without_looking_at_it_again_and_again(monkeypatch):
    mask = np.zeros((9000, 9000), np.uint8)
    cv2.line(mask, (100, 100), (8900, 8900), 1, 60)
    looks = []
    count = np.count_nonzero
    monkeypatch.setattr(np, "count_nonzero", lambda values: looks.append(values) or count(values))
    windows = closer_windows(region_of(mask > 0), 110.0, mask.shape)
    assert 0 < len(windows) <= 24
    assert len(looks) < 20


@pytest.mark.parametrize("far", [0, 3, 20])
def test_a_line_near_the_images_border_is_seen_closer_in_windows_within_the_image(far):
    size = (700, 900)
    truth = np.zeros(size, bool)
    truth[40:440, far : far + 3] = True
    image = surface(size)
    image[truth] = 250
    region = region_of(cv2.dilate(truth.astype(np.uint8), np.ones((21, 21))) > 0)

    class Lopsided(BrightPixels):
        """Sees no line that its window has twice, as a mirrored one does."""

        def run(self, batch):
            shown = super().run(batch).mask_scores
            for one in shown[:, 0]:
                if np.count_nonzero(np.diff(np.concatenate([[0], one.any(axis=0)]))) > 2:
                    one[:] = 0
            return Outputs(mask_scores=shown)

    heat = heat_of([region], size)
    (once,) = Refiner(Lopsided(), flat_memory(), LEVELS, closer=False).refine([region], image, heat)
    (twice,) = Refiner(Lopsided(), flat_memory(), LEVELS).refine([region], image, heat)
    assert once.refined
    assert mask_iou(full_mask(twice, size), truth) > max(0.99, mask_iou(full_mask(once, size), truth))


def test_regions_that_are_not_thin_take_no_closer_windows_from_those_that_are():
    image, truth, line = thin_line((1400, 1400), ((60, 60), (900, 500)), 7)
    blobs = [square_region(60 + 120 * i, 1000, 100) for i in range(8)]
    for blob in blobs:
        x0, y0, x1, y1 = blob.box
        image[y0 + 20 : y1 - 20, x0 + 20 : x1 - 20] = 250
    engine, regions = BrightPixels(), [line, *blobs]
    heat = heat_of(regions, truth.shape)
    first = Refiner(BrightPixels(), flat_memory(), LEVELS, closer=False).refine(regions, image, heat)[0]
    alone = closer_windows(first, find_window(line.box, truth.shape).side / SIDE, truth.shape)
    Refiner(engine, flat_memory(), LEVELS).refine(regions, image, heat)
    assert len(alone) > 6
    assert engine.windows == len(regions) + len(alone)


def test_fragments_that_turn_out_to_be_one_defect_are_seen_closer_once():
    image, truth, whole = thin_line((700, 900), ((60, 300), (800, 360)), 3)
    (x0, y0, _, y1), mask = whole.box, whole.mask
    parts = [
        region_of(np.pad(mask[:, a:b], ((y0, 700 - y1), (x0 + a, 900 - x0 - b))), score)
        for a, b, score in ((0, 380, 3.0), (400, mask.shape[1], 4.0))
    ]
    one, two = BrightPixels(), BrightPixels()
    (found,) = Refiner(one, flat_memory(), LEVELS).refine([whole], image, heat_of([whole], truth.shape))
    (merged,) = Refiner(two, flat_memory(), LEVELS).refine(parts, image, heat_of(parts, truth.shape))
    assert two.windows == one.windows + 1  # a first look at each
    assert merged.score == 4.0
    assert mask_iou(full_mask(merged, truth.shape), truth) > 0.97
    assert mask_iou(full_mask(found, truth.shape), truth) > 0.97


@pytest.mark.parametrize("gap", [1, 6, 10])
def test_a_region_that_meets_only_the_first_border_of_another_is_not_lost(gap):
    image, truth, line = thin_line((900, 1300), ((60, 300), (1200, 300)), 7)
    stain = square_region(600, 315 + gap, 40)

    class Unsure(BrightPixels):
        """Guesses about the stain, which is not bright; its first border of the line is a pixel too wide."""

        def run(self, batch):
            first = self.windows == 0
            shown = super().run(batch).mask_scores
            wide = np.array([[cv2.dilate(one[0], np.ones((3, 1)))] for one in shown])
            return Outputs(mask_scores=wide if first else shown)

    regions = [line, stain]
    found = Refiner(Unsure(), flat_memory(), LEVELS).refine(regions, image, heat_of(regions, truth.shape))
    assert len(found) == 2
    assert mask_iou(full_mask(found[0], truth.shape), truth) > 0.9
    assert found[1] == replace(stain, refined=False)


def test_the_inside_of_a_wide_part_is_not_taken_for_surface():
    image, truth, _ = thin_line((900, 1300), ((60, 300), (1200, 300)), 5)
    truth[304:500, 500:640] = True
    image[truth] = 250

    class Rims(BrightPixels):
        """Sees nothing in a window that the defect fills for the most part."""

        def run(self, batch):
            shown = super().run(batch).mask_scores
            shown[shown.mean(axis=(1, 2, 3)) > 0.4] = 0
            return Outputs(mask_scores=shown)

    region = region_of(cv2.dilate(truth.astype(np.uint8), np.ones((9, 9))) > 0)
    (found,) = Refiner(Rims(), flat_memory(), LEVELS).refine([region], image, heat_of([region], truth.shape))
    assert mask_iou(full_mask(found, truth.shape), truth) > 0.7


def test_a_closer_window_may_lie_beyond_the_region_whose_border_goes_on_there():
    image, truth, region = thin_line((500, 700), ((60, 80), (600, 420)), 3)
    x0, y0, x1, y1 = region.box
    part = Region("defect", 3.0, (x0, y0, x0 + 300, y1), region.mask[:, :300])
    (whole,) = Refiner(BrightPixels(), flat_memory(), LEVELS).refine([part], image, heat_of([part], truth.shape))
    shown = find_window(part.box, truth.shape)
    seen = truth & region_mask_of_window(shown, truth.shape)
    assert mask_iou(full_mask(whole, truth.shape), seen) > 0.98
    assert not mask_within(part, (x1 - 20, y0, x1, y1)).any()


def test_regions_that_are_not_thin_or_were_seen_at_full_resolution_cost_no_second_look():
    image = surface((600, 700))
    image[200:420, 150:400] = 250
    image[500:503, 500:560] = 250
    regions = [
        Region("defect", 3.0, (120, 180, 440, 450), np.ones((270, 320), bool)),
        Region("defect", 3.0, (498, 490, 562, 513), np.ones((23, 64), bool)),
    ]
    engine = BrightPixels()
    refined = Refiner(engine, flat_memory(), LEVELS).refine(regions, image, heat_of(regions, (600, 700)))
    assert all(region.refined for region in refined)
    assert engine.windows == 2


@pytest.mark.parametrize("spoilt", ["all of a corner", "all but one window empty"])
def test_the_second_look_does_not_overrule_the_first(spoilt):
    image, truth, region = thin_line((500, 700), ((60, 80), (600, 420)), 3)

    class Spoilt(BrightPixels):
        def run(self, batch):
            shown = super().run(batch).mask_scores
            if self.windows > 1:
                for one in shown:
                    few = one.sum() < 150
                    if spoilt == "all of a corner" and few:
                        one[:] = 1
                    elif spoilt != "all of a corner" and self.windows > 5:
                        one[:] = 0
            return Outputs(mask_scores=shown)

    heat = heat_of([region], truth.shape)
    (once,) = Refiner(BrightPixels(), flat_memory(), LEVELS, closer=False).refine([region], image, heat)
    (twice,) = Refiner(Spoilt(), flat_memory(), LEVELS).refine([region], image, heat)
    assert mask_iou(full_mask(twice, truth.shape), truth) >= mask_iou(full_mask(once, truth.shape), truth)
    lengths = [max(r.box[2] - r.box[0], r.box[3] - r.box[1]) for r in (once, twice)]
    assert abs(lengths[0] - lengths[1]) <= 2 * np.ceil(find_window(region.box, truth.shape).side / SIDE)


def test_a_dashed_defect_keeps_all_its_dashes_in_the_second_look():
    image, truth, region = thin_line((500, 700), ((60, 250), (640, 250)), 3)
    for x in range(350, 640, 28):
        image[240:260, x : x + 2] = 100
        truth[:, x : x + 2] = False
    (found,) = Refiner(BrightPixels(), flat_memory(), LEVELS).refine([region], image, heat_of([region], truth.shape))
    assert mask_iou(full_mask(found, truth.shape), truth) > 0.95


def test_where_the_second_look_shows_nothing_the_first_border_stays():
    image, truth, region = thin_line((500, 700), ((60, 80), (600, 420)), 3)

    class Once(BrightPixels):
        def run(self, batch):
            first = self.windows == 0
            outputs = super().run(batch)
            return outputs if first else Outputs(mask_scores=np.zeros_like(outputs.mask_scores))

    heat = heat_of([region], truth.shape)
    (blind,) = Refiner(Once(), flat_memory(), LEVELS).refine([region], image, heat)
    (once,) = Refiner(BrightPixels(), flat_memory(), LEVELS, closer=False).refine([region], image, heat)
    assert blind == once
