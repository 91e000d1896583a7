"""A benchmark: rows are those of `evaluate`, metrics follow from kept scores, nothing is measured twice or mixed."""

import csv
import importlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics
from web_page import read_page

from blemish import Inspector, evaluate, read_dataset
from blemish.cli.benchmark import parse_seeds
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.training.benchmark.benchmark import benchmark
from blemish.training.benchmark.job import read_predictions
from blemish.training.benchmark.rows import PROTOCOL, BenchmarkRow, read_rows, write_rows
from blemish.training.benchmark.sets import fix_test_images
from blemish.training.benchmark.summary import latex_tables, page_content, summarize_rows


@pytest.fixture(scope="module")
def categories(tiny_data, tmp_path_factory):
    """Two categories in the layout of MVTec AD: the second with half of the test images."""
    root = tmp_path_factory.mktemp("categories")
    shutil.copytree(tiny_data.folder / "mvtec", root / "first")
    shutil.copytree(tiny_data.folder / "mvtec", root / "second")
    for path in (root / "second" / "test").glob("*/*.png"):
        if int(path.stem) % 2:
            path.unlink()
            (root / "second/ground_truth" / path.parent.name / f"{path.stem}_mask.png").unlink(missing_ok=True)
    return root


def run(root, out, **settings):
    given = {"methods": ["patchcore"], "seeds": [0, 1], "options": {"image_size": 64}} | settings
    return benchmark(root, out=out, **given)


@pytest.fixture(scope="module")
def done(categories, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "out"
    return out, run(categories, out)


def test_there_is_one_row_for_each_method_set_and_seed(done):
    out, result = done
    rows = read_rows(out / "rows.jsonl")
    found = [(row.seed, row.set, row.method) for row in rows]
    assert found == [(s, c, "patchcore") for s in (0, 1) for c in ("first", "second")]
    assert {row.protocol for row in rows} == {PROTOCOL}
    assert {row.images["test defective"] for row in rows} == {16, 8}
    assert not result.failed
    assert not result.not_begun


def test_a_row_is_what_evaluate_says_of_the_bundle(done, categories):
    out, _ = done
    row = read_rows(out / "rows.jsonl")[0]
    test = read_dataset(categories / "first").split("test")
    folder = next((out / "runs" / "first").glob("patchcore-*-0"))
    found = evaluate(Inspector.open(folder), test, speed=False).to_dict()
    assert row.metrics["image AUROC"] == pytest.approx(found["image"]["auroc"]["value"])
    assert row.metrics["escape at 5 %"] == found["image"]["escape_at_5_percent"]["value"]
    assert row.metrics["AUPRO 0.05"] == pytest.approx(found["pixel"]["aupro_at_5_percent"])
    assert row.metrics["region IoU"] == pytest.approx(found["masks"]["iou"])
    assert row.intervals["image AUROC"] == [found["image"]["auroc"]["low"], found["image"]["auroc"]["high"]]


def test_metrics_of_images_follow_from_the_kept_scores(done):
    out, _ = done
    for row in read_rows(out / "rows.jsonl"):
        images = read_predictions(out / "images" / row.set / row.predictions)
        assert all(not i.image.startswith("/") for i in images)
        truth, scores = np.array([i.defective for i in images]), np.array([i.score for i in images])
        assert row.metrics["image AUROC"] == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-9)
        assert row.metrics["image AP"] == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-9)
        precision, recall, _ = metrics.precision_recall_curve(truth, scores)
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert row.metrics["image F1-max"] == pytest.approx(best, abs=1e-9)
        assert set(row.types) == {"pit", "scratch"}
        for label, own in row.types.items():
            part = np.array([i.true_label in ("good", label) for i in images])
            assert own["image AUROC"] == pytest.approx(metrics.roc_auc_score(truth[part], scores[part]), abs=1e-9)
            assert own["images"] == sum(i.true_label == label for i in images)


