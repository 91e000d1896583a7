"""The report of a shift: verdicts by hour, lot and recipe, defects, reviews, alarms and changes, as one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blemish.evaluation.intervals import estimate_rate
from blemish.report.formatting import percent
from blemish.report.html import render_template
from blemish.station.alarms import alarm_text
from blemish.station.models import AlarmRow, AuditRow, now
from blemish.station.production_counts import (
    ProductionCounts,
    ReviewCounts,
    count_by_lot,
    count_by_period,
    count_by_recipe,
    count_reviews,
    count_verdicts,
    defect_pareto,
)
from blemish.station.recipes import recipe_title
from blemish.translation import Translate, translator

MAX_ROWS = 40  # of lots, defects, alarms and changes each
CHANGES = ("activate", "decision", "recipe", "golden", "bundle")  # actions of the audit log that change what is decided


@dataclass(frozen=True)
class ShiftReport:
    """Everything that is in the report of one shift of one station."""

    station: str
    since: datetime
    until: datetime
    counts: ProductionCounts
    hours: list[tuple[datetime, ProductionCounts]]
    lots: list[tuple[str | None, ProductionCounts]]
    recipes: list[tuple[str, ProductionCounts]]
    defects: list[tuple[str, int]]
    reviews: ReviewCounts
    alarms: list[AlarmRow]
    changes: list[AuditRow]

    @property
    def is_empty(self) -> bool:
        """Nothing happened that anybody would read about."""
        return not (self.counts.parts or self.alarms or self.changes)


def read_shift(session: Session, station: str, since: datetime, until: datetime) -> ShiftReport:
    alarm, audit = AlarmRow, AuditRow
    held = (alarm.created_at < until) & or_(alarm.ended_at.is_(None), alarm.ended_at >= since)
    alarms = select(alarm).where(alarm.station == station, held).order_by(alarm.id).limit(MAX_ROWS)
    changed = (audit.created_at >= since) & (audit.created_at < until) & audit.action.in_(CHANGES)
    hours = [(start, start + timedelta(hours=1)) for start in _hours(since, until)]
    return ShiftReport(
        station=station,
        since=since,
        until=until,
        counts=count_verdicts(session, station, since, until),
        hours=count_by_period(session, station, [(max(a, since), min(b, until)) for a, b in hours]),
        lots=count_by_lot(session, station, since, MAX_ROWS, until),
        recipes=[(recipe_title(row), own) for row, own in count_by_recipe(session, station, since, until)],
        defects=defect_pareto(session, station, since, MAX_ROWS, until),
        reviews=count_reviews(session, station, since, until),
        alarms=list(session.scalars(alarms)),
        changes=list(session.scalars(select(audit).where(changed).order_by(audit.id).limit(MAX_ROWS))),
    )


def _hours(since: datetime, until: datetime) -> list[datetime]:
    """Full hours that touch the shift."""
    start = since.replace(minute=0, second=0, microsecond=0)
    return [start + timedelta(hours=k) for k in range(int((until - start) / timedelta(hours=1)) + 1)]


def render_shift(report: ShiftReport, language: str) -> str:
    """The report as a page; raises MissingExtraError without Jinja2, OptionError for an unknown language."""
    t = translator(language)
    counts = report.counts
    present, offset = now(), f"{report.since.astimezone():%z}"
    first_pass = estimate_rate(counts.passed, counts.parts) if counts.parts else None
    return render_template(
        "shift.html",
        language,
        title=f"{report.station} · {report.since.astimezone():%Y-%m-%d %H:%M} – {report.until.astimezone():%H:%M}",
        made=_time(present),
        zone=f"UTC{offset[:3]}:{offset[3:5]}",
        unfinished=present < report.until,
        tiles=[
            (t("parts"), str(counts.parts)),
            (t("pass"), str(counts.passed)),
            (t("review"), str(counts.review)),
            (t("reject"), str(counts.reject)),
            (t("yield"), "–" if first_pass is None else percent(first_pass.value)),
        ],
        interval=None if first_pass is None else (percent(first_pass.low), percent(first_pass.high)),
        tables=_count_tables(report, t),
        defects=[(t(name), str(number)) for name, number in report.defects],
        reviews=[
            (t("wait for a review"), str(report.reviews.waiting)),
            (t("reviewed"), str(report.reviews.reviewed)),
            (t("escapes found"), str(report.reviews.escapes)),
            (t("overkill found"), str(report.reviews.overkill)),
        ],
        alarms=[_alarm_row(row, t) for row in report.alarms],
        changes=[
            (_time(row.created_at), row.created_by, t(row.action), _subject(row, t), t(row.comment))
            for row in report.changes
        ],
        most=MAX_ROWS,
        roles=[t("shift lead"), t("taken over by")],
    )


def _count_tables(report: ShiftReport, t: Translate) -> list[tuple[str, str, list[tuple[str, ProductionCounts]]]]:
    """Title, name of the first column and rows of every table of counts."""
    groups: Sequence[tuple[str, str, list[tuple[str, ProductionCounts]]]] = (
        (t("By hour"), t("hour"), [(f"{start.astimezone():%H:%M}", own) for start, own in report.hours]),
        (t("By lot"), t("lot"), [(lot or "–", own) for lot, own in report.lots]),
        (t("By recipe"), t("recipe"), report.recipes),
    )
    return [group for group in groups if group[2]]


def _alarm_row(row: AlarmRow, t: Translate) -> tuple[str, str, str, str]:
    seen = t("nobody") if row.acknowledged_by is None else row.acknowledged_by
    return _time(row.created_at), "–" if row.ended_at is None else _time(row.ended_at), alarm_text(row, t), seen


def _subject(row: AuditRow, t: Translate) -> str:
    """Recipes by their title; the parts of the golden set by the number of their inspection."""
    kind, _, number = row.subject.partition(" ")
    return t("inspection {number}", number=number) if row.action == "golden" and kind == "inspection" else row.subject


def _time(value: datetime) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
