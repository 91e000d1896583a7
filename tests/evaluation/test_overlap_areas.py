"""AUPRO, sPRO and AUPIMO against their definitions, one threshold after another."""

import json
import math

import numpy as np
import pytest
from test_pixel_metrics import brute_force_aupro

from blemish.dataset.read import read_dataset
from blemish.dataset.saturation import Saturation, find_saturations
from blemish.errors import DataError
from blemish.evaluation.per_image_overlap import per_image_overlap
from blemish.evaluation.pixel_metrics import LOW_FPR_LIMIT, pixel_metrics, split_scores
from blemish.evaluation.region_overlap import SaturatedRegion, saturated_overlap_area
from blemish.imaging.read import write_image


def random_set(seed, images=5, levels=None, shape=(40, 30)):
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for k in range(images):
        mask = np.zeros(shape, bool)
        if k % 2:
            y, x = rng.integers(0, 20, 2)
            mask[y : y + 8, x : x + 6] = True
        heat = rng.random(shape) + 0.6 * mask
        maps.append((heat if levels is None else np.round(heat * levels) / levels).astype(np.float32))
        masks.append(mask)
    return maps, masks


def area_below(x, y, limit):
    """Area under a curve of straight lines up to x = limit, as a share of it."""
    inside = [(a, b) for a, b in zip(x, y, strict=True) if a <= limit]
    ends = [*inside, (limit, float(np.interp(limit, x, y)))] if max(x) > limit else inside
    return np.trapezoid([b for _, b in ends], [a for a, _ in ends]) / limit


@pytest.mark.parametrize("levels", [None, 6])
def test_pixel_metrics_of_low_rates_and_f1_by_definition(levels):
    maps, masks = random_set(3, levels=levels)
    measured = pixel_metrics([split_scores(heat, mask) for heat, mask in zip(maps, masks, strict=True)])
    valid = [np.ones_like(mask) for mask in masks]
    expected = brute_force_aupro(maps, masks, valid, LOW_FPR_LIMIT)
    assert measured.aupro_at_5_percent == pytest.approx(expected, abs=1e-9)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    each = [2 * (truth & (flat >= t)).sum() / (truth.sum() + (flat >= t).sum()) for t in np.unique(flat)]
    assert measured.best_f1 == pytest.approx(max(each), abs=1e-12)
    assert measured.aupimo is None  # 3,600 good pixels do not show a rate of 1 in 100,000
    assert measured.spro_at_5_percent is None  # no defect states a saturation


@pytest.mark.parametrize("levels", [None, 9])
@pytest.mark.parametrize("saturation", [1.0, 7.5, 48.0])
def test_spro_by_definition(levels, saturation):
    maps, masks = random_set(11, levels=levels)
    good = np.sort(np.concatenate([heat[~mask] for heat, mask in zip(maps, masks, strict=True)]))
    regions = [heat[mask] for heat, mask in zip(maps, masks, strict=True) if mask.any()]
    x, y = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([good, *regions]))[::-1]:
        x.append((good >= threshold).mean())
        y.append(np.mean([min((own >= threshold).sum() / saturation, 1) for own in regions]))
    actual = saturated_overlap_area(good, [SaturatedRegion(own, saturation) for own in regions], LOW_FPR_LIMIT)
    assert actual == pytest.approx(area_below(x, y, LOW_FPR_LIMIT), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 20])
def test_aupimo_by_definition(levels):
    """At each rate of a fine grid, the best recall of a threshold whose mean rate of the good images is not above it.

    Rates a thousand times those of the paper, which need a thousand times as many pixels.
    """
    maps, masks = random_set(5, levels=levels)
    maps[0] = maps[0][:10]  # good images of different sizes weigh the same
    masks[0] = masks[0][:10]
    good = [heat.ravel() for heat, mask in zip(maps, masks, strict=True) if not mask.any()]
    defective = [heat[mask] for heat, mask in zip(maps, masks, strict=True) if mask.any()]
    low, high = 1e-2, 1e-1
    thresholds = np.unique(np.concatenate([*good, *defective]))
    thresholds = np.append(thresholds, np.inf)
    rates = np.mean([[(own >= t).mean() for t in thresholds] for own in good], axis=0)
    grid = np.exp(np.linspace(math.log(low), math.log(high), 20001))
    middle = np.sqrt(grid[1:] * grid[:-1])
    expected = []
    for own in defective:
        recall = np.array([(own >= t).mean() for t in thresholds])
        expected.append(np.mean([recall[rates <= rate].max() for rate in middle]))
    actual = per_image_overlap(good, defective, (low, high))
    assert actual == pytest.approx(expected, abs=2e-4)  # the grid's error


def test_aupimo_of_perfect_and_useless_maps():
    good = [np.linspace(0, 1, 400_000, dtype=np.float32)]
    assert per_image_overlap(good, [np.full(9, 2, np.float32), np.zeros(9, np.float32)]).tolist() == [1.0, 0.0]
    assert per_image_overlap([np.zeros(99_000, np.float32)], [np.ones(3, np.float32)]) is None
    assert per_image_overlap([], [np.ones(3, np.float32)]) is None


def loco(tmp_path, config):
    """A category in the layout of MVTec LOCO: two masks of one image, with named pixel values."""
    image = np.zeros((20, 20), np.uint8)
    write_image(tmp_path / "train/good/000.png", image)
    write_image(tmp_path / "test/good/000.png", image)
    write_image(tmp_path / "test/logical_anomalies/000.png", image)
    for number, value in enumerate((249, 250)):
        mask = np.zeros((20, 20), np.uint8)
        mask[5 * number : 5 * number + 4, :10] = value
        write_image(tmp_path / f"ground_truth/logical_anomalies/000/{number:03}.png", mask)
    (tmp_path / "defects_config.json").write_text(json.dumps(config))
    dataset = read_dataset(tmp_path)
    return next(sample for sample in dataset.samples if sample.defective)


def test_saturations_of_loco(tmp_path):
    config = [
        {"defect_name": "missing", "pixel_value": 249, "saturation_threshold": 12, "relative_saturation": False},
        {"defect_name": "extra", "pixel_value": 250, "saturation_threshold": 0.5, "relative_saturation": True},
    ]
    sample = loco(tmp_path / "a", config)
    known = find_saturations(sample)
    assert known == {"missing": Saturation(12, False), "extra": Saturation(0.5, True)}
    assert [known[shape.label].pixels(40) for shape in sample.shapes] == [12, 20]
    assert known["missing"].pixels(5) == 5  # never more than the defect has
    config[1]["saturation_threshold"] = 1.5
    with pytest.raises(DataError, match="is no saturation of 'extra'"):
        find_saturations(loco(tmp_path / "b", config))
