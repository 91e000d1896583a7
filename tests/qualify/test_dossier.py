"""The dossier: what it shows of a bundle and of files that the commands wrote, what is missing, and its PDF."""

import csv
import json
import re

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from worked_examples import AIAG_GRR

from blemish.errors import DataError
from blemish.files import file_sha256
from blemish.inspection.bundle import open_bundle
from blemish.inspection.manifest import Calibration, Certificate, Scale
from blemish.qualify.dossier import EVIDENCE, list_clauses, render_dossier
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
    pytest.importorskip("weasyprint")
    assert run("report", bundle, "--out", tmp_path / "d.pdf", *arguments)[0] == 0
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_other_files_are_refused(run, bundle, files, tmp_path):
    code, out = run("report", bundle, "--gauge", files["drift"])
    assert code == 2
    assert "is not what `blemish qualify gauge --json` writes" in out.err
    (tmp_path / "old.json").write_text(json.dumps({"study": "s", "variable": {"components": [{}]}}))
    with pytest.raises(DataError, match="another version"):
        render_dossier(open_bundle(bundle), {"gauge": tmp_path / "old.json"})
    assert run("report", bundle, "--out", "d.docx")[0] == 2


def test_a_pdf_fetches_nothing(tmp_path):
    """A picture of a file is left out: the page is as long as without it."""
    pytest.importorskip("weasyprint")
    cv2.imwrite(str(tmp_path / "noise.png"), np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8))
    plain, linked = (
        html_to_pdf(f"<p>text</p>{image}") for image in ("", f'<img src="{(tmp_path / "noise.png").as_uri()}">')
    )
    assert abs(len(linked) - len(plain)) < 500
