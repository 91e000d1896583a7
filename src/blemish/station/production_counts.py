"""Production statistics of one station: verdicts, defects, and latencies."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from blemish.arrays import Scores
from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow
from blemish.station.repository import latest_label

LATENCY_PARTS = 500  # the newest parts, whose latencies are given


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


def count_verdicts(session: Session, station: str, since: datetime) -> ProductionCounts:
    row = InspectionRow
    query = select(row.verdict, func.count()).where(row.station == station, row.created_at >= since)
    counts = {verdict: number for verdict, number in session.execute(query.group_by(row.verdict))}
    return ProductionCounts(*(counts.get(verdict, 0) for verdict in ("pass", "review", "reject")))


def defect_pareto(session: Session, station: str, since: datetime, limit: int = 8) -> list[tuple[str, int]]:
    """Defective parts by class, the most frequent first: the label of the latest review, else of the inspection."""
    row = InspectionRow
    inspected = case((row.verdict != "pass", row.label), else_=GOOD)
    label = func.coalesce(latest_label(), inspected).label("label")
    labels = select(label).where(row.station == station, row.created_at >= since).subquery()
    number = func.count()
    query = select(labels.c.label, number).where(labels.c.label != GOOD).group_by(labels.c.label)
    query = query.order_by(number.desc(), labels.c.label).limit(limit)
    return [(name, count) for name, count in session.execute(query)]


def latencies(session: Session, station: str) -> Scores:
    """Milliseconds (N,) from the file to the verdict, of the newest parts."""
    row = InspectionRow
    query = select(row.timings_ms).where(row.station == station).order_by(row.id.desc()).limit(LATENCY_PARTS)
    return np.array([sum(timings.values()) for timings in session.scalars(query) if timings], np.float64)


def newest_id(session: Session, station: str) -> int:
    """The id of the newest inspection, or 0."""
    row = InspectionRow
    return session.scalar(select(row.id).where(row.station == station).order_by(row.id.desc()).limit(1)) or 0
