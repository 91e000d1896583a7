"""The record: functions on a session that store, find, review and audit. The caller commits."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, lazyload, load_only

from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.imaging.read import encode
from blemish.inspection.result import Inspection, Measurements, Region, Verdict
from blemish.station.models import AuditRow, InspectionRow, OutboxRow, RecipeRow, RegionRow, ReviewRow

MAX_MASK_SIDE = 32767


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part's image as it came in, and what was said of it."""

    recipe_id: int
    image_sha256: str
    image_bytes: int
    source: str  # "api", "folder" or "camera"
    part_id: str | None = None
    lot: str | None = None
    key: str | None = None  # at most one inspection is recorded for a key


@dataclass(frozen=True, slots=True)
class Filter:
    """Which inspections to find; all that is given must hold."""

    part_id: str | None = None
    lot: str | None = None
    verdict: str | None = None
    label: str | None = None  # of the part or any of its regions
    recipe: str | None = None  # name, or id of one version
    station: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_area_px: float | None = None  # of the largest region
    min_length_px: float | None = None
    reviewed: bool | None = None
    min_area_mm2: float | None = None  # where the recipe bore a scale
    min_length_mm: float | None = None


def store(
    session: Session,
    arrival: Arrival,
    inspection: Inspection | None,
    *,
    station: str,
    image_path: str | None,
    sinks: Sequence[str] = (),
    error: str | None = None,
    quality: dict[str, float] | None = None,
) -> InspectionRow:
    """Add an inspection and what each sink shall be told of it; without a valid one the verdict is to review."""
    row = InspectionRow(
        **{name: getattr(arrival, name) for name in Arrival.__slots__},
        station=station,
        image_path=image_path,
        quality=quality,
        **(_unanswered(error) if inspection is None else _answered(inspection)),
    )
    # Its name and version are told in the answer; the rest, the bundle's manifest before all, would only cost time.
    named = (load_only(RecipeRow.name, RecipeRow.version), lazyload(RecipeRow.bundle))
    row.recipe = session.get_one(RecipeRow, arrival.recipe_id, options=named)
    row.reviews = []
    session.add(row)
    session.flush()
    session.add_all(OutboxRow(sink=sink, inspection_id=row.id) for sink in sinks)
    return row


def _unanswered(error: str | None) -> dict[str, Any]:
    message = error or "there is no valid answer"
    return {
        "verdict": Verdict.REVIEW.value,
        "label": "unknown",
        "reasons": [f"could not be inspected: {message}"],
        "timings_ms": {},
        "error": message,
    }


def _answered(inspection: Inspection) -> dict[str, Any]:
    score = _finite(inspection.score)
    verdict = inspection.verdict
    if score is None and verdict == Verdict.PASS:
        verdict = Verdict.REVIEW
    return {
        "height": inspection.size[0],
        "width": inspection.size[1],
        "verdict": verdict.value,
        "label": inspection.label,
        "score": score,
        "class_scores": None if inspection.class_scores is None else _finite_values(inspection.class_scores),
        "reasons": list(inspection.reasons),
        "timings_ms": _finite_values(inspection.timings_ms),
        "regions": [_region_row(region) for region in inspection.regions],
        "error": "the score is not a number" if score is None else None,
    }


def _region_row(region: Region) -> RegionRow:
    measured = region.measurements
    return RegionRow(
        label=region.label,
        score=_finite(region.score),
        **dict(zip(("x0", "y0", "x1", "y1"), map(int, region.box), strict=True)),
        mask=None if region.mask is None else encode(region.mask, ".png"),
        area_px=None if measured is None else _finite(measured.area_px),
        length_px=None if measured is None else _finite(measured.length_px),
        measurements=None if measured is None else {k: _finite(v) for k, v in asdict(measured).items()},
    )


def as_inspection(row: InspectionRow) -> Inspection:
    """A recorded inspection as the inspector gave it, but for the heat map, which is not kept."""
    return Inspection(
        verdict=Verdict(row.verdict),
        label=row.label,
        score=math.nan if row.score is None else row.score,
        regions=[_as_region(region) for region in row.regions],
        size=(row.height or 0, row.width or 0),
        class_scores=row.class_scores,
        reasons=row.reasons,
        timings_ms=row.timings_ms,
    )


def _as_region(row: RegionRow) -> Region:
    values = row.measurements
    known: dict[str, Any] = {} if values is None else {k: _or_nan(k, v) for k, v in values.items()}
    measured = Measurements(**known) if known else None
    return Region(
        label=row.label,
        score=math.nan if row.score is None else row.score,
        box=(row.x0, row.y0, row.x1, row.y1),
        mask=None if row.mask is None else decode_mask(row.mask),
        measurements=measured,
    )


