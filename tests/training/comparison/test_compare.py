"""A comparison: its metrics are those of `evaluate`, finished runs stay, the page names the images of the choice."""

import csv
import importlib
import json
from pathlib import Path

import pytest
from web_page import read_page

from blemish import Inspector, evaluate, read_dataset
from blemish.dataset.split import assign_folds
from blemish.errors import DataError, OptionError
from blemish.inspection.bundle import open_bundle
from blemish.training.comparison.budget import parse_time
from blemish.training.comparison.compare import compare, options_by_method
from blemish.training.comparison.runs import OtherRunError, train_or_resume
from blemish.training.learn.run import read_config

QUICK = {"image_size": 64}


def quietly(data, out, methods, options=QUICK, **settings):
    return compare(data, out=out, methods=methods, options=options, progress=False, **settings)


@pytest.fixture(scope="module")
def trained():
    """How often each method was trained, counted where trainings begin."""
    module, counts = importlib.import_module("blemish.training.comparison.runs"), []
    with pytest.MonkeyPatch.context() as patch:
        learn = module.train
        patch.setattr(module, "train", lambda *a, **k: counts.append(k["method"]) or learn(*a, **k))
        yield counts


@pytest.fixture(scope="module")
def done(tiny_data, tmp_path_factory, trained):
    out = tmp_path_factory.mktemp("comparison") / "out"
    return out, quietly(tiny_data.folder / "mvtec", out, ["padim", "patchcore", "unet"])


def test_metrics_are_those_of_evaluate_on_the_same_bundle(done, tiny_data):
    out, facts = done
    assert facts["basis"]["kind"] == "test"
    test = read_dataset(tiny_data.folder / "mvtec").split("test")
    for row in facts["ranking"]:
        result = evaluate(Inspector.open(out / "runs" / row["method"]), test, speed=False).to_dict()
        assert row["value"] == pytest.approx(result["image"]["auroc"]["value"])
        assert row["metrics"]["pixel AUROC"] == pytest.approx(result["pixel"]["auroc"])
        assert row["metrics"]["IoU of regions"] == pytest.approx(result["masks"]["iou"])
        assert row["size_mb"] == pytest.approx(result["bundle"]["size_mb"])
        assert row["options"]["image_size"] == 64
    assert facts["ranking"][0]["value"] >= facts["ranking"][1]["value"]
    assert json.loads((out / "comparison.json").read_text()) == facts


def test_all_methods_have_the_same_split(done):
    out, _ = done
    common, padim, patchcore = (
        [
            (row["image"], row["split"])
            for row in csv.DictReader((out / folder / "split.csv").read_text("utf-8").splitlines(keepends=True))
        ]
        for folder in (".", "runs/padim", "runs/patchcore")
    )
    assert padim == patchcore
    # Each training holds images for tuning out of the common training images.
    assert common == [(image, "train" if split == "tuning" else split) for image, split in padim]


def test_the_choice_ships_and_the_page_says_why(done):
    out, facts = done
    chosen = facts["choice"]["method"]
    assert open_bundle(out).manifest.provenance.method == chosen
    _, words = read_page(out / "comparison.html")
    assert f"Choice: {chosen}" in words
    assert facts["choice"]["reason"] in words
    assert "the choice is based on the 20 test images" in words
    assert "makes its metric too good" in words
    assert "unet is trained on defects" in words  # left out, with the reason


def test_finished_runs_are_not_trained_again(done, tiny_data, trained):
    out, facts = done
    assert sorted(trained) == ["padim", "patchcore"]
    again = quietly(tiny_data.folder / "mvtec", out, ["padim", "patchcore", "unet"], budget=0)
    assert sorted(trained) == ["padim", "patchcore"]
    assert again["ranking"] == facts["ranking"]
    (out / "runs" / "padim" / "padim.blemish").unlink()  # as if interrupted before it shipped
    again = quietly(tiny_data.folder / "mvtec", out, ["padim", "patchcore"])
    assert sorted(trained) == ["padim", "patchcore"]  # resumed, not started again
    assert [row["value"] for row in again["ranking"]] == pytest.approx([row["value"] for row in facts["ranking"]])