def test_tables_hold_mean_and_deviation_of_the_seeds(done):
    out, _ = done
    rows = [row for row in read_rows(out / "rows.jsonl") if (row.set, row.method) == ("first", "patchcore")]
    values = [row.metrics["AUPRO"] for row in rows]
    with (out / "table.csv").open() as stream:
        table = list(csv.DictReader(stream))
    own = next(line for line in table if (line["set"], line["method"]) == ("first", "patchcore"))
    assert float(own["AUPRO"]) == pytest.approx(np.mean(values))
    assert float(own["AUPRO sd"]) == pytest.approx(np.std(values, ddof=1))
    assert (own["seeds"], own["protocol"]) == ("2", str(PROTOCOL))
    latex = (out / "table.tex").read_text()
    assert latex.count(r"\begin{tabular}{lrrr}") == 5  # image AUROC, escape, pixel AP, AUPRO, region IoU
    assert f"{np.mean(values):.3f} $\\pm$ {np.std(values, ddof=1):.3f}" in latex
    assert r"patchcore (image\_size=64) & " in latex
    _, text = read_page(out / "benchmark.html")
    assert "protocol 2" in text
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in text


def test_what_all_methods_have_in_common_is_not_in_their_names(done):
    out, _ = done
    row = read_rows(out / "rows.jsonl")[0]
    other = replace(row, method="padim", options={**row.options, "blur": 2.0})
    summary = summarize_rows([row, other])
    assert summary.shared == ("image_size=64",)
    assert summary.variants == ["patchcore", "padim (blur=2.0)"]
    assert latex_tables(summary).splitlines()[2] == "% all methods: image_size=64"


def made_row(set, method, metrics, seed=0, latency_ms=1.0):
    images = {"train": 5, "tuning": 0, "val": 1, "test good": 0, "test defective": 5}
    cost = {"latency_ms": latency_ms, "size_mb": 1.0}
    return BenchmarkRow(
        PROTOCOL, "0", set, False, method, "default", {}, seed, "val", images, "", "0.json", metrics, cost=cost
    )


def test_names_are_text_in_latex():
    """The special characters of LaTeX, by its manual; each line has the columns that the head declares."""
    names = [r"nuts & bolts_5%", r"$x$ #1", r"{a}\b~c^d"]
    summary = summarize_rows([made_row(name, "padim", {"image AUROC": 0.9}) for name in names])
    lines = latex_tables(summary).splitlines()
    head = next(line for line in lines if line.startswith("method & "))
    expected = [r"nuts \& bolts\_5\%", r"\$x\$ \#1", r"\{a\}\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"]
    assert head == f"method & {' & '.join(expected)} & mean \\\\"


def test_of_escapes_the_lowest_is_the_best(tmp_path):
    """Test images without a good one and without masks leave the escape rate to rank by."""
    rows = [made_row("a", "padim", {"escape": 0.5}, latency_ms=2), made_row("a", "dfm", {"escape": 0.1}, latency_ms=1)]
    own = page_content(summarize_rows(rows), tmp_path)["sets"][0]
    assert [row.variant for row in own["rows"]] == ["dfm", "padim"]
    assert own["fronts"]["latency_ms"]["front"] == ["dfm"]
    both = page_content(summarize_rows(rows + [replace(row, set="b") for row in rows]), tmp_path)
    assert [line["variant"] for line in both["overview"]] == ["dfm", "padim"]


def test_there_is_no_mean_of_different_metrics(tmp_path):
    first = [made_row("a", "unet", {"image AUROC": 0.9})]
    mixed = page_content(summarize_rows([*first, made_row("b", "unet", {"region IoU": 0.1})]), tmp_path)
    assert [line["mean"] for line in mixed["overview"]] == [None]
    same = page_content(summarize_rows([*first, made_row("b", "unet", {"image AUROC": 0.7})]), tmp_path)
    assert same["overview"][0]["mean"] == pytest.approx(0.8)


def test_the_same_training_counts_once(tmp_path, caplog):
    rows = [made_row("a", "padim", {"image AUROC": value}, seed) for value, seed in ((0.9, 0), (0.9, 0), (0.8, 1))]
    write_rows(tmp_path / "rows.jsonl", rows)
    own = summarize_rows(read_rows(tmp_path / "rows.jsonl")).rows[0]
    assert own.seeds == (0, 1)
    assert own.metrics["image AUROC"].mean == pytest.approx(0.85)
    assert own.metrics["image AUROC"].sd == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert "line 2: a second row of a, padim, seed 0; it counts" in caplog.text


