"""Images without a finding: no map of the image's size is made, and the result is that of making and searching it."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
from graphs import anomaly_bundle, make_bundle, two_masks

from blemish.imaging.roi import Roi
from blemish.inspection import decode, lazy_map, pipeline, stitching
from blemish.inspection.inspector import Inspector
from blemish.inspection.lazy_map import LazyMap, upper_bound
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Outputs

CLASSES = ["good", "scratch", "stain"]
ROI = Roi(image_height=50, image_width=70, rectangle=(10, 5, 60, 45))


def vars_of(measurements):
    return {key: value for key, value in asdict(measurements).items() if value is not None}


def random_outputs(kinds, tiles, rng):
    """Outputs of a graph of 16 × 16 px, with maps that lie anywhere around thresholds of 0.5."""
    level = rng.choice([0.2, 0.45, 0.499, 0.5, 0.52, 0.9])
    maps = (level * rng.random((tiles, 16, 16)) ** rng.choice([0.05, 1, 4])).astype(np.float32)
    if rng.random() < 0.15:
        maps[0, 3, 4] = rng.choice([np.nan, np.inf, 0.5])
    values = {
        "anomaly_map": maps,
        "anomaly_score": maps.max(axis=(1, 2)) * np.float32(0.9),
        "mask_scores": np.stack([maps, maps[:, ::-1] * np.float32(rng.random())], axis=1),
        "class_scores": rng.dirichlet([1, 1, 1], tiles).astype(np.float32),
        "class_map": rng.dirichlet([1, 1, 1], (tiles, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32) * level,
    }
    return Outputs(**{kind: values[kind] for kind in kinds})


@pytest.fixture
def eager(monkeypatch):
    """Makes every map and searches it, as if nothing were known of it beforehand."""

    def switch(on):
        monkeypatch.undo()
        if on:
            monkeypatch.setattr(stitching, "upper_bound", lambda values: float("nan"))
            monkeypatch.setattr(decode, "LazyMap", lambda make, bound: LazyMap.of(make(), float("nan")))

    return switch


@pytest.mark.parametrize(
    "kinds",
    [
        ("anomaly_score", "anomaly_map"),
        ("anomaly_map",),
        ("mask_scores",),
        ("class_scores", "class_map"),
        ("class_scores", "mask_scores"),
        ("class_scores", "anomaly_score", "anomaly_map"),
    ],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"fit": "letterbox"}, {"score_source": "map"}, {"roi": ROI}, {"windows": True}, {"exclusive_classes": True}],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_result_is_that_of_the_whole_map(tmp_path, eager, kinds, options):
    decision = Decision(review=0.4, reject=0.5, map_low=0.45, map_high=0.5, edge=0.3, min_area_px=2)
    classes = CLASSES if kinds != ("anomaly_map",) else ["good", "defect"]
    path = make_bundle(tmp_path / "a.blemish", two_masks(), kinds, decision, side=16, classes=classes, **options)
    rng = np.random.default_rng(len(kinds))
    skipped = searched = 0
    for tile in (None, 20):
        eager(False)
        inspector = Inspector.open(path, tile=tile)
        for _ in range(20):
            image = rng.integers(0, 255, (50, 70, 1), np.uint8)
            valid = rng.random((50, 70)) < 0.9 if rng.random() < 0.3 else None
            job = inspector._pipeline.load(image, valid=valid)
            outputs = random_outputs(kinds, len(job.stitcher.tiles), rng)
            results = []
            for on in (False, True):
                eager(on)
                job = inspector._pipeline.load(image, valid=valid)
                for index in range(len(job.stitcher.tiles)):
                    job.stitcher.add(index, outputs.row(index))
                results.append(inspector._pipeline.finish(job))
            lazy, whole = results
            made = lazy.__dict__["_heat_map"]
            skipped += isinstance(made, LazyMap) and not made.made
            searched += bool(whole.regions)
            for one, other in zip(lazy.regions, whole.regions, strict=True):
                # Equal but for OpenCV's distance transform, whose last digit depends on the address of its memory.
                assert vars_of(one.measurements) == pytest.approx(vars_of(other.measurements), rel=1e-6)
                one.measurements = other.measurements = None
            assert lazy == whole  # by value: verdict, score, regions, the map itself
    assert searched
    # Where the score is the map's own peak, the map is needed.
    by_map = kinds == ("anomaly_map",) or (options.get("score_source") == "map" and kinds != ("class_scores",))
    by_map |= "exclusive_classes" in options and "mask_scores" in kinds
    assert not skipped if by_map else skipped


def test_nothing_is_enlarged_searched_or_measured_below_every_threshold(tmp_path, monkeypatch):
    calls = []

    def count(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (calls.append(name), real(*a, **k))[1])

    count(stitching, "map_to_image")
    count(decode, "regions_from_map")
    count(pipeline, "measure")
    path = anomaly_bundle(tmp_path / "a.blemish", Decision(review=0.5, reject=0.6, map_low=0.4, map_high=0.5))
    inspector = Inspector.open(path)
    good = np.full((90, 120), 100, np.uint8)
    bad = good.copy()
    bad[20:60, 30:80] = 250
    results = list(inspector.inspect([good] * 5))
    assert {str(result.verdict) for result in results} == {"pass"}
    assert calls == []
    assert results[0].heat_map.shape == (90, 120)  # made when somebody reads it, and only then
    assert calls == ["map_to_image"]
    calls.clear()
    assert str(inspector.inspect(bad).verdict) == "reject"
    assert {"map_to_image", "regions_from_map", "measure"} <= set(calls)


def test_a_bound_holds_for_any_enlarged_map():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 40, 2)
        scale = 10.0 ** rng.integers(-3, 6)
        values = (rng.normal(rng.normal(), 1, (height, width)) * scale).astype(np.float32)
        if rng.random() < 0.3:
            values[:] = values[0, 0]  # a level map: rounding alone decides
        enlarged = stitching.map_to_image(values, "stretch", tuple(rng.integers(1, 90, 2)))
        assert enlarged.max() <= upper_bound(values)
    assert np.isnan(upper_bound(np.float32([[np.nan, 1]])))


def test_a_copy_of_a_result_holds_its_map(tmp_path):
    result = Inspector.open(anomaly_bundle(tmp_path / "a.blemish")).inspect(np.full((90, 120), 100, np.uint8))
    again = copy.deepcopy(result)
    assert again == result
    assert isinstance(again.__dict__["_heat_map"], LazyMap)
    assert again.__dict__["_heat_map"].made


def test_what_a_map_is_made_from_is_freed():
    made = lazy_map.LazyMap(lambda: np.ones((2, 2), np.float32), 1.0)
    assert made.values is made.values
    assert made._make is None
