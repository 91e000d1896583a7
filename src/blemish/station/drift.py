"""Slow changes of a production: the scores of good parts, and the positions of defects on the part."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow, RecipeRow, RegionRow
from blemish.station.repository import is_production, latest_label

BASELINE, MIN_BASELINE = 100, 20  # good parts that give the mean and the deviation
GRID = 32


def good_scores(session: Session, recipe: RecipeRow, limit: int = 2000) -> tuple[list[int], list[float]]:
    """Ids and scores of good parts, oldest first, over all recipes with the same bundle: the first and the newest ones.

    Good is a part that passed and no review contradicts, or that a review labelled good.
    """
    row, label = InspectionRow, latest_label()
    good = or_(label == GOOD, label.is_(None) & (row.verdict == "pass"))
    recipes = select(RecipeRow.id).where(RecipeRow.bundle_id == recipe.bundle_id)
    query = select(row.id, row.score).where(row.recipe_id.in_(recipes), row.score.is_not(None), good, is_production())
    first = session.execute(query.order_by(row.id).limit(BASELINE)).all()
    newest = session.execute(query.order_by(row.id.desc()).limit(limit)).all()
    scores = {id_: float(score) for id_, score in sorted({*first, *newest}) if score is not None}
    return list(scores), list(scores.values())


def defect_density(
    session: Session,
    recipe: RecipeRow,
    label: str | None = None,
    limit: int = 20000,
    *,
    lot: str | None = None,
    period: tuple[datetime, datetime] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Defects over the part's surface (GRID, GRID), rows from the top, and the number of regions.

    Perhaps of one lot, or of parts from one time to another.

    Each of the newest regions counts once, spread evenly over its box; the image is stretched to a square.
    """
    row, region = InspectionRow, RegionRow
    recipes = select(RecipeRow.id).where(RecipeRow.bundle_id == recipe.bundle_id)
    query = select(region.x0, region.y0, region.x1, region.y1, row.width, row.height)
    query = query.join(row, row.id == region.inspection_id)
    query = query.where(row.recipe_id.in_(recipes), row.width > 0, row.height > 0, is_production())
    if label is not None:
        query = query.where(region.label == label)
    if lot is not None:
        query = query.where(row.lot == lot)
    if period is not None:
        query = query.where(row.created_at >= period[0], row.created_at < period[1])
    boxes = session.execute(query.order_by(region.id.desc()).limit(limit)).all()
    density = np.zeros((GRID, GRID))
    for x0, y0, x1, y1, width, height in boxes:
        density += spread_box((x0 / float(width or 1), y0 / (height or 1), x1 / (width or 1), y1 / (height or 1)))
    return density, len(boxes)


def spread_box(box: tuple[float, float, float, float], side: int = GRID) -> NDArray[np.float64]:
    """A (side, side) grid whose cells sum to 1 over a box x0 y0 x1 y1, given as shares of the image's sides."""
    edges = np.arange(side + 1) / side
    low, high = np.array(box[:2])[:, None], np.maximum(np.array(box[2:]), np.array(box[:2]) + 1e-9)[:, None]
    columns, rows = (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(0) / (high - low)
    return np.outer(rows, columns)


def newest_picture(session: Session, recipe: RecipeRow) -> InspectionRow | None:
    """The newest stored part of recipes with the same bundle, if possible one that passed: to show positions on."""
    row = InspectionRow
    recipes = select(RecipeRow.id).where(RecipeRow.bundle_id == recipe.bundle_id)
    query = select(row).where(row.recipe_id.in_(recipes), row.image_path.is_not(None), row.width > 0)
    return session.scalars(query.order_by(row.verdict != "pass", row.id.desc()).limit(1)).first()


def newest_lots(session: Session, station: str, limit: int = 12) -> list[str]:
    row = InspectionRow
    query = select(row.lot).where(row.lot.is_not(None), row.station == station, is_production()).group_by(row.lot)
    return [str(lot) for lot in session.scalars(query.order_by(func.max(row.id).desc()).limit(limit))]


def region_labels(session: Session) -> list[str]:
    query = select(RegionRow.label).join(RegionRow.inspection).where(is_production()).distinct()
    return sorted(session.scalars(query), key=str.lower)
