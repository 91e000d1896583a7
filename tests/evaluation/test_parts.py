"""Evaluation by part against counts made by hand."""

import itertools

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.write import write_csv
from blemish.errors import DataError
from blemish.evaluation.parts import evaluate_parts, group_parts
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Verdict

# part -> view -> (grey level, true label); the bundle passes 60 and rejects 200.
PARTS = {
    "a": {"top": (60, "good"), "side": (60, "good")},
    "b": {"top": (60, "good"), "side": (200, "scratch")},
    "c": {"top": (200, "scratch"), "side": (200, "scratch")},
    "d": {"top": (60, "good"), "side": (60, "dent")},  # an escape
    "e": {"top": (200, "good"), "side": (60, "good")},  # overkill
    "f": {"top": (60, "good")},  # lacks a view, and so nothing is known of it
    "g": {"top": (60, None), "side": (60, "good")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    samples = []
    for number, (part, view) in enumerate((p, v) for p, views in PARTS.items() for v in views):
        level, label = PARTS[part][view]
        path = folder / f"{number}.png"
        image = np.full((64, 64), 60, np.uint8)
        image[20:30, 20:40] = level
        cv2.imwrite(str(path), image)
        samples.append(Sample(path, label, group=part, view=view))
    return Dataset(tuple(samples), folder, "csv")


@pytest.fixture(scope="module")
def inspectors(tmp_path_factory):
    inspector = Inspector.open(anomaly_bundle(tmp_path_factory.mktemp("bundle") / "grey.blemish"))
    return {"top": inspector, "side": inspector}


def test_parts_are_counted(data, inspectors):
    result = evaluate_parts(inspectors, data)
    verdicts = {part.name: part.verdict for part in result.parts}
    assert verdicts == {
        "a": Verdict.PASS, "b": Verdict.REJECT, "c": Verdict.REJECT, "d": Verdict.PASS, "e": Verdict.REJECT,
        "f": Verdict.REVIEW, "g": Verdict.PASS,
    }  # fmt: skip
    assert {part.name: part.defective for part in result.parts} == {
        "a": False, "b": True, "c": True, "d": True, "e": False, "f": None, "g": None,
    }  # fmt: skip
    assert (result.escape.value, result.escape.n) == (pytest.approx(1 / 3), 3)
    assert (result.overkill.value, result.overkill.n) == (0.5, 2)
    assert (result.review.value, result.review.n, result.incomplete) == (pytest.approx(1 / 7), 7, 1)
    assert result.found_by == {"top": 0, "side": 1}
    stricter = evaluate_parts(inspectors, data, ["review if count == 0"])
    assert {part.verdict for part in stricter.parts} == {Verdict.REVIEW, Verdict.REJECT}


def test_the_views_of_a_csv_are_read_and_written(data, tmp_path):
    write_csv(data, tmp_path / "parts.csv")
    again = read_dataset(tmp_path / "parts.csv")
    assert [(s.group, s.view) for s in again.samples] == [(s.group, s.view) for s in data.samples]
    assert list(group_parts(again, ["top", "side"])) == list(PARTS)


def test_what_is_no_part(data):
    first, second = data.samples[0], data.samples[1]
    for samples, message in (
        ([Sample(first.image, "good", view="top")], "no part"),
        ([Sample(first.image, "good", group="a")], "no view"),
        ([Sample(first.image, "good", group="a", view="back")], "no bundle"),
        ([first, Sample(second.image, "good", group="a", view="top")], "twice"),
    ):
        with pytest.raises(DataError, match=message):
            group_parts(Dataset(tuple(samples), data.root, "csv"), ["top", "side"])
    with pytest.raises(DataError, match="no parts"):
        evaluate_parts({}, Dataset((), data.root, "csv"))


def test_splits_keep_parts_whole(data):
    from blemish.dataset.split import ensure_splits

    many = [
        Sample(data.samples[0].image.with_name(f"{n}-{view}.png"), "good", group=f"p{n}", view=view)
        for n, view in itertools.product(range(20), ("top", "side"))
    ]
    for number, sample in enumerate(many):
        image = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        cv2.imwrite(str(sample.image), image)
    whole = ensure_splits(Dataset(tuple(many), data.root, "csv"), seed=1)
    splits = {}
    for sample in whole.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
