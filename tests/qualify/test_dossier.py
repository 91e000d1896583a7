"""The dossier: what it shows of a bundle and of files that the commands wrote, what is missing, and its PDF."""

import csv
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle, grey_anomaly, make_bundle
from worked_examples import AIAG_GRR

from blemish.dataset.read import read_dataset
from blemish.errors import DataError
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.pod_sweep import pod
from blemish.files import file_sha256
from blemish.inspection.bundle import describe_bundle, open_bundle, replace_manifest, set_decision, write_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Calibration, Certificate, PictureLimits, Scale
from blemish.inspection.seen_images import SEEN, pack_seen, seen_hashes
from blemish.qualify.dossier import EVIDENCE, list_clauses, render_dossier
from blemish.qualify.evidence_tables import robustness_tables
from blemish.report.pdf import html_to_pdf
from blemish.translation import translator


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(
        tmp_path / "grey.blemish",
        scale=Scale(x=10, y=10, uncertainty=0.012),
        calibration=Calibration(source="held-out", target="escape rate 0.01", good_images=30, escape=(0.0, 0.0, 0.05)),
        certificate=Certificate(
            images=9, tolerance=1e-3, score_difference=1e-6, map_difference=2e-6, verdict_agreement=1.0, versions={}
        ),
    )


@pytest.fixture
def files(run, tmp_path):
    """Written by the commands themselves."""
    with (tmp_path / "study.csv").open("w", newline="") as stream:
        rows = ([p, a, r, AIAG_GRR[p, a, r]] for p, a, r in np.ndindex(AIAG_GRR.shape))
        csv.writer(stream).writerows([["part", "appraiser", "repeat", "value"], *rows])
    with (tmp_path / "scores.csv").open("w", newline="") as stream:
        scores = np.random.default_rng(0).normal(size=200)
        csv.writer(stream).writerows([["verdict", "score"], *(["pass", score] for score in scores)])
    made = {"gauge": tmp_path / "gauge.json", "drift": tmp_path / "drift.json"}
    assert run("gauge", tmp_path / "study.csv", "--json", made["gauge"])[0] == 0
    assert run("drift", tmp_path / "scores.csv", "--json", made["drift"])[0] == 0
    return made


def section(page, title):
    return re.search(rf"<h2>\d+ {title}</h2>(.*?)</section>", page, re.DOTALL)[1]


def test_evidence_is_shown_and_its_absence_is_said(bundle, files):
    page = render_dossier(open_bundle(bundle), files)
    assert "ndc 4, GRR marginal" in section(page, "Gauge study")
    assert file_sha256(bundle) in section(page, "Bundle")
    assert file_sha256(files["gauge"]) in section(page, "Files of evidence")
    assert "Not provided" in section(page, "Robustness")
    assert "1.2" in section(page, "Measurement uncertainty")
    assert "escape rate 0.01" in section(page, "Thresholds and their proof")
    answered = dict(re.findall(r"<tr><th>([^<]*)</th><td>[^<]*</td><td>(<a|<span)", page))
    assert answered["IATF 16949:2016, 7.1.5.1.1"] == "<a"
    assert answered["ISO 9001:2015, 7.1.5.2"] == "<span"  # no file of the scale
    assert answered["IATF 16949:2016, 8.5.6.1"] == "<span"  # the bundle alone does not answer it, without a golden set
    assert "http" not in page


def test_every_kind_of_evidence_is_a_section_and_every_clause_names_sections(bundle):
    page = render_dossier(open_bundle(bundle), {})
    assert page.count("Not provided</p>") == len(EVIDENCE) + 1  # and the hashes of their files
    known = {*EVIDENCE, "bundle", "certificate", "thresholds", "uncertainty", "hashes"}
    assert {key for clause in list_clauses(translator("en")) for key in clause.keys} <= known


def test_chinese_and_pdf(run, bundle, files, tmp_path):
    arguments = ("--gauge", files["gauge"], "--drift", files["drift"], "--language", "zh")
    code, out = run("report", bundle, "--out", tmp_path / "d.html", *arguments)
    assert code == 0, out.err
    page = (tmp_path / "d.html").read_text("utf-8")
    assert "量具研究" in page
    assert "不构成符合性声明" in page
    assert "漏检率 0.01" in page
    assert "escape rate" not in page
    pytest.importorskip("weasyprint")
    assert run("report", bundle, "--out", tmp_path / "d.pdf", *arguments)[0] == 0
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_a_shift_of_the_picture_is_no_part_of_the_working_day():
    sweep = {"name": "shift", "unit": "px", "limit": 2.0, "first_stopped": None, "first_missed": None, "levels": []}
    tables, _ = robustness_tables({"sweeps": [sweep]}, translator("zh"))
    assert tables[0].rows[0][0] == "位移"


