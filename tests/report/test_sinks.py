"""Files of sinks, read back with other libraries."""

import csv
import errno
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import OptionError
from blemish.inspection.measure import measure
from blemish.inspection.result import Inspection, Reason, ReasonKind, Region, Verdict
from blemish.report.sinks import CocoSink, CsvSink, JsonSink


@pytest.fixture
def inspections():
    rng = np.random.default_rng(0)
    mask = rng.random((6, 9)) < 0.5
    mask[0, 0] = True
    regions = [
        Region("crack", np.float32(1 / 3), (2, 3, 11, 9), mask, measure(mask, (2, 3), np.zeros((20, 30, 1), np.uint8))),
        Region("pit", 0.25, (0, 0, 30, 20)),
    ]
    reasons = [Reason(ReasonKind.RULE, Verdict.REJECT, rule="ü")]
    actual = Inspection(Verdict.REJECT, "crack", np.float32(0.9), regions, (20, 30), reasons=reasons, source="a,b.png")
    return [actual, Inspection(Verdict.PASS, "good", 0.1, [], (5, 5), source="c.png", timings_ms={"read": 1.23456})]


def test_csv_has_a_row_a_region_and_numbers_that_read_back(tmp_path, inspections):
    with CsvSink(tmp_path / "new" / "r.csv") as sink:
        for actual in inspections:
            sink.append(actual)
    rows = list(csv.DictReader((tmp_path / "new" / "r.csv").read_text("utf-8").splitlines(keepends=True)))
    assert [(row["source"], row["verdict"], row["regions"], row["region"], row["region_label"]) for row in rows] == [
        ("a,b.png", "reject", "2", "1", "crack"),
        ("a,b.png", "reject", "2", "2", "pit"),
        ("c.png", "pass", "0", "", ""),
    ]
    assert float(rows[0]["region_score"]) == pytest.approx(1 / 3, rel=1e-6)
    assert float(rows[0]["area_px"]) == inspections[0].regions[0].mask.sum()
    assert rows[0]["area_mm2"] == rows[1]["area_px"] == ""
    assert [int(rows[0][name]) for name in ("x0", "y0", "x1", "y1")] == [2, 3, 11, 9]


@pytest.mark.parametrize("name", ["=1+1.png", "@SUM(A1).png", "+x.png", "-x.png", "\tx.png"])
def test_names_are_no_formulas_of_a_spreadsheet(tmp_path, name):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.append(Inspection(Verdict.PASS, "good", -0.5, [], (5, 5), source=name))
    (row,) = csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines(keepends=True))
    assert row["source"] == f"'{name}"
    assert float(row["score"]) == -0.5


def test_json_lines(tmp_path, inspections):
    with JsonSink(tmp_path / "r.jsonl") as sink:
        sink.append(inspections[0])
        half_way = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
        sink.append(inspections[1])
    assert [reason["rule"] for reason in json.loads(half_way)["reasons"]] == ["ü"]  # written as it comes
    first, second = map(json.loads, (tmp_path / "r.jsonl").read_text("utf-8").splitlines())
    assert first["regions"][0]["box"] == [2, 3, 11, 9]
    assert first["regions"][0]["measurements"]["area_mm2"] is None
    assert (second["verdict"], second["regions"], second["timings_ms"]) == ("pass", [], {"read": 1.235})


def test_coco_masks_decode_to_the_regions(tmp_path, inspections):
    with CocoSink(tmp_path / "r.json") as sink:
        for actual in inspections:
            sink.append(actual)
    actual = json.loads((tmp_path / "r.json").read_text())
    assert [(image["id"], image["file_name"], image["width"]) for image in actual["images"]] == [
        (1, "a,b.png", 30), (2, "c.png", 5),
    ]  # fmt: skip
    crack, pit = actual["annotations"]
    assert {c["id"]: c["name"] for c in actual["categories"]}[crack["category_id"]] == "crack"
    assert (crack["bbox"], pit["bbox"], pit["area"]) == ([2, 3, 9, 6], [0, 0, 30, 20], 600)
    counts = crack["segmentation"]["counts"]
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
    whole = values.reshape(crack["segmentation"]["size"], order="F")
    expected = np.zeros((20, 30), bool)
    expected[3:9, 2:11] = inspections[0].regions[0].mask
    np.testing.assert_array_equal(whole, expected)
    assert crack["area"] == expected.sum()


def write_all(sink, inspections):
    with sink:
        for inspection in inspections:
            sink.append(inspection)


def interrupted(sink, inspection):
    with sink:
        sink.append(inspection)
        raise KeyboardInterrupt


def test_what_was_written_survives_an_error(tmp_path, inspections):
    for sink in (CsvSink(tmp_path / "r.csv"), JsonSink(tmp_path / "r.jsonl"), CocoSink(tmp_path / "r.json")):
        with pytest.raises(KeyboardInterrupt):
            interrupted(sink, inspections[0])
    assert "crack" in (tmp_path / "r.csv").read_text()
    assert "crack" in (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "r.json").read_text())["annotations"]) == 2


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write"), CsvSink(tmp_path / "file" / "r.csv"):
        pass


@pytest.mark.parametrize("sink", [CsvSink, JsonSink])
def test_a_disk_that_gets_full_leaves_whole_lines_and_is_named(tmp_path, inspections, sink):
    """By a limit of a file's size, which stops a write in its middle as a full disk does."""
    path, room = tmp_path / "r", 3000
    write_all(sink(tmp_path / "whole"), inspections * 12)
    expected = (tmp_path / "whole").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_all(sink(path), inspections * 12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    written = path.read_bytes()
    assert 0 < len(written) <= room < len(expected)
    assert expected.startswith(written)
    assert written.endswith(b"\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("sink", [CsvSink, JsonSink, CocoSink])
def test_a_full_device_is_named_and_stays_a_device(inspections, sink):
    with pytest.raises(OSError, match="No space left") as caught, sink("/dev/full") as full:
        full.append(inspections[0])
    assert caught.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()


def test_coco_keeps_the_older_file_until_it_is_whole(tmp_path, inspections, monkeypatch):
    (tmp_path / "r.json").write_text("{}")

    def write(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(OSError, match="No space left"), CocoSink(tmp_path / "r.json") as sink:
            sink.append(inspections[0])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.json", "{}")]
    with CocoSink(tmp_path / "r.json") as sink:
        sink.append(inspections[0])
    assert len(json.loads((tmp_path / "r.json").read_text())["images"]) == 1


def test_names_that_are_no_utf8_read_back(tmp_path, inspections):
    """JSON gives the name itself, CSV one with an escape; `ü` stays as it is in both."""
    name = os.fsdecode(b"R\xf6hre") + " ü.png"
    inspections[1].source = name
    for sink in (CsvSink(tmp_path / "r.csv"), JsonSink(tmp_path / "r.jsonl"), CocoSink(tmp_path / "r.json")):
        with sink:
            sink.append(inspections[1])
    assert json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8"))["source"] == name
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["images"][0]["file_name"] == name
    (row,) = csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines(keepends=True))
    assert row["source"] == "R\\udcf6hre ü.png"


def test_a_dash_is_stdout(capsys, inspections):
    with JsonSink("-") as sink:
        sink.append(inspections[1])
    assert json.loads(capsys.readouterr().out)["source"] == "c.png"
