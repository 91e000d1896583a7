"""Writes the PDF of every shift into a folder after it has ended, also of shifts that ended while nothing ran."""

import logging
import threading
from datetime import datetime, timedelta
from pathlib import Path

from blemish.files import write_atomic
from blemish.report.pdf import html_to_pdf_elsewhere
from blemish.station.alarms import AlarmCondition
from blemish.station.database import Database
from blemish.station.models import now
from blemish.station.production_counts import last_shifts
from blemish.station.settings import Settings
from blemish.station.shift_report import read_shift, render_shift

log = logging.getLogger("blemish.station")
CHECK_S = 30.0
GRACE = timedelta(minutes=1)  # after the end of a shift: the last parts are recorded then
CATCH_UP = 9  # shifts: three days of three


class ShiftReporter:
    """The reports that are due; `conditions` is an alarm while one could not be written."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._done: set[datetime] = set()
        self._problem: str | None = None

    def conditions(self) -> list[AlarmCondition]:
        return [] if self._problem is None else [AlarmCondition("shift_report", self._problem[:300])]

    def watch(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.write_due(now())
                self._problem = None
            except Exception as error:
                log.exception("a shift report could not be written; retrying in %.0f s", CHECK_S)
                self._problem = " ".join(str(error).split()) or type(error).__name__
            stop.wait(CHECK_S)

    def write_due(self, time: datetime) -> list[Path]:
        """Write the reports that are missing, the oldest first. A shift in which nothing happened has none."""
        folder, settings = self._settings.shift_reports, self._settings
        if folder is None:
            return []
        written = []
        for since, until in reversed(last_shifts(time, settings.shifts, CATCH_UP + 1)):
            file = folder / report_name(settings.station, since)
            if until + GRACE > time or since in self._done:
                continue
            if not file.exists():
                with self._database.reading() as session:
                    report = read_shift(session, settings.station, since, until)
                    page = None if report.is_empty else render_shift(report, settings.shift_report_language)
                if page is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_atomic(file, html_to_pdf_elsewhere(page))
                    written.append(file)
            self._done.add(since)
        return written


def report_name(station: str, since: datetime) -> str:
    return f"{station}-{since.astimezone():%Y-%m-%d-%H%M}.pdf"
