"""Thresholds of pixels and boxes, against trying every one."""

import numpy as np
import pytest

from blemish.evaluation.detections import Detections
from blemish.training.ship.calibration_data import BINS, best_box_threshold, best_peak_threshold, best_pixel_threshold


def f1(scores, annotated, threshold, missed=0):
    found = scores >= threshold
    hits = (found & annotated).sum()
    return 2 * hits / max(found.sum() + annotated.sum() + missed, 1)


@pytest.mark.parametrize("seed", range(5))
def test_pixel_threshold_has_the_highest_f1(seed):
    rng = np.random.default_rng(seed)
    annotated = rng.random(20_000) < 0.1
    scores = np.where(annotated, rng.beta(4, 2, 20_000), rng.beta(2, 5, 20_000))
    bins = (scores * BINS).astype(int)
    counts = np.stack([np.bincount(bins[annotated == side], minlength=BINS) for side in (False, True)])
    chosen = f1(scores, annotated, best_pixel_threshold(counts))
    assert chosen >= max(f1(scores, annotated, t) for t in np.linspace(0, 1, 501)) - 1e-3


def test_without_a_defective_pixel_there_is_no_threshold():
    assert best_pixel_threshold(np.ones((2, BINS), np.int64) * [[1], [0]]) is None


@pytest.mark.parametrize("seed", range(5))
def test_box_threshold_has_the_highest_f1(seed):
    rng = np.random.default_rng(seed)
    images, scores, hits, missed = [], [], [], 0
    for _ in range(60):
        count = int(rng.integers(0, 4))
        annotated = [str(rng.choice(["pit", "scratch"])) for _ in range(count)]
        found = rng.random(count) < 0.8  # at most one box finds each defect
        boxes = [(name, rng.beta(5, 2), i) for i, name in enumerate(annotated) if found[i]]
        boxes += [(str(rng.choice(["pit", "scratch", "ghost"])), rng.beta(2, 4), None) for _ in range(3)]
        iou = np.zeros((len(boxes), count))
        for row, (_, _, place) in enumerate(boxes):
            if place is not None:
                iou[row, place] = 0.8
        scores += [score for _, score, _ in boxes]
        hits += [place is not None for _, _, place in boxes]
        missed += count - int(found.sum())
        images.append(Detections(np.array([s for _, s, _ in boxes]), [n for n, _, _ in boxes], annotated, iou))
    scores, hits = np.array(scores), np.array(hits)
    chosen = f1(scores, hits, best_box_threshold(images), missed)
    assert chosen >= max(f1(scores, hits, t, missed) for t in [*scores, *np.linspace(0, 1, 201)]) - 1e-12


def test_without_a_hit_there_is_no_box_threshold():
    assert best_box_threshold([Detections(np.array([0.9]), ["pit"], ["pit"], np.zeros((1, 1)))]) is None
    assert best_box_threshold([Detections(np.array([0.9]), ["pit"], [], np.zeros((1, 0)))]) is None


@pytest.mark.parametrize("seed", range(5))
def test_peak_threshold_has_the_highest_f1_above_what_sound_surface_shows(seed):
    """Every image's defects weigh as much as the image; candidates are the values above the middle sound peak."""
    rng = np.random.default_rng(seed)
    images, sound = [list(rng.beta(5, 3, int(rng.integers(1, 6)))) for _ in range(40)], rng.beta(2, 5, 40)

    def f1_of(threshold):
        hits = sum(np.mean(np.array(image) >= threshold) for image in images)
        return 2 * hits / (hits + (sound >= threshold).sum() + len(images))

    chosen = best_peak_threshold(images, list(sound))
    values = [value for value in [*np.concatenate(images), *sound] if value > np.median(sound)]
    assert f1_of(chosen) >= max(f1_of(value) for value in values) - 1e-12


def test_defects_weaker_than_sound_surface_set_no_threshold():
    sound = [1.1, 1.2, 1.3]
    assert best_peak_threshold([[0.4, 0.5]] * 30, sound) is None
    assert best_peak_threshold([], sound) is None
    # Many weak ones among a few strong ones do not lower it to values that every sound surface reaches.
    assert best_peak_threshold([[3.0, 0.5, 0.4, 0.3]] * 40, [1.15] * 40) > 1.15
    # Maps may be negative.
    assert -3 < best_peak_threshold([[-1.0], [-2.0]] * 10, [-4.0, -3.0, -5.0]) <= -2