def test_a_folder_of_another_comparison_is_refused(done, tiny_data, tmp_path):
    out, _ = done
    data = tiny_data.folder / "mvtec"
    with pytest.raises(OtherRunError, match=r"was trained with coreset_ratio=0\.\d+, not 0\.3"):
        quietly(data, out, ["patchcore"], {"image_size": 64, "coreset_ratio": 0.3})
    with pytest.raises(OptionError, match="another seed"):
        quietly(data, out, ["patchcore"], seed=1)
    (tmp_path / "mine.txt").write_text("not to be touched")
    with pytest.raises(OptionError, match="holds no comparison"):
        quietly(data, tmp_path, ["patchcore"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tiling": {"height": 32, "width": 32, "overlap": 0.25}}, "with tiling None, not .*32"),
        ({"trainer": {"precision": "bf16-mixed"}}, "with trainer {}, not .*bf16-mixed"),
        ({"fit": "letterbox"}, "with fit stretch, not letterbox"),
    ],
)
def test_a_run_under_other_settings_is_not_taken_as_finished(done, tiny_data, settings, words):
    run, listed = done[0] / "runs" / "padim", done[0] / "split.csv"
    train_or_resume(listed, run, "padim", QUICK, False, trainer={"accelerator": "cpu"})
    with pytest.raises(OtherRunError, match=words):
        train_or_resume(listed, run, "padim", QUICK, False, **settings)


def test_tiles_are_for_all_and_synthetic_defects_for_those_that_learn_from_defects(tiny_data, tmp_path):
    tiling, spec = {"height": 48, "width": 48}, {"steps": [{"kind": "pit", "label": "pit"}]}
    options = {**QUICK, "unet.steps": 2, "unet.backbone": "test_resnet", "unet.weights": "random"}
    out, methods = tmp_path / "out", ["patchcore", "unet"]
    facts = quietly(tiny_data.folder / "mvtec", out, methods, options, tiling=tiling, synthetic=spec)
    assert {row["method"] for row in facts["ranking"]} == set(methods)  # unet, too, from synthetic defects alone
    runs = {name: read_config(out / "runs" / name) for name in methods}
    assert runs["patchcore"].synthetic is None
    assert runs["unet"].synthetic.steps[0].kind == "pit"
    assert {run.tiling.width for run in runs.values()} == {48}
    _, words = read_page(out / "comparison.html")
    assert "tiles of 48 × 48 px with an overlap of" in words
    assert "methods that are trained with defects: pit" in words
    with pytest.raises(OptionError, match="patchcore is trained on good images alone"):
        quietly(tiny_data.folder / "mvtec", tmp_path / "no", ["patchcore"], synthetic=spec)
    other = {"steps": [{"kind": "dent", "label": "pit"}]}
    with pytest.raises(OtherRunError, match="trained with another specification"):
        quietly(tiny_data.folder / "mvtec", out, methods, options, tiling=tiling, synthetic=other)


def test_a_budget_of_nothing_names_what_was_left_out(tiny_data, tmp_path):
    with pytest.raises(
        OptionError, match=r"no method fits into 0 s: patchcore: nothing .*; padim: nothing .* --budget"
    ):
        quietly(tiny_data.folder / "mvtec", tmp_path / "none", ["padim", "patchcore"], budget=0)
    assert not list(tmp_path.glob("none/runs/*"))


def test_a_budget_leaves_out_what_does_not_fit_by_estimate(tiny_data, tmp_path, monkeypatch):
    seconds = {"patchcore": 1000.0, "padim": 1.0}
    monkeypatch.setattr(
        "blemish.training.comparison.budget.Budget._once", lambda self, method, options: seconds[method]
    )
    facts = quietly(tiny_data.folder / "mvtec", tmp_path / "some", ["padim", "patchcore"], budget=300)
    assert [row["method"] for row in facts["ranking"]] == ["padim"]
    assert facts["left_out"][0]["method"] == "patchcore"
    assert "it takes about 17 min by estimate" in facts["left_out"][0]["reason"]


