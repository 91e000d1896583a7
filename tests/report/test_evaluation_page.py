"""The report's page: whole, self-contained, and right in its words."""

import html
import importlib.util
import json
import re

import numpy as np
import pytest
import typer
from graphs import anomaly_bundle, fixed_boxes, grey_classes, make_bundle, model
from matplotlib.textpath import TextPath
from onnx import helper
from typer.testing import CliRunner
from web_page import read_page

from blemish.cli.report import report
from blemish.dataset.sample import Sample
from blemish.errors import DataError, MissingExtraError, OptionError
from blemish.evaluation.curves import class_curves, detection_curves
from blemish.evaluation.defect_recall import DefectMatches
from blemish.evaluation.detections import IOU_50, Detections, detection_precision, rank_detections
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.intervals import MIN_UNITS, estimate_rate, prove_escape_rate
from blemish.geometry import Polygon
from blemish.imaging.read import write_image
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Verdict
from blemish.report.evaluation_page import summary_sentences, verdicts_by_class
from blemish.report.formatting import percent
from blemish.report.gallery import make_card, select_errors, select_images
from blemish.report.plots import (
    plot_measured_values,
    plot_precision_recall,
    plot_precision_recall_by_class,
    plot_roc,
    plot_score_histogram,
)
from blemish.translation import translator


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(report)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


