"""Slow changes of a production: the scores of good parts, and the positions of defects on the part."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.station.models import InspectionRow, RecipeRow, RegionRow
from blemish.station.populations import PART, each_once, recipe_parts
from blemish.station.repository import is_production, latest_label

BASELINE, MIN_BASELINE = 100, 20  # good parts that give the mean and the deviation
GRID = 32
MAX_SCORES = 2_000  # of the newest good parts
MAX_REGIONS = 20_000  # the newest, whose positions are shown
MAX_LOTS = 12  # to choose from
_REPEATED = 10  # so many times as many rows are read for the baseline, as parts may have come again


def good_scores(session: Session, recipe: RecipeRow, station: str) -> tuple[list[int], list[float]]:
    """Ids and scores of a station's good parts of a recipe, oldest first and each once: the first and the newest ones.

    Good is a part that passed and no review contradicts, or that a review labelled good.
    """
    row, label = InspectionRow, latest_label()
    good = or_(label == GOOD, label.is_(None) & (row.verdict == "pass"))
    own = recipe_parts(session, recipe, station)
    query = select(*PART, row.score).where(own, row.score.is_not(None), good, is_production())
    first = session.execute(query.order_by(row.id).limit(_REPEATED * BASELINE)).all()
    newest = session.execute(query.order_by(row.id.desc()).limit(MAX_SCORES)).all()
    parts = {part.id: part for part in (*first, *newest)}
    shown = {*each_once(first)[:BASELINE], *(part.id for part in newest)}
    ids = [key for key in each_once(parts[key] for key in sorted(parts)) if key in shown]
    return ids, [float(parts[key].score or 0.0) for key in ids]


def defect_density(
    session: Session,
    recipe: RecipeRow,
    station: str,
    label: str | None = None,
    *,
    lot: str | None = None,
    period: tuple[datetime, datetime] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Defects over the surface of a station's parts of a recipe (GRID, GRID), rows from the top, and the number of
    regions: perhaps of one lot, or of parts from one time to another.

    Of a part that came again, those of its newest inspection that has any. Each of the newest regions counts once,
    spread evenly over its box; the image is stretched to a square.
    """
    row, region = InspectionRow, RegionRow
    query = select(*PART, region.x0, region.y0, region.x1, region.y1, row.width, row.height)
    query = query.join(row, row.id == region.inspection_id)
    query = query.where(recipe_parts(session, recipe, station), row.width > 0, row.height > 0, is_production())
    if label is not None:
        query = query.where(region.label == label)
    if lot is not None:
        query = query.where(row.lot == lot)
    if period is not None:
        query = query.where(row.created_at >= period[0], row.created_at < period[1])
    found = session.execute(query.order_by(region.id.desc()).limit(MAX_REGIONS)).all()
    kept = {*each_once(found)}
    boxes = [part[4:] for part in found if part.id in kept]
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
    """The newest stored part of a recipe, if possible one that passed: to show positions on."""
    row = InspectionRow
    query = select(row).where(recipe_parts(session, recipe), row.image_path.is_not(None), row.width > 0)
    return session.scalars(query.order_by(row.verdict != "pass", row.id.desc()).limit(1)).first()


def newest_lots(session: Session, station: str) -> list[str]:
    row = InspectionRow
    query = select(row.lot).where(row.lot.is_not(None), row.station == station, is_production()).group_by(row.lot)
    return [str(lot) for lot in session.scalars(query.order_by(func.max(row.id).desc()).limit(MAX_LOTS))]


def region_labels(session: Session) -> list[str]:
    query = select(RegionRow.label).join(RegionRow.inspection).where(is_production()).distinct()
    return sorted(session.scalars(query), key=str.lower)