def test_what_has_a_row_is_not_trained_again(done, categories, monkeypatch):
    out, _ = done
    before = (out / "rows.jsonl").read_text()
    trainings = importlib.import_module("blemish.training.comparison.runs")
    monkeypatch.setattr(trainings, "train", lambda *_, **__: pytest.fail("trained again"))
    run(categories, out)
    assert (out / "rows.jsonl").read_text() == before
    lines = before.splitlines(keepends=True)
    (out / "rows.jsonl").write_text("".join(lines[:-1]) + lines[-1][:50])  # killed while the last one was written
    run(categories, out)  # its training is finished: evaluated again, not trained
    again, first = read_rows(out / "rows.jsonl"), [json.loads(line) for line in lines]
    assert [(row.set, row.method, row.seed) for row in again] == [(r["set"], r["method"], r["seed"]) for r in first]
    assert again[-1].metrics["image AUROC"] == first[-1]["metrics"]["image AUROC"]


def test_rows_that_cannot_be_compared_are_refused(done, categories, tmp_path):
    out, _ = done
    copy = tmp_path / "out"
    copy.mkdir()
    first = json.loads((out / "rows.jsonl").read_text().splitlines()[0])
    (copy / "rows.jsonl").write_text(json.dumps(first | {"protocol": 1}) + "\n")
    with pytest.raises(OptionError, match="measured by protocol 1"):
        run(categories, copy)
    (copy / "rows.jsonl").write_text(json.dumps(first | {"test_sha256": "0"}) + "\n")
    with pytest.raises(OptionError, match="rows of first with other test images"):
        run(categories, copy)
    (copy / "rows.jsonl").write_text("{}\n")
    with pytest.raises(OptionError, match="line 1: no row of a benchmark"):
        run(categories, copy)


def test_one_network_for_all_categories_is_evaluated_on_each(categories, tmp_path):
    result = run(categories, tmp_path / "out", methods=["padim"], seeds=[0], unified=True)
    assert [(row.set, row.variant) for row in result.summary.rows] == [
        ("first", "padim (unified, image_size=64)"), ("second", "padim (unified, image_size=64)"),
    ]  # fmt: skip
    assert {row.images["train"] + row.images["tuning"] + row.images["val"] for row in result.summary.rows} == {32}


def test_synthetic_images_are_not_measured(tmp_path, caplog):
    real = [
        Sample(tmp_path / f"{split} {label}.png", label, split)
        for split in ("train", "test")
        for label in ("good", "pit")
    ]
    made = [
        Sample(tmp_path / f"made {split}.png", "pit", split, sources=(real[0].image,)) for split in ("train", "test")
    ]
    found = fix_test_images(Dataset((*real, *made), tmp_path, "csv"), [])
    assert found.samples == (*real, made[0])
    assert "1 synthetic images" in caplog.text


def test_no_training_begins_after_the_budget(categories, tmp_path):
    result = run(categories, tmp_path / "out", budget=0.0)
    assert not result.summary.rows
    assert len(result.not_begun) == 4


def test_a_training_that_is_refused_does_not_stop_the_others(categories, tmp_path):
    result = run(categories / "first", tmp_path / "out", methods=["prototypical", "padim"], seeds=[0])
    assert [job.method for job, _ in result.failed] in ([], ["prototypical"])
    assert "padim (image_size=64)" in result.summary.variants
    with pytest.raises(OptionError, match="'nonsense'"):
        run(categories, tmp_path / "other", methods=["nonsense"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty folder"):
        run(tmp_path / "empty", tmp_path / "other")


def test_seeds_on_the_command_line():
    assert parse_seeds("0, 1,22") == [0, 1, 22]
    for wrong in ("", "a", "1,-2", "99999999999"):
        with pytest.raises(OptionError, match="--seeds"):
            parse_seeds(wrong)