@pytest.fixture
def folder(tmp_path):
    """Class folders whose images peak at known heights; one name would break a page that does not escape it."""
    peaks = {"good": [0.1, 0.2, 0.55, 0.8], "pit": [0.3, 0.9, 0.95], "<i>stain&": [0.7, 0.56]}
    for label, values in peaks.items():
        for number, peak in enumerate(values):
            image = np.full((48, 64, 1), 10, np.uint8)
            image[16:32, 16:40] = round(255 * peak)
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "data" / label / f"{number}.png", image)
    (tmp_path / "data" / "pit" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "data"


def test_page_of_a_map_bundle(run, folder, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    run(bundle, folder)
    path = tmp_path / "grey-report.html"
    assert path.stat().st_size < 10e6
    page, words = read_page(path)
    assert "1 of 5 defective parts passed. The escape rate is 20 %" in words
    assert "1 of 4 good parts were rejected. The overkill rate is 25 %" in words
    assert "parts must be inspected without another escape" in words
    for title in ("Missed", "False alarms", "Up for review", "Typical", "Verdicts by class", "Provenance"):
        assert title in words
    assert "Nearly missed" not in words
    assert "cut.png" in words
    assert "no certificate" in words
    assert f"with fewer than {MIN_UNITS} good or defective parts" in words
    assert "neither the data nor the bundle say which images were trained on" in words
    assert "<i>stain&" in words  # escaped: it reaches the reader as text
    # Two pictures each for: 1 missed, 1 false alarm, 2 for review, 3 typical.
    assert page.images == 14
    assert "currentColor" in path.read_text()


def test_page_of_a_class_bundle_without_speed(run, folder, tmp_path):
    bundle = make_bundle(
        tmp_path / "c.blemish", grey_classes(), ["class_scores"], Decision(review=0.5, reject=0.6),
        classes=["good", "<i>stain&", "pit"],
    )  # fmt: skip
    out = tmp_path / "new" / "page.html"
    assert str(out) in run(bundle, folder, "--out", out, "--no-speed").replace("\n", "")
    page, words = read_page(out)
    assert "balanced accuracy" in words
    assert "calibration error" in words
    assert "Top mistakes" in words
    assert "Images of a class against all others" in words
    # Each number of the confusion opens its images; what the bundle calls "<i>stain&" is bright.
    links = re.findall(r'<a href="#(cell-\d-\d)">(\d+)</a>', out.read_text(encoding="utf-8"))
    assert dict(links) == {"cell-0-0": "2", "cell-0-1": "2", "cell-1-1": "2", "cell-2-0": "1", "cell-2-1": "2"}
    assert {name for name, _ in links} <= set(page.ids)
    assert "good predicted as <i>stain& 2 of 2" in words
    assert "Images per second" not in words
    assert "Regions as they ship" not in words


def test_page_in_chinese(run, folder, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    run(bundle, folder, "--language", "zh")
    page, words = read_page(tmp_path / "grey-report.html")
    for part in (
        "5 件缺陷品中有 1 件被判为合格。漏检率为 20 %",
        "还需再检测",
        "得分 0.5608 达到或超过",
        "与原网络一致的证书",
        "典型图像",
        "最佳阈值下的 F1",
        "峰值内存",
    ):
        assert part in words
    assert page.images == 14
    for english in (
        "parts",
        "images",
        "escape",
        "Missed",
        "score",
        "regions",
        "interval",
        "Verdict",
        "annotation",
        "defects",
    ):
        assert english not in words


def test_an_unknown_language_is_refused_before_any_work(run, folder, tmp_path):
    with pytest.raises(OptionError, match="unknown language 'chinese'; known are en, zh"):
        run(tmp_path / "none.blemish", folder, "--language", "chinese")


def test_page_of_a_detector(run, tmp_path):
    """The bundle gives two boxes: one defect is found, a larger one missed, one box is false."""
    graph = fixed_boxes([[2, 2, 12, 12], [30, 30, 40, 40]], [0.9, 0.8], [0, 1])
    bundle = make_bundle(tmp_path / "b.blemish", graph, ["boxes", "box_scores", "box_labels"],
                         Decision(review=0.5, map_high=0.5), classes=["good", "dent", "pit"])  # fmt: skip
    write_image(tmp_path / "0.png", np.zeros((64, 64, 1), np.uint8))
    annotated = json.dumps([[2, 2, 12, 12, "dent"], [44, 2, 64, 22, "dent"]]).replace('"', '""')
    (tmp_path / "list.csv").write_text(f'image,boxes\n0.png,"{annotated}"\n')
    out = tmp_path / "page.html"
    run(bundle, tmp_path / "list.csv", "--no-speed", "--out", out)
    _, words = read_page(out)
    for title in ("Missed defects", "False regions", "Boxes, IoU 0.5", "Recall by size of the defect"):
        assert title in words
    assert "8 to 16 1 100 %" in words
    assert "16 to 32 1 0 %" in words
    assert "dent, mAP50" in words


def test_errors_are_ordered_by_severity():
    def evaluated(number, label, predicted, outcome=None):
        return EvaluatedImage(Sample(f"{number}.png", label), PASS, 0.0, predicted, None, None, None, None, outcome)

    actual = select_errors([
        evaluated(0, "pit", ("good", 0.6)), evaluated(1, "pit", ("pit", 0.9)), evaluated(2, None, ("pit", 0.9)),
        evaluated(3, "dent", ("pit", 0.7), DefectMatches([4.0, 30.0], [False, True], [0.8])),
        evaluated(4, "pit", None, DefectMatches([9.0], [False], [0.2, 0.9])),
        evaluated(5, "pit", None, DefectMatches([9.0], [True], [])),
    ])  # fmt: skip
    assert {group.title: [int(sample.image[:-4]) for sample in group.samples] for group in actual} == {
        "Top mistakes": [3, 0], "Missed defects": [4, 3], "False regions": [4, 3],
    }  # fmt: skip


def test_outlines_of_the_annotation_are_drawn(tmp_path):
    write_image(tmp_path / "a.png", np.full((60, 60, 3), 90, np.uint8))
    ring = ((10.0, 10.0), (40.0, 10.0), (40.0, 30.0), (10.0, 30.0))
    cards = [make_card(Sample(tmp_path / "a.png", shapes=shapes), Inspection(PASS, "good", 0, [], (60, 60)), Decision())
             for shapes in (None, (Polygon((ring,), "pit"),))]  # fmt: skip
    assert cards[0].image != cards[1].image


def test_curves_by_class_agree_with_their_average_precision():
    rng = np.random.default_rng(0)
    images = [
        Detections(rng.random(6), ["pit", "dent"] * 3, ["pit", "dent", "pit"], (rng.random((6, 3)) < 0.3).astype(float))
        for _ in range(5)
    ]
    for name, (recall, precision, value) in detection_curves(images).items():
        assert value == pytest.approx(float(detection_precision(rank_detections(images, name, IOU_50))[0]))
        assert (np.diff(recall) >= 0).all()
        assert len(precision) == 15
    shown = [(Sample("x", label), Inspection(PASS, "", 0, [], (1, 1), class_scores=given)) for label, given in [
        ("pit", {"pit": 0.9, "dent": 0.1}), ("dent", {"pit": 0.6, "dent": 0.4}), ("pit", {"pit": 0.5, "dent": 0.5}),
    ]]  # fmt: skip
    recall, precision, value = class_curves(shown)["pit"]
    assert recall.tolist() == [0.5, 0.5, 1]
    assert precision.tolist() == pytest.approx([1, 0.5, 2 / 3])
    assert value == pytest.approx((1 + 2 / 3) / 2)
    curves = {"none": (np.zeros(0), np.zeros(0), 0.0), "pit": (recall, precision, value)}
    assert plot_precision_recall_by_class("pr-x", curves, T)


@pytest.mark.parametrize("kept", ["good", "pit"])
def test_page_of_one_kind_of_part(run, folder, tmp_path, kept):
    rows = "".join(f"{path},{kept}\n" for path in sorted((folder / kept).glob("?.png")))
    (tmp_path / "list.csv").write_text("image,label\n" + rows)
    bundle = anomaly_bundle(tmp_path / "grey.blemish", Decision(), side=64)
    run(bundle, tmp_path / "list.csv", "--no-speed")
    _, words = read_page(tmp_path / "grey-report.html")
    assert ("nothing is known of escapes" if kept == "good" else "nothing is known of false alarms") in words
    assert "no threshold and no rule" in words
    assert "Precision and recall" not in words


@pytest.mark.parametrize("finite", [True, False])
def test_scores_that_are_no_numbers_are_left_out_of_plots(run, folder, tmp_path, finite):
    """The score is the logarithm of the peak's height above 0.5; below that it is not a number."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["peak"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["peak", "half"], ["above"]),
        helper.make_node("Log", ["above"], ["anomaly_score"]),
    ]
    graph = model(nodes, {"anomaly_score": ["n"]}, constants=[("half", np.float32([0.5 if finite else 2]))])
    bundle = make_bundle(tmp_path / "nan.blemish", graph, ["anomaly_score"], Decision(review=-2, reject=-1.5), side=64)
    run(bundle, folder, "--no-speed")
    _, words = read_page(tmp_path / "nan-report.html")
    assert ("which no plot has: 3." in words) is finite  # 0.1, 0.2 and 0.3 of nine peaks
    assert ("good (2)" in words) is finite
    assert ("defective (4)" in words) is finite
    assert f"the score of {3 if finite else 9} images is not a number" in words


def test_missing_extra_is_named_before_any_work(run, folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("blemish.report.html.find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(MissingExtraError, match=r"jinja2 is not installed; pip install 'blemish\[report\]'"):
        run(tmp_path / "none.blemish", folder)


def test_an_unwritable_page_is_one_line_before_any_work(run, folder, tmp_path):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", side=64)
    with pytest.raises(OptionError, match="cannot write"):
        run(bundle, folder, "--out", folder / "good" / "0.png" / "x.html")


@pytest.mark.parametrize("kept", [None, "an older page"])
def test_a_failure_leaves_no_empty_page(run, folder, tmp_path, kept):
    """No image can be read."""
    for path in folder.rglob("*.png"):
        path.write_bytes(b"\x89PNG")
    out = tmp_path / "page.html"
    if kept is not None:
        out.write_text(kept)
    with pytest.raises(DataError, match="could be inspected"):
        run(anomaly_bundle(tmp_path / "grey.blemish", side=64), folder, "--no-speed", "--out", out)
    assert (out.read_text() if out.exists() else None) == kept


def seen(rows):
    return [
        (Sample(f"{number}.png", label), Inspection(verdict, label, score, [], (1, 1)))
        for number, (label, score, verdict) in enumerate(rows)
    ]


T = translator("en")
PASS, REVIEW, REJECT = Verdict.PASS, Verdict.REVIEW, Verdict.REJECT


def test_gallery_shows_the_worst_first():
    rows = [("good", s, REJECT if s > 6 else PASS) for s in range(10)]
    rows += [("pit", s, PASS if s < 3 else REVIEW if s < 5 else REJECT) for s in range(10)]
    groups = {group.title: group for group in select_images(seen(rows), limit=2)}
    assert {title: [int(sample.image[:-4]) for sample in group.samples] for title, group in groups.items()} == {
        "Missed": [10, 11],
        "False alarms": [9, 8],
        "Up for review": [13, 14],
        "Typical": [16, 4],
    }
    assert groups["Missed"].total == 3
    clean = select_images(seen([("good", 0, PASS), ("good", 1, PASS), ("pit", 5, REJECT), ("pit", 4, REJECT)]), limit=2)
    assert {group.title: group.samples[0].image for group in clean} == {
        "Nearly missed": "3.png", "Nearly a false alarm": "1.png", "Typical": "2.png",
    }  # fmt: skip


def test_verdicts_by_class_counts_every_annotated_image():
    actual = verdicts_by_class([*seen([("pit", 1, PASS), ("good", 0, PASS), ("pit", 2, REJECT)]),
                               (Sample("x.png"), Inspection(PASS, "good", 0, [], (1, 1)))])  # fmt: skip
    assert [(row["name"], row["total"], row["pass"], row["reject"]) for row in actual] == [
        ("good", 1, 1, 0), ("pit", 2, 1, 1),
    ]  # fmt: skip


def test_sentences_of_a_proof():
    estimate = estimate_rate(0, 63).__dict__
    image = {
        "escape_rate": estimate,
        "proof": prove_escape_rate(0, 63, (0.05, 0.01)).__dict__,
        "review_rate": {"value": 0},
    }
    words = " ".join(summary_sentences({"image": image}, T)).replace("\N{NO-BREAK SPACE}", " ")
    assert "None of 63 defective parts passed." in words
    assert "With 95 % confidence this proves an escape rate of at most 4.6 %." in words
    assert "To prove at most 1 %, 236 more defective parts must be inspected without an escape." in words


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0, "0 %"),
        (1e-7, "< 0.01 %"),
        (0.0005, "0.05 %"),
        (0.0464, "4.6 %"),
        (0.1, "10 %"),
        (0.999, "99.9 %"),
        (0.99996, "> 99.99 %"),
        (1, "100 %"),
    ],
)
def test_percent(rate, expected):
    assert percent(rate).replace("\N{NO-BREAK SPACE}", " ") == expected


@pytest.mark.parametrize("count", [2, 3, 500])
def test_plots_of_few_and_of_equal_scores(count):
    defective = np.arange(count) % 2 == 0
    for scores in (np.zeros(count), np.arange(count, dtype=float)):
        verdicts = [REVIEW if d else PASS for d in defective]
        for drawing in (
            plot_score_histogram(scores, defective, 0.5, None, T),
            plot_roc(scores, defective, verdicts, T),
            plot_precision_recall(scores, defective, verdicts, T),
        ):
            assert drawing.startswith("<svg")
            assert "#123457" not in drawing
            assert not re.search("^<svg[^>]* width=", drawing)


@pytest.mark.parametrize("label", ["_scratch", "a$b^$", "<b>&", "划痕"])
def test_plots_name_each_class_as_it_is_called(label):
    values = np.linspace(0.1, 1, 5)
    curves = {name: (values, 1 - values, 0.5) for name in (label, "dent")}
    drawn = [
        plot_precision_recall_by_class("n", curves, translator("en")),
        plot_measured_values({"length": (values, values)}, [label, "dent", label, "dent", "dent"], translator("en")),
    ]
    for svg in drawn:
        texts = [html.unescape(text).strip("\u200b") for text in re.findall(r">([^<>]+)</(?:text|tspan)>", svg)]
        assert {label, "dent"} <= {text.removesuffix(" 0.500") for text in texts}


def test_long_names_of_classes_fit_beside_the_curves():
    """Each text ends within the picture, by the widths of its letters, and the axes keep the width of the picture."""
    names = [f"deep scratch across the sealing surface of the housing, {k}" for k in range(8)]
    values = np.linspace(0.1, 1, 5)
    svg = plot_precision_recall_by_class("n", {name: (values, 1 - values, 0.5) for name in names}, translator("en"))
    width = float(re.search(r'viewBox="0 0 ([0-9.]+)', svg)[1])
    ends = []
    for name in names:
        place = re.search(rf'x="([0-9.]+)"[^>]*>{name} 0.500<', svg)
        ends.append(float(place[1]) + TextPath((0, 0), f"{name} 0.500", size=9).get_extents().width)
    assert max(ends) <= width
    assert max(float(x) for x in re.findall(r"L ([0-9.]+) ", svg)) > 0.9 * width


def test_long_names_of_classes_leave_the_panels_of_measured_values_alike():
    """Frames of the three panels: of one width, whatever the legend takes."""
    values = np.linspace(1, 2, 8)
    labels = [f"deep scratch across the sealing surface {k}" for k in range(8)]
    drawn = {name: (values, values) for name in ("length", "width", "area")}
    svg = plot_measured_values(drawn, labels, translator("en"))
    left = [float(x) for x in re.findall(r'clipPath id="[^"]*">\s*<rect x="([0-9.]+)"', svg)]
    steps = np.diff(sorted(set(left)))
    assert len(steps) == 2
    assert steps[0] == pytest.approx(steps[1], rel=0.1)