def test_figures_are_not_broken_across_lines_of_a_pdf(bundle, tmp_path):
    weasyprint = pytest.importorskip("weasyprint")
    path = tmp_path / "pod.json"
    note = "no curve: all 60 are found, the smallest at 3.9 px; try smaller ones"
    curves = [
        {"kind": kind, "strength": 0.15, "hits": 29, "trials": 60, "a50": 13.81, "a90": 25.5, "a90_95": 30.25,
         "notes": [note], "curve": [], "groups": []}
        for kind in ("scratch", "pit")
    ]  # fmt: skip
    path.write_text(json.dumps({"curves": curves}), "utf-8")
    html = render_dossier(open_bundle(bundle), {"pod": path}, "zh")
    pages = weasyprint.HTML(string=html).render().pages
    lines = [box.text for page in pages for box in page._page_box.descendants() if hasattr(box, "text")]
    assert lines.count("29/60") == 2
    digest = file_sha256(path)
    assert digest in "".join(lines)
    assert digest not in lines  # broken, as it is wider than its column


def test_other_files_are_refused(run, bundle, files, tmp_path):
    code, out = run("report", bundle, "--gauge", files["drift"])
    assert code == 2
    assert "is not what `blemish qualify gauge --json` writes" in out.err
    (tmp_path / "old.json").write_text(json.dumps({"study": "s", "variable": {"components": [{}]}}))
    with pytest.raises(DataError, match="another version"):
        render_dossier(open_bundle(bundle), {"gauge": tmp_path / "old.json"})
    assert run("report", bundle, "--out", "d.docx")[0] == 2


@pytest.fixture
def images(tmp_path):
    for i in range(16):
        grey = np.full((32, 32), 40 + 3 * i, np.uint8)
        grey[8:16, 8:16] += 150 * (i % 2)
        label = "pit" if i % 2 else "good"
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / label / f"{i:02}.png"), grey)
    return read_dataset(tmp_path / "set")


def measured(bundle, images, folder):
    """The files that `evaluate`, `pod` and `qualify robustness` write."""
    inspector = Inspector.open(bundle)
    own = describe_bundle(bundle, inspector.manifest)
    sweep = {"name": "blur", "unit": "px", "levels": [], "limit": None, "first_stopped": None, "first_missed": None}
    robust = {"bundle": own, "data": "set", "sweeps": [sweep], "limits": {}}
    results = {
        "evaluation": evaluate(inspector, images, speed=False).to_dict(),
        "golden": evaluate(inspector, images, speed=False).to_dict(),
        "pod": pod(inspector, images, kinds=["pit"], contrasts=[0.5], trials=2).to_dict(),
        "robustness": robust,
    }
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {name: folder / f"{name}.json" for name in results}


def test_evidence_is_of_this_bundle_as_it_is(bundle, images, tmp_path):
    opened = open_bundle(bundle)
    files = measured(bundle, images, tmp_path)
    page = render_dossier(opened, files)
    assert "An older version" not in page
    assert "no curve: 2 trials are too few" in section(page, "Probability of detection")
    # Limits for the station's alarms change no verdict.
    limits = opened.manifest.model_copy(update={"picture_limits": PictureLimits(max_shift=0.3)})
    replace_manifest(bundle, limits)
    render_dossier(open_bundle(bundle), files)
    other = make_bundle(tmp_path / "other.blemish", grey_anomaly(3), ["anomaly_score", "anomaly_map"],
                        opened.manifest.decision, channels=3)  # fmt: skip
    decision = opened.manifest.decision.model_copy(update={"reject": 0.9, "review": 0.9})
    replace_manifest(bundle, set_decision(opened.manifest, decision))
    for name, path in files.items():
        with pytest.raises(DataError, match=f"{name}.json is of another bundle"):
            render_dossier(open_bundle(other), {name: path})
        with pytest.raises(DataError, match=f"{name}.json was made with other thresholds or rules"):
            render_dossier(open_bundle(bundle), {name: path})


def test_older_evidence_is_shown_with_a_doubt(bundle, images, tmp_path):
    for name, path in measured(bundle, images, tmp_path).items():
        content = json.loads(path.read_text())
        del content["bundle"]["graph_sha256"]
        if name == "robustness":
            content["bundle"] = str(bundle)
        path.write_text(json.dumps(content))
        page = render_dossier(open_bundle(bundle), {name: path})
        assert page.count("does not say of which bundle it is") == 1


def test_images_that_were_trained_on_and_unknown_classes_are_said(bundle, images, tmp_path):
    opened = open_bundle(bundle)
    seen = {SEEN: pack_seen({own: "train" for own in seen_hashes(images.with_samples(
        replace(s, split="train") for s in images.samples[:10]))})}  # fmt: skip
    manifest = opened.manifest.model_copy(update={"classes": ["good", "dent", "crack"]})
    write_bundle(bundle, opened.graph, manifest, seen)
    files = measured(bundle, images, tmp_path)
    shown = section(
        render_dossier(open_bundle(bundle), {"evaluation": files["evaluation"]}), "Evaluation on test images"
    )
    assert "calibrated on 10 of the 16 images: the metrics are too good" in shown
    assert "does not know the class pit (images: 8)" in shown


def test_a_pdf_fetches_nothing(tmp_path):
    """A picture of a file is left out: the page is as long as without it."""
    pytest.importorskip("weasyprint")
    cv2.imwrite(str(tmp_path / "noise.png"), np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8))
    plain, linked = (
        html_to_pdf(f"<p>text</p>{image}") for image in ("", f'<img src="{(tmp_path / "noise.png").as_uri()}">')
    )
    assert abs(len(linked) - len(plain)) < 500
