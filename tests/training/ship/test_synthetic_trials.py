"""Synthetic trials: their masks are exact, they repeat by the seed, and the two families differ."""

from pathlib import Path

import numpy as np
import pytest

from blemish.dataset.sample import Sample
from blemish.imaging.pixel_range import PixelSpec
from blemish.imaging.read import read_image, write_image
from blemish.synthesis.judging_defects import JUDGING_KINDS
from blemish.synthesis.surfaces import render_surface
from blemish.training.ship.synthetic_trials import TAUGHT, Family, synthetic_trials


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("good")
    samples = []
    for number in range(4):
        surface = render_surface("metal", np.random.default_rng(number), 96)
        write_image(folder / f"{number}.png", np.round(surface * 255).astype(np.uint8)[..., None])
        samples.append(Sample(image=folder / f"{number}.png", label="good"))
    return samples


@pytest.mark.parametrize("family", ["taught", "judge"])
def test_pixels_change_under_the_mask_and_not_away_from_it(good: list[Sample], family: Family) -> None:
    trials = list(synthetic_trials(good, 24, 3, family))
    assert len(trials) >= 20
    for trial in trials:
        before = read_image(trial.sample.image)
        change = np.abs(trial.image.astype(int) - before).mean(axis=2)
        assert trial.image.dtype == np.uint8
        assert trial.mask.any()
        assert change[trial.mask].mean() > 5 * change[~trial.mask].mean()


def test_the_same_seed_gives_the_same_trials_and_families_share_no_kind(good: list[Sample]) -> None:
    first, second = (list(synthetic_trials(good, 8, 1, "judge")) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
    assert {trial.kind for trial in first} <= set(JUDGING_KINDS)
    assert not {step.kind for step in TAUGHT.steps} & set(JUDGING_KINDS)


def test_masks_of_the_image_limit_where_defects_lie(good: list[Sample], tmp_path: Path) -> None:
    roi = np.zeros((96, 96, 1), np.uint8)
    roi[:, 48:] = 255
    write_image(tmp_path / "roi.png", roi)
    limited = [Sample(image=s.image, label="good", roi=tmp_path / "roi.png") for s in good]
    families: tuple[Family, Family] = ("taught", "judge")
    for family in families:
        for trial in synthetic_trials(limited, 8, 0, family):
            assert trial.valid is not None
            assert not (trial.mask & ~trial.valid).any()


def test_grey_values_of_twelve_of_sixteen_bits_stay_in_their_range(tmp_path: Path) -> None:
    surface = render_surface("metal", np.random.default_rng(0), 96)
    write_image(tmp_path / "deep.png", np.round(surface * 4095).astype(np.uint16)[..., None])
    sample = Sample(image=tmp_path / "deep.png", label="good")
    families: tuple[Family, Family] = ("taught", "judge")
    for family in families:
        trials = list(synthetic_trials([sample], 6, 0, family))
        assert trials
        assert all(trial.image.dtype == np.uint16 and trial.image.max() <= 4096 for trial in trials)


def test_values_of_any_range_are_those_of_the_bundle(tmp_path: Path) -> None:
    """Trials on signed and wide numbers have the defects of the same surface from 0 to 1, in its own range."""
    surface = render_surface("metal", np.random.default_rng(0), 96).astype(np.float32)[..., None]
    write_image(tmp_path / "unit.tif", surface)
    write_image(tmp_path / "wide.tif", surface * np.float32(80_000) - np.float32(30_000))
    samples = [Sample(image=tmp_path / f"{name}.tif", label="good") for name in ("unit", "wide")]
    spec = PixelSpec(ranges={"float32": (-30_000, 50_000)}, spreads={}, height=(96, 96), width=(96, 96))
    families: tuple[Family, Family] = ("taught", "judge")
    for family in families:
        unit = list(synthetic_trials(samples[:1], 6, 0, family))
        wide = list(synthetic_trials(samples[1:], 6, 0, family, spec))
        assert len(unit) == len(wide) > 0
        for a, b in zip(unit, wide, strict=True):
            assert (a.mask != b.mask).mean() < 0.01
            np.testing.assert_allclose((b.image + 30_000) / 80_000, a.image, atol=0.02)
