"""Uncertainties from synthetic and annotated defects, with inspectors whose errors are known."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blemish.dataset.sample import Dataset, Sample
from blemish.geometry import connected_regions, mask_bounds
from blemish.imaging.read import read_image, write_image
from blemish.inspection.measure import measure
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.inspection.uncertainty import with_uncertainty
from blemish.methods.catalogue import method_class
from blemish.training.ship.estimate_uncertainty import (
    TRIALS_PER_IMAGE,
    estimate_uncertainty,
    held_out_good,
    uncertainty_from_annotations,
    uncertainty_from_trials,
)

GREY, SIDE = 128, 160


class DilatingInspector:
    """Finds every pixel that is not the surface's grey, and `px` more all around."""

    def __init__(self, px, blind=False):
        self.px, self.blind, self.manifest = (
            px,
            blind,
            SimpleNamespace(template=False, input=SimpleNamespace(pixels=None), outputs=["anomaly_map"], tiling=None),
        )

    def inspect(self, image, valid=None):
        """As an inspector's: one image, or an iterator over several samples."""
        if isinstance(image, list):
            return (self.inspect(read_image(sample.image)) for sample in image)
        changed = (np.abs(image.astype(int) - GREY).max(axis=2) > 6).astype(np.uint8)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * self.px + 1, 2 * self.px + 1))
        regions = []
        for mask in () if self.blind else connected_regions(cv2.dilate(changed, kernel) > 0):
            x0, y0, x1, y1 = bounds = mask_bounds(mask)
            regions.append(Region("defect", 1.0, bounds, mask[y0:y1, x0:x1]))
        size = image.shape[:2]
        return Inspection(Verdict.REJECT, "defect", 1.0, regions, size, heat_map=np.zeros(size, np.float32))


@pytest.fixture
def dataset(tmp_path):
    samples = []
    for split, count in (("train", 2), ("tuning", 4)):
        for number in range(count):
            path = tmp_path / f"{split}-{number}.png"
            write_image(path, np.full((SIDE, SIDE, 3), GREY, np.uint8))
            samples.append(Sample(path, label="good", split=split))
    return Dataset(tuple(samples), tmp_path, "csv")


def test_a_border_too_wide_shows_as_bias_and_uncertainty(dataset, monkeypatch):
    monkeypatch.setattr("blemish.training.ship.estimate_uncertainty.MAX_TRIALS", 160)
    assert {sample.split for sample in held_out_good(dataset)} == {"tuning"}
    exact, wide = (uncertainty_from_trials(DilatingInspector(px), dataset, 0) for px in (0, 4))
    assert exact.source == "synthetic"
    assert 0.6 * 8 * TRIALS_PER_IMAGE < exact.found <= exact.defects
    first, last = wide.errors["mean_width"][0], wide.errors["mean_width"][-1]
    assert first.bias > 0.5 > exact.errors["mean_width"][0].bias
    assert first.bias > last.bias > 0  # 8 px more weigh less on a wide defect
    assert first.uncertainty > last.uncertainty
    assert all(own.low < own.high and own.defects >= 20 for own in wide.errors["area"])


class Eroding:
    """In place of a refiner: regions `px` smaller all around, those of at least `largest` px left as they are."""

    def __init__(self, px, largest):
        self.px, self.largest = px, largest

    def refine(self, regions, image, heat_map, valid):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * self.px + 1, 2 * self.px + 1))
        refined = []
        for region in regions:
            smaller = cv2.erode(np.pad(region.mask, 1).astype(np.uint8), kernel)[1:-1, 1:-1] > 0
            sure = smaller.any() and region.mask.sum() < self.largest
            refined.append(replace(region, mask=smaller if sure else region.mask, refined=bool(sure)))
        return refined