@pytest.fixture(scope="module")
def labelled(tiny_data, tmp_path_factory):
    """Good and defective images in each of training, validation and test."""
    rows = list(csv.DictReader((tiny_data.folder / "labelled.csv").read_text("utf-8").splitlines(keepends=True)))
    path = tmp_path_factory.mktemp("labelled") / "data.csv"
    lines = ["image,label,mask,split"]
    for i, row in enumerate(rows):
        mask = row["mask"] and tiny_data.folder / row["mask"]
        split = ("train", "train", "val", "test")[i % 4]
        lines.append(f"{tiny_data.folder / row['image']},{row['label']},{mask},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_validation_images_of_both_kinds_decide_and_the_test_images_are_not_used(labelled, tmp_path):
    facts = quietly(labelled, tmp_path / "out", ["patchcore", "padim"])
    assert facts["basis"]["kind"] == "validation"
    data = read_dataset(labelled)
    for row, tested in zip(facts["ranking"], facts["test"], strict=True):
        inspector = Inspector.open(tmp_path / "out" / "runs" / row["method"])
        held, test = (evaluate(inspector, data.split(split), speed=False).to_dict() for split in ("val", "test"))
        assert row["value"] == pytest.approx(held["image"]["auroc"]["value"])
        assert tested["metrics"]["image AUROC"] == pytest.approx(test["image"]["auroc"]["value"])
    _, words = read_page(tmp_path / "out" / "comparison.html")
    assert "The test images were not used" in words


def test_folds_evaluate_every_image_once_and_leave_the_test_alone(labelled, tmp_path, trained):
    before = len(trained)
    out = tmp_path / "out"
    facts = quietly(labelled, out, ["padim"], folds=2)
    assert len(trained) - before == 3  # two folds, and the chosen method on all training images
    data = read_dataset(labelled)
    pool = {s.image for s in data.samples if s.split != "test"}
    held = []
    for k in range(2):
        fold = read_dataset(out / "folds" / str(k) / "split.csv")
        assert {s.image for s in fold.samples} == pool
        assert {s.split for s in fold.samples} == {"train", "val", "test"}
        held += [s.image for s in fold.split("test").samples]
    assert sorted(held) == sorted(pool)
    right, pairs, judged = 0.0, 0, []
    for k in range(2):
        part = read_dataset(out / "folds" / str(k) / "split.csv").split("test")
        run = out / "folds" / str(k) / "padim"
        figures = evaluate(Inspector.open(run), part, speed=False).to_dict()
        own = sum(s.defective for s in part.samples) * sum(not s.defective for s in part.samples)
        right, pairs = right + figures["image"]["auroc"]["value"] * own, pairs + own
        judged += json.loads((run / "evaluated-fold.json").read_text())["predictions"]
    assert facts["ranking"][0]["value"] == pytest.approx(right / pairs)  # pairs of images of one fold
    assert {Path(own["image"]) for own in judged} == pool
    assert [own["method"] for own in facts["test"]] == ["padim"]
    assert facts["test"][0]["images"] == len(data.split("test"))


def test_folds_keep_groups_together_and_share_out_labels(tiny_data):
    from dataclasses import replace

    data = read_dataset(tiny_data.folder / "labelled.csv")
    numbers = assign_folds(data, 4)
    for name in data.classes:
        own = [n for n, s in zip(numbers, data.samples, strict=True) if s.label == name]
        assert max(map(own.count, range(4))) - min(map(own.count, range(4))) <= 1
    grouped = data.with_samples(replace(s, group=f"g{i // 2}") for i, s in enumerate(data.samples))
    numbers = assign_folds(grouped, 4)
    assert numbers[::2] == numbers[1::2]
    with pytest.raises(DataError, match="take fewer folds"):
        assign_folds(data.with_samples(data.samples[:22]), 6)


def test_without_images_to_rank_methods_there_is_one_message(tiny_data, tmp_path):
    (tmp_path / "good.csv").write_text(
        "image,label,split\n"
        + "".join(
            f"{tiny_data.folder}/mvtec/train/good/{i:03}.png,good,{'train' if i < 12 else 'test'}\n" for i in range(16)
        )
    )
    with pytest.raises(DataError, match="no metric can rank the methods"):
        quietly(tmp_path / "good.csv", tmp_path / "out", ["padim"])
    with pytest.raises(DataError, match="leave out --folds"):
        quietly(tiny_data.folder / "mvtec", tmp_path / "out", ["padim"], folds=3)
    with pytest.raises(
        DataError, match="none of the methods can be trained on this data: unet: unet is trained on defects"
    ):
        quietly(tiny_data.folder / "mvtec", tmp_path / "out", ["unet"])


def test_options_of_one_method_and_of_all_that_have_it():
    given = {"patchcore.image_size": 96, "image_size": 64, "coreset_ratio": 0.1, "unet.crop": 32}
    found = options_by_method(given, ["patchcore", "unet"])
    assert found["patchcore"] == {"image_size": 96, "coreset_ratio": 0.1}
    assert found["unet"] == {"image_size": 64, "crop": 32}
    with pytest.raises(OptionError, match="none of the methods compared"):
        options_by_method({"padim.blur": 2}, ["patchcore"])
    with pytest.raises(OptionError, match="has an option 'dimensions'"):
        options_by_method({"dimensions": 2}, ["patchcore"])


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("0.5h", 1800), ("0m", 0)])
def test_durations(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "1m1h", "soon"])
def test_invalid_durations(text):
    with pytest.raises(OptionError, match="invalid duration"):
        parse_time(text)
