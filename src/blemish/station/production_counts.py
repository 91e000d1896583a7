"""Figures of one station's parts: counts, what defects there were, and how long answers took."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow, ReviewRow

Floats = NDArray[np.float64]
NEWEST = 500  # parts that latencies are told of


@dataclass(frozen=True, slots=True)
class Counts:
    passed: int
    review: int
    reject: int

    @property
    def parts(self) -> int:
        return self.passed + self.review + self.reject

    @property
    def passed_share(self) -> float | None:
        """First-pass yield: passed without a review, of all."""
        return self.passed / self.parts if self.parts else None


def counts(session: Session, station: str, since: datetime) -> Counts:
    row = InspectionRow
    query = select(row.verdict, func.count()).where(row.station == station, row.created_at >= since)
    found = {verdict: number for verdict, number in session.execute(query.group_by(row.verdict))}
    return Counts(found.get("pass", 0), found.get("review", 0), found.get("reject", 0))


def pareto(session: Session, station: str, since: datetime, limit: int = 8) -> list[tuple[str, int]]:
    """Defective parts by their defect, the most frequent first: as the latest review named it, else as it was found."""
    row = InspectionRow
    latest = select(ReviewRow.label).where(ReviewRow.inspection_id == row.id).order_by(ReviewRow.id.desc()).limit(1)
    said = latest.correlate(row).scalar_subquery()
    found = case((row.verdict != "pass", row.label), else_=GOOD)
    names = (
        select(func.coalesce(said, found).label("name"))
        .where(row.station == station, row.created_at >= since)
        .subquery()
    )
    number = func.count()
    query = select(names.c.name, number).where(names.c.name != GOOD).group_by(names.c.name)
    return [(name, count) for name, count in session.execute(query.order_by(number.desc(), names.c.name).limit(limit))]


def latencies(session: Session, station: str) -> Floats:
    """Milliseconds that the newest parts took from the file to the verdict."""
    row = InspectionRow
    query = select(row.timings_ms).where(row.station == station).order_by(row.id.desc()).limit(NEWEST)
    return np.array([sum(timings.values()) for timings in session.scalars(query) if timings], np.float64)


def newest(session: Session, station: str) -> int:
    """The id of the newest inspection, or 0."""
    row = InspectionRow
    return session.scalar(select(row.id).where(row.station == station).order_by(row.id.desc()).limit(1)) or 0