def test_regions_that_kept_their_border_have_no_uncertainty_and_do_not_change_that_of_others(dataset, monkeypatch):
    monkeypatch.setattr("blemish.training.ship.estimate_uncertainty.MAX_TRIALS", 160)
    known = uncertainty_from_trials(DilatingInspector(4), dataset, 0, Eroding(4, 700))
    wide = uncertainty_from_trials(DilatingInspector(4), dataset, 0)
    assert known.errors["mean_width"][0].bias < wide.errors["mean_width"][0].bias
    assert known.errors["area"][-1].high <= 1024 < wide.errors["area"][-1].high  # larger ones are not refined
    measured = measure(np.ones((5, 12), bool))
    assert with_uncertainty(measured, known, refined=True).area_px_u is not None
    assert with_uncertainty(measured, known, refined=False) == measured


def test_errors_on_synthetic_defects_are_expanded_and_annotated_ones_come_first(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr("blemish.training.ship.estimate_uncertainty.MAX_TRIALS", 160)
    method, inspector = method_class("padim"), DilatingInspector(2)
    expanded = estimate_uncertainty(method, inspector, dataset, 0)
    monkeypatch.setattr("blemish.training.ship.estimate_uncertainty.REAL_DEFECTS", 1.0)
    plain = estimate_uncertainty(method, inspector, dataset, 0)
    for one, other in zip(expanded.errors["length"], plain.errors["length"], strict=True):
        assert one.uncertainty == pytest.approx(10 * other.uncertainty, abs=1e-3)
        assert one.bias == other.bias
    samples = list(dataset.samples)
    for number in range(25):
        image, mask = np.full((SIDE, SIDE, 3), GREY, np.uint8), np.zeros((SIDE, SIDE, 1), np.uint8)
        mask[40:60, 10 : 30 + number] = 255
        image[mask[..., 0] > 0] = 250
        write_image(tmp_path / f"defect-{number}.png", image)
        write_image(tmp_path / f"mask-{number}.png", mask)
        samples.append(
            Sample(tmp_path / f"defect-{number}.png", label="line", mask=tmp_path / f"mask-{number}.png", split="val")
        )
    annotated = estimate_uncertainty(method, inspector, dataset.with_samples(samples), 0)
    assert (annotated.source, annotated.found) == ("validation", 25)
    assert annotated.errors["mean_width"][0].bias == pytest.approx(4 / 20, abs=0.05)  # 2 px on each side of 20
    refined = estimate_uncertainty(method, inspector, dataset.with_samples(samples), 0, Eroding(2, 10**6))
    assert refined.errors["mean_width"][0].bias == pytest.approx(0.0, abs=0.03)


def test_nothing_found_gives_no_uncertainty(dataset):
    assert uncertainty_from_trials(DilatingInspector(0, blind=True), dataset, 0) is None
    assert uncertainty_from_trials(DilatingInspector(0), dataset.with_samples([]), 0) is None


def test_annotated_defects_measured_twice_as_long(tmp_path):
    samples, results = [], []
    for number in range(30):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[40:44, 10 : 40 + number] = 255
        write_image(tmp_path / f"{number}.png", mask[..., None])
        samples.append(Sample(tmp_path / f"{number}.png", label="line", mask=tmp_path / f"{number}.png"))
        length = 2 * (30 + number)
        region = Region("line", 1.0, (10, 40, 10 + length, 44), np.ones((4, length), bool))
        results.append(Inspection(Verdict.REJECT, "line", 1.0, [region], (SIDE, SIDE)))
    known = uncertainty_from_annotations(results, samples)
    assert (known.source, known.defects, known.found) == ("validation", 30, 30)
    assert [own.bias for own in known.errors["length"]] == [pytest.approx(1.0)] * len(known.errors["length"])
    assert known.errors["length"][0].uncertainty == pytest.approx(0.5)  # |true - measured| / measured
    assert known.errors["mean_width"][0].uncertainty == pytest.approx(0.0)
    assert uncertainty_from_annotations(results[:10], samples[:10]) is None
