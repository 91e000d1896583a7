"""Images for tuning and for thresholds never meet, whatever the method, held out or cross-fitted."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from blemish import resume, train
from blemish.dataset import duplicates
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.split import hold_out_for_tuning
from blemish.inspection.bundle import open_bundle
from blemish.inspection.inspector import Inspector
from blemish.methods.catalogue import method_class
from blemish.training.learn import fit as fitting
from blemish.training.learn.prepare import FEW_GOOD, choose_calibration, make_config
from blemish.training.ship import cross_fit as crossing
from blemish.training.ship import export

SIZE = {"image_size": 64}
METHODS = {  # monitored, with a temperature, one-pass, finished by `after_training`
    "unet": {**SIZE, "width": 8, "steps": 1, "batch_size": 4, "backbone": "plain"},
    "classifier": {**SIZE, "backbone": "compact", "weights": "random", "epochs": 1, "batch_size": 4},
    "patchcore": {**SIZE, "coreset_ratio": 0.2},
    "efficientad": {**SIZE, "width": 0.2, "distill_steps": 1, "steps": 1},
}


def known_after_training(method, trained, tuned):
    """What `after_training` may see: a method of one pass also sees what it was trained on."""
    return tuned | trained if method == "patchcore" else tuned


class Stages:
    """Which images each fit trained and tuned on, and which ones the folds and the thresholds saw."""

    def __init__(self, monkeypatch):
        self.fits, self.scored, self.thresholds = [], [], []
        prepare, collect, opened = fitting.prepare_fit_data, export.collect_by_product, Inspector.open

        def spy_on_fit(method, dataset, config):
            data = prepare(method, dataset, config)
            loaders = (data.training, data.validation, data.good)
            self.fits.append(tuple({s.image for s in own.dataset.samples} if own else set() for own in loaders))
            return data

        def spy_on_thresholds(results, samples, outputs):
            self.thresholds.append({s.image for s in samples})
            return collect(results, samples, outputs)

        class Opened:
            @staticmethod
            def open(bundle):
                inspector = opened(bundle)
                inspect = inspector.inspect
                inspector.inspect = lambda held: self.scored.append({s.image for s in held}) or inspect(held)
                return inspector

        monkeypatch.setattr(fitting, "prepare_fit_data", spy_on_fit)
        monkeypatch.setattr(export, "collect_by_product", spy_on_thresholds)
        monkeypatch.setattr(crossing, "Inspector", Opened)


def train_small(data, out, method, **settings):
    return train(
        data, out=out, method=method, options=METHODS[method], progress=False, trainer={"accelerator": "cpu"},
        **settings,
    )  # fmt: skip


def source(tiny_data, method):
    return tiny_data.folder / ("labelled.csv" if method in ("unet", "classifier") else "mvtec")


@pytest.mark.parametrize("method", METHODS)
def test_held_out_images_tune_or_choose_thresholds(method, tiny_data, tmp_path, monkeypatch):
    seen = Stages(monkeypatch)
    run = train_small(source(tiny_data, method), tmp_path / "run", method, calibration="held-out")
    (trained, tuned, good), thresholds = seen.fits[0], seen.thresholds[0]
    assert trained
    assert good
    assert thresholds
    assert good <= known_after_training(method, trained, tuned)
    assert not (trained & tuned) | (trained & thresholds) | (tuned & thresholds) | (good & thresholds)
    listed = {s.image: s.split for s in read_dataset(run / "split.csv").samples}
    for images, split in ((trained, "train"), (tuned, "tuning"), (thresholds, "val")):
        assert {listed[path] for path in images} == {split}


@pytest.mark.parametrize("method", METHODS)
def test_folds_score_images_that_neither_trained_nor_tuned(method, tiny_data, tmp_path, monkeypatch):
    seen = Stages(monkeypatch)
    run = train_small(source(tiny_data, method), tmp_path / "run", method, calibration="cross-fitted", folds=2)
    assert len(seen.fits) == 3
    for (trained, tuned, good), scored in zip(seen.fits[:2], seen.scored, strict=True):
        assert trained
        assert good
        assert good <= known_after_training(method, trained, tuned)
        assert not (trained & tuned) | (trained & scored) | (tuned & scored) | (good & scored)
    trained, tuned, _ = seen.fits[2]
    assert not trained & tuned
    assert seen.thresholds[-1] == set().union(*seen.scored)
    assert sum(map(len, seen.scored)) == len(seen.thresholds[-1])
    with (run / "folds.csv").open(encoding="utf-8") as file:
        rows = {Path(row["image"]): row for row in csv.DictReader(file)}
    assert rows.keys() == seen.thresholds[-1]
    for k, ((_, tuned, _), scored) in enumerate(zip(seen.fits[:2], seen.scored, strict=True), start=1):
        assert {path for path, row in rows.items() if row["scored in"] == str(k)} == scored
        assert {path for path, row in rows.items() if str(k) in row["tuning in"].split()} == tuned
    assert open_bundle(run).manifest.calibration.source == "cross-fitted"


def test_the_bundle_says_what_splits_share(tiny_data, tmp_path, caplog):
    own, lines = (tiny_data.folder / "mvtec" / "train" / "good"), ["image,label,split"]
    for i in range(16):
        lines.append(f"{own / f'{i:03}.png'},good,{'val' if i > 11 else 'train'}")
    cv2.imwrite(str(tmp_path / "copy.png"), cv2.imread(str(own / "003.png")), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    (tmp_path / "data.csv").write_text("\n".join([*lines, "copy.png,good,test", ""]))
    run = train_small(tmp_path / "data.csv", tmp_path / "run", "patchcore")
    (said,) = [line for line in caplog.messages if "the same file in several splits" in line]
    said = said.partition(", such as")[0]  # the example's files are named in the order of the prepared list
    assert any(line.startswith(said) for line in open_bundle(run).manifest.calibration.warnings)


@pytest.mark.parametrize("limit", [10, 1000])
def test_the_bundle_says_where_near_duplicates_were_not_looked_for(tiny_data, tmp_path, monkeypatch, caplog, limit):
    monkeypatch.setattr(duplicates, "MAX_NEAR_IMAGES", limit)
    run = train_small(tiny_data.folder / "mvtec", tmp_path / "run", "patchcore", calibration="held-out")
    with (run / "split.csv").open(encoding="utf-8") as file:
        count = sum(1 for _ in csv.DictReader(file))
    said = f"near duplicates are not looked for among {count} images, more than 10"
    expected = int(limit == 10)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.startswith(said) for line in warned if "near duplicates" in line] == [True] * expected
    written = open_bundle(run).manifest.calibration.warnings
    assert sum(line.startswith(said) for line in written) == expected


def test_a_resumed_run_keeps_its_images_for_tuning(tiny_data, tmp_path, monkeypatch):
    seen = Stages(monkeypatch)
    run = train_small(tiny_data.folder / "mvtec", tmp_path / "run", "patchcore", calibration="held-out")
    (run / "weights.safetensors").unlink()
    resume(run, progress=False)
    assert seen.fits[0] == seen.fits[1]
    assert seen.thresholds[0] == seen.thresholds[1]


def test_given_validation_images_are_trained_on_where_folds_are_made(tiny_data, tmp_path):
    run = train_small(
        tiny_data.folder / "labelled.csv", tmp_path / "run", "patchcore", calibration="cross-fitted", folds=2
    )
    splits = Counter(s.split for s in read_dataset(run / "split.csv").samples)
    assert splits["val"] == 0
    assert splits["tuning"] > 0
    assert open_bundle(run).manifest.calibration.good_images == 20


def test_shares_labels_groups_and_few_images():
    samples = [
        Sample(Path(f"{i}.png"), label, "train") for i, label in enumerate(["good"] * 40 + ["a"] * 20 + ["b"] * 3)
    ]
    data = Dataset(tuple(samples), Path(), "csv")
    split = hold_out_for_tuning(data, 0.15, seed=1)
    assert Counter(s.label for s in split.split("tuning").samples) == {"good": 6, "a": 3}  # 0.15 of 3 is less than half
    assert hold_out_for_tuning(split, 0.15, seed=2) == split  # what is given stays
    assert len(split) == len(data)
    lots = data.with_samples(replace(s, group=f"lot {i % 12}") for i, s in enumerate(samples[:36]))
    tuning = hold_out_for_tuning(lots, 0.15, seed=1).split("tuning")
    assert len(tuning) == 3
    assert len({s.group for s in tuning.samples}) == 1
    few = data.with_samples(samples[:4])
    assert len(hold_out_for_tuning(few, 0.1).split("tuning")) == 1
    assert len(hold_out_for_tuning(few.with_samples(samples[:3]), 0.1).split("tuning")) == 0


def test_synthetic_images_made_of_tuning_images_are_left_out():
    real = [Sample(Path(f"{i}.png"), "good", "train") for i in range(20)]
    made = [Sample(Path(f"s{i}.png"), "scratch", "train", sources=(Path(f"{i}.png"),)) for i in range(20)]
    split = hold_out_for_tuning(Dataset((*real, *made), Path(), "csv"), 0.2)
    held = {s.image for s in split.split("tuning").samples}
    kept = [s for s in split.samples if s.sources]
    assert len(held) == 4
    assert len(kept) == 16
    assert not held & {path for s in kept for path in s.sources}


@pytest.mark.usefixtures("cross_fit_few_good")
@pytest.mark.parametrize(
    ("count", "changes", "settings", "expected"),
    [
        (FEW_GOOD - 1, {}, {}, "cross-fitted"),
        (FEW_GOOD, {}, {}, "held-out"),
        (10, {}, {}, "cross-fitted"),
        (9, {}, {}, "held-out"),
        (10, {}, {"folds": 6}, "held-out"),
        (50, {}, {"trainer": {"devices": 2}}, "held-out"),
        (50, {"group": "lot"}, {}, "held-out"),
        (50, {"split": "val"}, {}, "held-out"),
        (50, {"split": "test"}, {}, "held-out"),
    ],
)
def test_one_pass_methods_are_cross_fitted_where_good_images_are_few(count, changes, settings, expected):
    samples = tuple(Sample(Path(f"{i}.png"), "good", **changes) for i in range(count))
    data = Dataset(samples, Path(), "csv")
    assert choose_calibration(data, method_class("patchcore"), settings) == expected
    assert choose_calibration(data, method_class("stfpm"), settings) == "held-out"
    assert choose_calibration(data, method_class("feature-classifier"), settings) == "held-out"


@pytest.mark.usefixtures("cross_fit_few_good")
def test_synthetic_images_and_those_given_to_val_do_not_count_for_cross_fitting():
    real = [Sample(Path(f"{i}.png"), "good") for i in range(40)]
    made = [Sample(Path(f"s{i}.png"), "good", "val", sources=(Path("0.png"),)) for i in range(300)]
    assert choose_calibration(Dataset((*real, *made), Path(), "csv"), method_class("patchcore"), {}) == "cross-fitted"


@pytest.mark.usefixtures("cross_fit_few_good")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"folds": 3}, False),
        ({"folds": 9}, True),
        ({"folds": 4, "calibration": "held-out"}, True),
        ({"folds": 5}, False),
    ],
)
def test_folds_that_have_no_effect_are_said(tiny_data, caplog, settings, said):
    data = tiny_data.folder / "mvtec"  # with too few images for nine folds
    config = make_config(data, read_dataset(data), "patchcore", {}, settings)
    assert (config.calibration == "held-out") is said
    lines = [line for line in caplog.messages if "no effect" in line]
    assert [line.startswith(f"folds={settings['folds']} has no effect") for line in lines] == [True] * said


@pytest.mark.usefixtures("cross_fit_few_good")
def test_run_yaml_states_what_was_chosen(tiny_data):
    data = tiny_data.folder / "mvtec"
    for settings, expected in (({}, "cross-fitted"), ({"calibration": "held-out"}, "held-out")):
        config = make_config(data, read_dataset(data), "patchcore", {}, settings)
        assert config.model_dump()["calibration"] == expected
