"""Production statistics of one station: verdicts by time, shift and lot, defects, and latencies.

Known parts, whose labels were entered at the start, do not count as production.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from blemish.arrays import Scores
from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.repository import is_production, latest_label

LATENCY_PARTS = 500  # the newest parts, whose latencies are given
VERDICTS = ("pass", "review", "reject")


@dataclass(frozen=True, slots=True)
class ProductionCounts:
    passed: int
    review: int
    reject: int

    @property
    def parts(self) -> int:
        return self.passed + self.review + self.reject

    @property
    def first_pass_yield(self) -> float | None:
        """The share of parts that passed without a review."""
        return self.passed / self.parts if self.parts else None


def _produced(station: str, since: datetime | None = None, until: datetime | None = None) -> list[ColumnElement[bool]]:
    row = InspectionRow
    conditions = [row.station == station, is_production()]
    conditions += [] if since is None else [row.created_at >= since]
    return conditions + ([] if until is None else [row.created_at < until])


def count_verdicts(session: Session, station: str, since: datetime, until: datetime | None = None) -> ProductionCounts:
    row = InspectionRow
    query = select(row.verdict, func.count()).where(*_produced(station, since, until))
    counts = {verdict: number for verdict, number in session.execute(query.group_by(row.verdict))}
    return ProductionCounts(*(counts.get(verdict, 0) for verdict in VERDICTS))


def count_by_lot(
    session: Session, station: str, since: datetime, limit: int = 8, until: datetime | None = None
) -> list[tuple[str | None, ProductionCounts]]:
    """The lots that were inspected last, the newest first; None: parts without a lot."""
    row = InspectionRow
    numbers = (func.sum(case((row.verdict == verdict, 1), else_=0)) for verdict in VERDICTS)
    query = select(row.lot, *numbers).where(*_produced(station, since, until)).group_by(row.lot)
    query = query.order_by(func.max(row.id).desc()).limit(limit)
    return [(lot, ProductionCounts(*map(int, counts))) for lot, *counts in session.execute(query)]


def count_by_period(
    session: Session, station: str, periods: Sequence[tuple[datetime, datetime]]
) -> list[tuple[datetime, ProductionCounts]]:
    """The counts of each period with a part, under its start."""
    counts = ((since, count_verdicts(session, station, since, until)) for since, until in periods)
    return [(since, number) for since, number in counts if number.parts]


def last_hours(time: datetime, number: int) -> list[tuple[datetime, datetime]]:
    """Full hours of the local time, the present one first."""
    start = time.astimezone().replace(minute=0, second=0, microsecond=0)
    return [(start - timedelta(hours=k), start - timedelta(hours=k - 1)) for k in range(number)]


def last_shifts(time: datetime, starts: Sequence[str], number: int) -> list[tuple[datetime, datetime]]:
    """Shifts by their starts "HH:MM" in local time, the present one first; one start is a day."""
    found: list[tuple[datetime, datetime]] = []
    until = None
    for start in _shift_starts(time.astimezone(), sorted(set(starts)) or ["00:00"]):
        if start <= time:
            found.append((start, until or start + timedelta(days=1)))
        until = start
        if len(found) == number:
            break
    return found


def _shift_starts(local: datetime, starts: Sequence[str]) -> Iterator[datetime]:
    """Backwards from the end of the next day, by the wall clock of each day, so that summer time shifts none."""
    day = local.date() + timedelta(days=1)
    while True:
        for start in reversed(starts):
            naive = datetime.combine(day, datetime.strptime(start, "%H:%M").time())
            yield naive.astimezone()
        day -= timedelta(days=1)


def defect_pareto(
    session: Session, station: str, since: datetime, limit: int = 8, until: datetime | None = None
) -> list[tuple[str, int]]:
    """Defective parts by class, the most frequent first: the label of the latest review, else of the inspection."""
    row = InspectionRow
    inspected = case((row.verdict != "pass", row.label), else_=GOOD)
    label = func.coalesce(latest_label(), inspected).label("label")
    labels = select(label).where(*_produced(station, since, until)).subquery()
    number = func.count()
    query = select(labels.c.label, number).where(labels.c.label != GOOD).group_by(labels.c.label)
    query = query.order_by(number.desc(), labels.c.label).limit(limit)
    return [(name, count) for name, count in session.execute(query)]


def count_by_recipe(
    session: Session, station: str, since: datetime, until: datetime
) -> list[tuple[RecipeRow, ProductionCounts]]:
    """The recipes that decided parts, in the order of their first part."""
    row = InspectionRow
    numbers = (func.sum(case((row.verdict == verdict, 1), else_=0)) for verdict in VERDICTS)
    query = select(row.recipe_id, *numbers).where(*_produced(station, since, until)).group_by(row.recipe_id)
    found = session.execute(query.order_by(func.min(row.id))).all()
    return [(session.get_one(RecipeRow, key), ProductionCounts(*map(int, counts))) for key, *counts in found]


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """What people said of the parts of a time, by the latest review of each."""

    waiting: int  # verdict review, and nobody has reviewed it
    reviewed: int
    escapes: int  # defective, and the verdict was pass
    overkill: int  # good, and the verdict was reject


def count_reviews(session: Session, station: str, since: datetime, until: datetime) -> ReviewCounts:
    row = InspectionRow
    parts = select(row.verdict, latest_label().label("label")).where(*_produced(station, since, until)).subquery()
    query = select(parts.c.verdict, parts.c.label, func.count()).group_by(parts.c.verdict, parts.c.label)
    found = session.execute(query).all()
    return ReviewCounts(
        waiting=sum(number for verdict, label, number in found if label is None and verdict == "review"),
        reviewed=sum(number for _, label, number in found if label is not None),
        escapes=sum(number for verdict, label, number in found if verdict == "pass" and label not in (None, GOOD)),
        overkill=sum(number for verdict, label, number in found if verdict == "reject" and label == GOOD),
    )


def latencies(session: Session, station: str) -> Scores:
    """Milliseconds (N,) from the file to the verdict, of the newest parts."""
    row = InspectionRow
    query = select(row.timings_ms).where(*_produced(station)).order_by(row.id.desc()).limit(LATENCY_PARTS)
    return np.array([sum(timings.values()) for timings in session.scalars(query) if timings], np.float64)


def newest_part(session: Session, station: str) -> InspectionRow | None:
    row = InspectionRow
    return session.scalars(select(row).where(*_produced(station)).order_by(row.id.desc()).limit(1)).first()
