"""Slow changes: of the scores of good parts, and of where on the part the defects lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow, RecipeRow, RegionRow, ReviewRow

Floats = NDArray[np.float64]
WEIGHT, LIMIT = 0.1, 3.0  # of the newest part; limits in standard deviations
BASE, LEAST_BASE = 100, 20  # good parts that say what is usual
GRID = 32


@dataclass(frozen=True, slots=True)
class Ewma:
    """An exponentially weighted moving average with its control limits (Roberts 1959; Lucas and Saccucci 1990)."""

    mean: float
    values: Floats  # (N,)
    low: Floats  # (N,)
    high: Floats  # (N,)

    @property
    def drifted(self) -> bool:
        """Whether it lies beyond its limits now."""
        return bool(len(self.values)) and not self.low[-1] <= self.values[-1] <= self.high[-1]


def ewma(scores: Sequence[float], base: int, weight: float = WEIGHT, limit: float = LIMIT) -> Ewma:
    """Of scores in their order; the first `base` of them tell the mean and the deviation that are usual."""
    x = np.asarray(scores, np.float64)
    mean, deviation = float(x[:base].mean()), float(x[:base].std(ddof=1))
    values, last = np.empty_like(x), mean
    for i, score in enumerate(x):
        last = weight * score + (1 - weight) * last
        values[i] = last
    steps = np.arange(1, len(x) + 1)
    half = limit * deviation * np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * steps)))
    return Ewma(mean, values, mean - half, mean + half)


def good_scores(session: Session, recipe: RecipeRow, limit: int = 2000) -> tuple[list[int], list[float]]:
    """Ids and scores of good parts, oldest first, over all recipes with the same bundle: the first and the newest ones.

    Good is what passed and nobody contradicted, or what a review said was good.
    """
    row = InspectionRow
    latest = select(ReviewRow.label).where(ReviewRow.inspection_id == row.id).order_by(ReviewRow.id.desc()).limit(1)
    said = latest.correlate(row).scalar_subquery()
    good = or_(said == GOOD, said.is_(None) & (row.verdict == "pass"))
    recipes = select(RecipeRow.id).where(RecipeRow.bundle_id == recipe.bundle_id)
    query = select(row.id, row.score).where(row.recipe_id.in_(recipes), row.score.is_not(None), good)
    first = session.execute(query.order_by(row.id).limit(BASE)).all()
    newest = session.execute(query.order_by(row.id.desc()).limit(limit)).all()
    found = {id_: float(score) for id_, score in [*first, *reversed(newest)] if score is not None}
    return sorted(found), [found[id_] for id_ in sorted(found)]


def density(session: Session, recipe: RecipeRow, label: str | None = None, limit: int = 20000) -> tuple[Floats, int]:
    """Defects over the part's surface (GRID, GRID), rows from the top, and how many there are.

    Each of the newest regions counts once, spread evenly over its box; the picture is stretched to a square.
    """
    row, region = InspectionRow, RegionRow
    query = select(region.x0, region.y0, region.x1, region.y1, row.width, row.height).join(
        row, row.id == region.inspection_id
    )
    recipes = select(RecipeRow.id).where(RecipeRow.bundle_id == recipe.bundle_id)
    query = query.where(row.recipe_id.in_(recipes), row.width > 0, row.height > 0)
    if label is not None:
        query = query.where(region.label == label)
    boxes = session.execute(query.order_by(region.id.desc()).limit(limit)).all()
    found = np.zeros((GRID, GRID))
    for x0, y0, x1, y1, width, height in boxes:
        assert width  # asked for above
        assert height
        found += spread((x0 / width, y0 / height, x1 / width, y1 / height))
    return found, len(boxes)


def spread(box: tuple[float, float, float, float], side: int = GRID) -> Floats:
    """One (side, side), spread over a box x0 y0 x1 y1 in parts of the picture."""
    edges = np.arange(side + 1) / side

    def share(low: float, high: float) -> Floats:
        high = max(high, low + 1e-9)
        return np.asarray(
            (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(0) / (high - low), np.float64
        )

    return np.outer(share(box[1], box[3]), share(box[0], box[2]))


def region_labels(session: Session) -> list[str]:
    return list(session.scalars(select(RegionRow.label).distinct().order_by(func.lower(RegionRow.label))))
