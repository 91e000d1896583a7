"""Reports of shifts: their counts against the parts that were stored, the schedule, and PDFs without missing glyphs."""

import logging
from datetime import datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from station_helpers import inspected, store

from blemish.errors import BlemishError
from blemish.report import pdf
from blemish.report.text import cjk_font
from blemish.station import alarms
from blemish.station.alarms import AlarmCondition
from blemish.station.models import AlarmRow, AuditRow, InspectionRow
from blemish.station.production_counts import ProductionCounts, ReviewCounts
from blemish.station.repository import add_review, log_change
from blemish.station.settings import Settings
from blemish.station.shift_report import ShiftReport, read_shift, render_shift
from blemish.station.shift_reporter import ShiftReporter, report_name

SINCE = datetime(2026, 3, 2, 6).astimezone()
UNTIL = SINCE + timedelta(hours=8)
PARTS = (  # minutes after the start of the shift, grey level, lot, label of the review
    (-1, 200, "L0", None),
    (0, 60, "L1", None),
    (5, 60, "L1", "scratch"),
    (70, 200, "L1", "good"),
    (75, 200, "L2", None),
    (479, 60, None, None),
    (480, 200, "L3", None),
)


@pytest.fixture
def shift(database, recipe_id, bundle_file):
    for minutes, level, lot, label in PARTS:
        key = store(database, recipe_id, inspected(bundle_file, level), lot=lot)
        with database.writing() as session:
            row = session.get(InspectionRow, key)
            row.created_at = SINCE + timedelta(minutes=minutes)
            if label is not None:
                add_review(session, row, "anna", label)
    with database.writing() as session:
        alarms.update(session, "s", [AlarmCondition("reject_run", value=3)])
        session.flush()
        alarms.list_open(session, "s")[0].created_at = SINCE + timedelta(hours=2)
        log_change(session, "eve", "activate", "plates v1", comment="新的阈值")
    return database


def read(database):
    with database.reading() as session:
        return read_shift(session, "s", SINCE, UNTIL)


def test_the_report_counts_the_parts_of_its_shift(shift):
    found = read(shift)
    assert (found.counts.passed, found.counts.review, found.counts.reject) == (3, 0, 2)
    hours = [((start - SINCE) / timedelta(hours=1), own.parts) for start, own in found.hours]
    assert hours == [(0, 2), (1, 2), (7, 1)]
    assert {lot: own.parts for lot, own in found.lots} == {"L1": 3, "L2": 1, None: 1}
    assert [(name, own.parts) for name, own in found.recipes] == [("plates v1", 5)]
    assert dict(found.defects) == {"defect": 1, "scratch": 1}  # the reviewed good one is no defect
    assert (found.reviews.reviewed, found.reviews.escapes, found.reviews.overkill) == (2, 1, 1)
    assert [row.kind for row in found.alarms] == ["reject_run"]
    assert found.changes == []  # made now, and not in that shift


def filled_report():
    """A report with every section, in both scripts."""
    counts = ProductionCounts(93, 2, 5)
    alarm = AlarmRow(station="s", kind="dark", subject="", value=0.7, created_at=SINCE, acknowledged_by="张伟")
    change = AuditRow(created_at=SINCE, created_by="eve", action="activate", subject="plates 4", comment="新的阈值")
    hours = [(SINCE + timedelta(hours=k), counts) for k in range(3)]
    return ShiftReport(
        "线体-3", SINCE, UNTIL, counts, hours, [("L1", counts), (None, counts)], [("plates v4", counts)],
        [("划痕", 4), ("pit", 1)], ReviewCounts(1, 2, 0, 1), [alarm], [change],
    )  # fmt: skip


@pytest.mark.skipif(cjk_font() is None, reason="no font with Chinese characters is installed")
def test_the_pdf_has_every_glyph(caplog, monkeypatch):
    weasyprint = pytest.importorskip("weasyprint")
    monkeypatch.setattr(weasyprint.LOGGER, "propagate", True)
    page = render_shift(filled_report(), "zh")
    for words in ("班次报告", "各类缺陷工件", "张伟", "新的阈值", '<div class="value">93\u00a0%</div>'):
        assert words in page
    assert "Defective parts by class" in render_shift(filled_report(), "en")
    caplog.set_level(logging.WARNING)
    assert pdf.html_to_pdf(page).startswith(b"%PDF")
    assert [record.message for record in caplog.records if "glyph" in record.message] == []
    pdf.html_to_pdf("<p>\U0010fffd</p>")  # no font has it, and that is not silent
    assert any("glyph" in record.message for record in caplog.records)


def test_reports_are_written_once_after_the_end_and_for_shifts_that_were_missed(shift, tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.station.shift_reporter.html_to_pdf_elsewhere", lambda page: page.encode())
    folder = tmp_path / "reports"
    settings = Settings(data=tmp_path, station="s", shift_reports=folder, shift_report_language="zh")
    reporter = ShiftReporter(settings, shift)
    early = SINCE - timedelta(hours=8)
    assert [file.name for file in reporter.write_due(UNTIL)] == [report_name("s", early)]
    later = UNTIL + timedelta(minutes=2)
    assert [file.name for file in reporter.write_due(later)] == [report_name("s", SINCE)]
    assert reporter.write_due(later) == []
    again = ShiftReporter(settings, shift)
    assert again.write_due(later) == []  # after a restart
    (folder / report_name("s", SINCE)).unlink()
    restarted = ShiftReporter(settings, shift)
    assert restarted.write_due(later + timedelta(days=1))[0].name == report_name("s", SINCE)
    assert "班次报告" in (folder / report_name("s", SINCE)).read_text()


def test_a_report_that_cannot_be_written_is_an_alarm(shift, tmp_path, monkeypatch):
    reporter = ShiftReporter(Settings(data=tmp_path, station="s", shift_reports=tmp_path / "r"), shift)

    class Once:
        def __init__(self):
            self.waits = 0

        def is_set(self):
            return self.waits > 0

        def wait(self, _):
            self.waits += 1

    def fail(time):
        raise BlemishError("the PDF could not be made")

    monkeypatch.setattr(reporter, "write_due", fail)
    reporter.watch(Once())
    assert reporter.conditions() == [AlarmCondition("shift_report", "the PDF could not be made")]
    monkeypatch.setattr(reporter, "write_due", lambda time: [])
    reporter.watch(Once())
    assert reporter.conditions() == []


def test_the_report_of_the_present_shift_by_the_api(client: TestClient):
    pytest.importorskip("weasyprint")
    found = client.get("/v1/shift-report.pdf?language=zh")
    assert found.headers["content-type"] == "application/pdf"
    assert found.content.startswith(b"%PDF")
    assert client.get("/v1/shift-report.pdf?ago=9999").status_code == 422
    assert "unknown language" in client.get("/v1/shift-report.pdf?language=xx").json()["detail"]


def test_a_pdf_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(pdf.sys, "executable", "/bin/false")
    with pytest.raises(BlemishError, match="could not be made: exit status 1"):
        pdf.html_to_pdf_elsewhere("<p>x</p>")