def find(session: Session, where: Filter, limit: int = 50, before: int | None = None) -> list[InspectionRow]:
    """The newest inspections; `before` an id, for paging."""
    conditions = _conditions(where)
    if before is not None:
        conditions.append(InspectionRow.id < before)
    query = select(InspectionRow).where(*conditions).order_by(InspectionRow.id.desc()).limit(limit)
    return list(session.scalars(query).unique())


def count(session: Session, where: Filter) -> int:
    return session.scalar(select(func.count()).select_from(InspectionRow).where(*_conditions(where))) or 0


def by_key(session: Session, key: str) -> InspectionRow | None:
    # A key is nearly always new, and a bare number is found at a quarter of a whole row's cost.
    known = session.execute(select(InspectionRow.id).where(InspectionRow.key == key)).scalar_one_or_none()
    return None if known is None else session.get(InspectionRow, known)


def _conditions(where: Filter) -> list[ColumnElement[bool]]:
    row = InspectionRow
    found: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (row.part_id, where.part_id),
            (row.lot, where.lot),
            (row.verdict, where.verdict),
            (row.station, where.station),
        )
        if value is not None
    ]
    if where.label is not None:
        found.append((row.label == where.label) | row.regions.any(RegionRow.label == where.label))
    if where.recipe is not None:
        found.append(row.recipe.has(recipe_is(where.recipe)))
    if where.since is not None:
        found.append(row.created_at >= where.since)
    if where.until is not None:
        found.append(row.created_at < where.until)
    if where.min_area_px is not None:
        found.append(row.regions.any(RegionRow.area_px >= where.min_area_px))
    if where.min_length_px is not None:
        found.append(row.regions.any(RegionRow.length_px >= where.min_length_px))
    for measure, least in (("area_mm2", where.min_area_mm2), ("length_mm", where.min_length_mm)):
        if least is not None:
            found.append(row.regions.any(RegionRow.measurements[measure].as_float() >= least))
    if where.reviewed is not None:
        found.append(row.reviews.any() if where.reviewed else ~row.reviews.any())
    return found


def recipe_is(wanted: str) -> ColumnElement[bool]:
    """Recipes of a name, or the one version with an id."""
    by_id = wanted.isascii() and wanted.isdigit() and len(wanted) < 10
    return RecipeRow.id == int(wanted) if by_id else RecipeRow.name == wanted


def review(
    session: Session, row: InspectionRow, who: str, label: str, mask: bytes | None = None, note: str = ""
) -> ReviewRow:
    """Say what a part truly is; `mask` is a PNG of the image's size. Raises DataError for one that does not fit."""
    if mask is not None:
        shape = decode_mask(mask).shape
        if shape != (row.height, row.width):
            raise DataError(f"the mask has {shape[1]}×{shape[0]} pixels, the image {row.width}×{row.height}")
    corrected = ["label"] if label != row.label else []
    if mask is not None:
        corrected.append("mask")
    made = ReviewRow(inspection_id=row.id, who=who, label=label, corrected=corrected, mask=mask, note=note)
    session.add(made)
    session.flush()
    return made


def truth(row: InspectionRow) -> str | None:
    """The label that the latest review gave, or None."""
    return row.reviews[-1].label if row.reviews else None


def disagrees(row: InspectionRow) -> bool:
    """Whether the latest review contradicts the verdict."""
    label = truth(row)
    return label is not None and (row.verdict == Verdict.PASS) != (label == GOOD)


def audit(
    session: Session,
    who: str,
    action: str,
    subject: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    why: str = "",
) -> None:
    session.add(AuditRow(who=who, action=action, subject=subject, before=before, after=after, why=why))


def audit_log(session: Session, limit: int = 100, before: int | None = None) -> list[AuditRow]:
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(AuditRow.id < before)))


def decode_mask(png: bytes) -> NDArray[np.bool_]:
    """PNG to (H, W) bool; DataError for anything else."""
    side = [int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")]
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or not 0 < min(side) <= max(side) <= MAX_MASK_SIDE:
        raise DataError("the mask is no PNG, or has sides out of bounds")
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError("the mask is a damaged PNG")
    return np.asarray(pixels > 127)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _finite_values(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _or_nan(name: str, value: float | None) -> float | None:
    return math.nan if value is None and not name.endswith(("_mm", "_mm2")) else value
