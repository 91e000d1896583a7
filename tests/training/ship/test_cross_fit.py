"""Cross-fitting: how folds are made, and where the training stops by them."""

import csv
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Sample
from blemish.dataset.write import write_csv
from blemish.errors import DataError
from blemish.inspection.bundle import open_bundle
from blemish.synthesis.augmented_set import write_augmented
from blemish.synthesis.defect_spec import parse_defect_spec
from blemish.training.learn.prepare import make_config, prepare_dataset
from blemish.training.ship import cross_fit as crossing
from blemish.training.ship import refine
from blemish.training.ship.cross_fit import make_fold_splits, make_folds
from blemish.training.train import train


def test_folds_hold_each_image_once_groups_together_and_classes_evenly():
    samples = [Sample(Path(f"{i}.png"), label) for i, label in enumerate("a" * 20 + "b" * 10 + "c" * 5)]
    folds = make_folds(samples, 5, seed=3)
    assert sorted(i for fold in folds for i in fold) == list(range(35))
    for fold in folds:
        assert Counter(samples[i].label for i in fold) == {"a": 4, "b": 2, "c": 1}
    small = {*range(0, 20, 4), *range(20, 30, 2)}
    products = [replace(sample, product="small" if i in small else "large") for i, sample in enumerate(samples)]
    for fold in make_folds(products, 5, seed=3):
        shown = Counter((products[i].label, products[i].product) for i in fold)
        assert shown == {("a", "large"): 3, ("a", "small"): 1, ("b", "large"): 1, ("b", "small"): 1, ("c", "large"): 1}
    grouped = [replace(sample, group=f"lot {i // 7}") for i, sample in enumerate(samples)]
    lots = [{grouped[i].group for i in fold} for fold in make_folds(grouped, 5, seed=3)]
    assert sorted(lot for found in lots for lot in found) == [f"lot {i}" for i in range(5)]
    with pytest.raises(DataError, match="6 folds needs as many training images, or groups of them; there are 5"):
        make_folds(grouped, 6, seed=3)


@pytest.mark.parametrize("group", [None, "lot"])
def test_the_order_of_the_images_changes_no_fold(group):
    names = [f"{label}{i:02}" for label, count in (("good", 30), ("crack", 8)) for i in range(count)]
    samples = [Sample(Path(f"{n}.png"), n[:-2], group=group and f"{group} {i // 2}") for i, n in enumerate(names)]
    shuffled = random.Random(1).sample(samples, len(samples))
    folds = [[{own[i].image for i in fold} for fold in make_folds(own, 5, seed=0)] for own in (samples, shuffled)]
    assert folds[0] == folds[1]


def test_the_order_of_rows_changes_no_training(tiny_data):
    data = read_dataset(tiny_data.folder / "labelled.csv")
    config = make_config("x", data, "patchcore", {}, {"calibration": "cross-fitted", "seed": 3})
    shuffled = data.with_samples(random.Random(1).sample(data.samples, len(data)))
    one, other = (prepare_dataset(own, config) for own in (data, shuffled))
    assert one.samples == other.samples
    splits = [
        [[(s.image, s.split) for s in fold.samples] for fold in make_fold_splits(own, config)[1]]
        for own in (one, other)
    ]
    assert splits[0] == splits[1]
    assert refine._good_images(data) == refine._good_images(shuffled)


def test_synthetic_images_are_in_no_fold(tiny_data, tmp_path, monkeypatch):
    recipe, seen = parse_defect_spec([{"kind": "scratch"}]), []
    data = read_dataset(tiny_data.folder / "labelled.csv")
    write_augmented(data, tmp_path / "more", recipe, 6, include=True)
    learn = crossing.fit
    monkeypatch.setattr(crossing, "fit", lambda m, part, *a, **k: seen.append(part) or learn(m, part, *a, **k))
    options = {"backbone": "compact", "weights": "random", "image_size": 64, "batch_size": 16, "epochs": 1}
    run = train(
        tmp_path / "more" / "dataset.csv", out=tmp_path / "run", method="classifier", options=options,
        calibration="cross-fitted", folds=2, progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    for part in seen:
        held = {s.image for s in data.samples} - {s.image for s in part.samples}
        extra = [s for s in part.samples if s.sources is not None]
        assert 0 < len(extra) < 6
        assert not held & {path for s in extra for path in (s.image, *s.sources)}
    calibration = open_bundle(run).manifest.calibration
    training = data.split("train").samples + data.split("val").samples
    assert calibration.good_images == sum(s.label == "good" for s in training)
    assert calibration.defect_images == sum(s.label != "good" for s in training)


def test_the_training_stops_where_the_folds_say_and_takes_their_temperature(tiny_data, tmp_path, monkeypatch):
    seen = []

    def half(courses):
        seen.extend(courses)
        return 0.5

    monkeypatch.setattr(crossing, "best_stopping_share", half)
    options = {"backbone": "compact", "weights": "random", "image_size": 64, "batch_size": 4, "epochs": 4}
    run = train(
        tiny_data.folder / "labelled.csv", out=tmp_path / "run", method="classifier", options=options,
        calibration="cross-fitted", folds=3, progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    assert [len(course) for course in seen] == [4, 4, 4]
    assert [share for share, _ in seen[0]] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    manifest = open_bundle(run).manifest
    batches = -(-manifest.provenance.data["counts"]["train"] // 4)
    with (run / "log" / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["loss"]]
    assert steps[-1] == 2 * batches - 1  # counted from 0
    assert manifest.calibration.source == "cross-fitted"
    assert manifest.calibration.temperature != 1.0
    assert not (run / "folds").exists()


@pytest.mark.parametrize("calibration", ["held-out", "cross-fitted"])
def test_a_training_whose_tuning_shows_no_defect_says_so(calibration, tiny_data, tmp_path, caplog):
    data = read_dataset(tiny_data.folder / "labelled.csv")
    good, pits = ([s for s in data.samples if s.label == label] for label in ("good", "pit"))
    kept = [*good[:18], *pits[:3]]
    few = [replace(s, split="train" if calibration == "cross-fitted" or s.split == "train" else "val") for s in kept]
    write_csv(data.with_samples(few), tmp_path / "few.csv")
    options = {
        "backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 4, "width": 4, "steps": 6,
    }  # fmt: skip
    run = train(
        tmp_path / "few.csv", out=tmp_path / "run", method="unet", options=options, calibration=calibration, folds=2,
        progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    said = "the images for tuning show no defect, or one class alone"
    assert sum(said in line for line in open_bundle(run).manifest.calibration.warnings) == 1
    assert said in caplog.text
    with (run / "log" / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["loss"]]
    assert steps[-1] == 5  # to the end, counted from 0


@pytest.mark.parametrize("method", ["classifier", "feature-classifier"])
def test_a_class_that_a_fold_would_lack_is_refused_before_any_training(method, tiny_data, tmp_path):
    data = read_dataset(tiny_data.folder / "labelled.csv")
    of_one_lot = [replace(s, split="train", group="lot" if s.label == "pit" else None) for s in data.samples]
    write_csv(data.with_samples(of_one_lot), tmp_path / "lot.csv")
    with pytest.raises(
        DataError, match=r"fold [123] of 3 would learn class 'pit' from 0 images.*--calibration held-out"
    ):
        train(tmp_path / "lot.csv", out=tmp_path / "run", method=method, options={"weights": "random"},
              calibration="cross-fitted", folds=3, progress=False)  # fmt: skip
    assert not (tmp_path / "run" / "folds").exists()
