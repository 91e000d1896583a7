"""Figures of the record: counts, what defects there were, how long answers took, and drift."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.models import InspectionRow

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


def counts(session: Session, since: datetime) -> Counts:
    query = select(InspectionRow.verdict, func.count()).where(InspectionRow.created_at >= since)
    found = {verdict: number for verdict, number in session.execute(query.group_by(InspectionRow.verdict))}
    return Counts(found.get("pass", 0), found.get("review", 0), found.get("reject", 0))


def pareto(session: Session, since: datetime, limit: int = 8) -> list[tuple[str, int]]:
    """Parts that did not pass by their defect, the most frequent first."""
    row = InspectionRow
    number = func.count(row.id)
    query = select(row.label, number).where(row.created_at >= since, row.verdict != "pass")
    return [
        (label, found)
        for label, found in session.execute(query.group_by(row.label).order_by(number.desc(), row.label).limit(limit))
    ]


def latencies(session: Session) -> Floats:
    """Milliseconds that the newest parts took from the file to the verdict."""
    query = select(InspectionRow.timings_ms).order_by(InspectionRow.id.desc()).limit(NEWEST)
    return np.array([sum(timings.values()) for timings in session.scalars(query) if timings], np.float64)


def newest(session: Session) -> int:
    """The id of the newest inspection, or 0."""
    return session.scalar(select(func.max(InspectionRow.id))) or 0
