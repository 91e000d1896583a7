"""The record of inspections: functions on a session that store, search, review and log. The caller commits."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import ColumnElement, ScalarSelect, func, insert, select, update
from sqlalchemy.orm import Session

from blemish.arrays import Mask
from blemish.dataset.sample import GOOD
from blemish.errors import BlemishError, DataError
from blemish.imaging.decoders import png_size
from blemish.imaging.read import encode
from blemish.inspection.convert import from_dict, to_dict
from blemish.inspection.result import Inspection, Reason, ReasonKind, Verdict
from blemish.station.audit_chain import COLUMNS, last_hash, row_hash
from blemish.station.models import (
    KNOWN_ORIGIN,
    AuditRow,
    GaugeTrialRow,
    InspectionRow,
    OutboxRow,
    RecipeRow,
    RegionRow,
    ReviewRow,
    now,
)

MAX_MASK_SIDE = 32767
_CORNERS = ("x0", "y0", "x1", "y1")


def _to_utc(value: datetime) -> datetime:
    """Times without a zone are in UTC."""
    try:
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is beyond the calendar") from error


SearchText = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
SearchTime = Annotated[datetime, AfterValidator(_to_utc)]
SearchSize = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class IncomingPart:
    """The image of a part as it was received, with the sender's data."""

    recipe_id: int
    image_sha256: str
    image_bytes: int
    origin: str  # "api", "folder", "camera" or "dataset"
    part_id: str | None = None
    lot: str | None = None
    key: str | None = None  # at most one inspection is recorded for a key
    request_sha256: str | None = None  # of all that was sent with the key

    @classmethod
    def of_row(cls, row: InspectionRow) -> "IncomingPart":
        """A recorded part as it was sent."""
        return cls(**{name: getattr(row, name) for name in cls.__slots__})

    def is_same_request(self, other: "IncomingPart") -> bool:
        """Whether the same was sent twice; of older records only the image is known."""
        if self.request_sha256 is None or other.request_sha256 is None:
            return self.image_sha256 == other.image_sha256
        return self.request_sha256 == other.request_sha256


class InspectionFilter(BaseModel):
    """Conditions of a search; all that are given must hold."""

    part_id: SearchText | None = None
    lot: SearchText | None = None
    part_contains: SearchText | None = Field(default=None, description="a piece of the part id, in any case")
    lot_contains: SearchText | None = Field(default=None, description="a piece of the lot, in any case")
    verdict: Literal["pass", "review", "reject"] | None = None
    label: SearchText | None = Field(default=None, description="of the part or any of its regions")
    recipe: SearchText | None = Field(default=None, description="name, or id of one version")
    station: SearchText | None = None
    since: SearchTime | None = None
    until: SearchTime | None = None
    min_area_px: SearchSize | None = Field(default=None, description="of the largest region")
    min_length_px: SearchSize | None = None
    min_area_mm2: SearchSize | None = Field(default=None, description="where the recipe has a scale")
    min_length_mm: SearchSize | None = None
    reviewed: bool | None = None
    production: bool | None = Field(default=None, description="of the line, without known parts")


@dataclass(frozen=True, slots=True)
class NewInspection:
    """A part and its result, or why there is none, to be recorded."""

    part: IncomingPart
    result: Inspection | BlemishError
    image_path: str | None = None  # below the station's images
    image_quality: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class StoredInspection:
    """A recorded inspection: its row, and its regions in the published schema."""

    columns: dict[str, Any]
    regions: list[dict[str, Any]]


def store_inspections(
    session: Session, new: Sequence[NewInspection], *, record: str, station: str, sinks: Sequence[str] = ()
) -> list[StoredInspection]:
    """Add inspections and, unless they are known parts, entries in the outbox for each sink.

    Without a valid result the verdict is review. Plain statements for many rows at once: mapped objects would take
    several times as long for each part.
    """
    if not new:
        return []
    prepared = [_prepare(entry, record, station) for entry in new]
    connection = session.connection()
    ids = connection.execute(_INSERT, [columns for columns, _, _ in prepared]).scalars().all()
    regions = [row | {"inspection_id": key} for key, (_, _, rows) in zip(ids, prepared, strict=True) for row in rows]
    if regions:
        connection.execute(insert(RegionRow), regions)
    line = [key for key, entry in zip(ids, new, strict=True) if entry.part.origin != KNOWN_ORIGIN]
    entries = [{"sink": sink, "inspection_id": key} for key in line for sink in sinks]
    if entries:
        connection.execute(insert(OutboxRow), entries)
    return [
        StoredInspection(columns | {"id": key}, shown) for key, (columns, shown, _) in zip(ids, prepared, strict=True)
    ]


_INSERT = insert(InspectionRow).returning(InspectionRow.id, sort_by_parameter_order=True)


def _prepare(
    new: NewInspection, record: str, station: str
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The columns of an inspection, its regions in the published schema, and the columns of these."""
    part, result = new.part, new.result
    error = str(result) if isinstance(result, BlemishError) else None
    inspection = _failed_inspection(error) if isinstance(result, BlemishError) else result
    values = to_dict(inspection, masks=False)
    height, width = values["size"]
    if values["score"] is None:
        error = error or str(Reason(ReasonKind.INVALID_SCORE, Verdict.REVIEW))
        values["verdict"] = Verdict.REVIEW.value if values["verdict"] == Verdict.PASS else values["verdict"]
    columns = {
        **{name: getattr(part, name) for name in IncomingPart.__slots__},
        **{name: values[name] for name in ("verdict", "label", "score", "class_scores", "reasons", "timings_ms")},
        "created_at": now(),
        "record": record,
        "station": station,
        "image_path": new.image_path,
        "image_quality": new.image_quality,
        "height": height or None,
        "width": width or None,
        "error": error,
    }
    shown = values["regions"]
    rows = [_region_columns(region.mask, its) for region, its in zip(inspection.regions, shown, strict=True)]
    return columns, shown, rows


def _failed_inspection(message: str | None) -> Inspection:
    reason = Reason(ReasonKind.FAILED, Verdict.REVIEW, detail=message)
    return Inspection(Verdict.REVIEW, "unknown", math.nan, [], (0, 0), reasons=[reason])


def _region_columns(mask: Mask | None, values: dict[str, Any]) -> dict[str, Any]:
    measurements = values["measurements"] or {}
    return {
        "label": values["label"],
        "score": values["score"],
        **dict(zip(_CORNERS, values["box"], strict=True)),
        "mask": None if mask is None else encode(mask, ".png"),
        "area_px": measurements.get("area_px"),
        "length_px": measurements.get("length_px"),
        "measurements": values["measurements"],
    }


def inspection_values(row: InspectionRow) -> dict[str, Any]:
    """A recorded inspection in the published schema, without masks."""
    same = ("verdict", "label", "score", "class_scores", "reasons", "timings_ms")
    regions = [
        {"label": r.label, "score": r.score, "box": (r.x0, r.y0, r.x1, r.y1), "measurements": r.measurements}
        for r in row.regions
    ]
    return {name: getattr(row, name) for name in same} | {"size": (row.height or 0, row.width or 0), "regions": regions}


def to_inspection(row: InspectionRow, masks: bool = True) -> Inspection:
    """A recorded inspection as the inspector gave it, except for the heat map, which is not stored."""
    inspection = from_dict(inspection_values(row))
    for region, region_row in zip(inspection.regions, row.regions, strict=True):
        region.mask = decode_mask(region_row.mask) if masks and region_row.mask is not None else None
    return inspection


def find_inspections(
    session: Session, where: InspectionFilter, limit: int = 50, before: int | None = None
) -> list[InspectionRow]:
    """The newest inspections; `before` is an id, for paging."""
    conditions = _conditions(where)
    if before is not None:
        conditions.append(InspectionRow.id < before)
    query = select(InspectionRow).where(*conditions).order_by(InspectionRow.id.desc()).limit(limit)
    return list(session.scalars(query).unique())


def count_inspections(session: Session, where: InspectionFilter, before: int | None = None) -> int:
    conditions = _conditions(where)
    if before is not None:
        conditions.append(InspectionRow.id < before)
    return session.scalar(select(func.count()).select_from(InspectionRow).where(*conditions)) or 0


def is_production() -> ColumnElement[bool]:
    """The condition for parts of the line; known parts, and those that a gauge study took, are none of its results."""
    return (InspectionRow.origin != KNOWN_ORIGIN) & ~is_gauge_trial()


def is_gauge_trial() -> ColumnElement[bool]:
    """The condition for parts that a gauge study took: it has few parts, again and again."""
    taken = select(GaugeTrialRow.inspection_id).where(GaugeTrialRow.inspection_id.is_not(None))
    return InspectionRow.id.in_(taken)


def find_by_key(session: Session, key: str) -> InspectionRow | None:
    # A key is nearly always new, and a query for the id alone costs a quarter of that for the whole row.
    known = session.execute(select(InspectionRow.id).where(InspectionRow.key == key)).scalar_one_or_none()
    return None if known is None else session.get(InspectionRow, known)


def find_by_keys(session: Session, keys: Sequence[str]) -> dict[str, InspectionRow]:
    """The recorded inspections of the keys that were used already, in one query where there are none."""
    used = session.execute(select(InspectionRow.id).where(InspectionRow.key.in_(keys))).scalars()
    rows = (session.get_one(InspectionRow, known) for known in used)
    return {row.key: row for row in rows if row.key is not None}


def expire_keys(session: Session, days: float) -> None:
    """Forget the senders' keys of old parts: a repetition comes within minutes, and counters start again."""
    row = InspectionRow
    old = row.key.startswith("api-") & (row.created_at < now() - timedelta(days=days))
    session.execute(update(row).where(old).values(key=None, request_sha256=None))


def _conditions(where: InspectionFilter) -> list[ColumnElement[bool]]:
    row, region = InspectionRow, RegionRow
    measured = {name: region.measurements[name].as_float() for name in ("area_mm2", "length_mm")}
    conditions: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "part_id": lambda value: row.part_id == value,
        "lot": lambda value: row.lot == value,
        "part_contains": lambda value: row.part_id.icontains(value, autoescape=True),
        "lot_contains": lambda value: row.lot.icontains(value, autoescape=True),
        "verdict": lambda value: row.verdict == value,
        "station": lambda value: row.station == value,
        "label": lambda value: (row.label == value) | row.regions.any(region.label == value),
        "recipe": lambda value: row.recipe.has(match_recipe(value) | (RecipeRow.name == value)),
        "since": lambda value: row.created_at >= value,
        "until": lambda value: row.created_at < value,
        "min_area_px": lambda value: row.regions.any(region.area_px >= value),
        "min_length_px": lambda value: row.regions.any(region.length_px >= value),
        "min_area_mm2": lambda value: row.regions.any(measured["area_mm2"] >= value),
        "min_length_mm": lambda value: row.regions.any(measured["length_mm"] >= value),
        "production": lambda value: is_production() if value else ~is_production(),
        "reviewed": lambda value: row.reviews.any() if value else ~row.reviews.any(),
    }
    given = where.model_dump(include=set(conditions), exclude_none=True)
    return [conditions[name](value) for name, value in given.items()]


def match_recipe(wanted: str) -> ColumnElement[bool]:
    """The condition for recipes of a name, or for the one version with an id."""
    by_id = wanted.isascii() and wanted.isdigit() and len(wanted) < 10
    return RecipeRow.id == int(wanted) if by_id else RecipeRow.name == wanted


def add_review(
    session: Session, row: InspectionRow, user: str, label: str, mask: bytes | None = None, note: str = ""
) -> ReviewRow:
    """Record the true label of a part; `mask` is a PNG of the image's size, DataError for another size.

    Only the mask's header is read here, inside a transaction; `check_mask` before it reads the whole. The same
    review by the same person once more, as a double click sends it, is recorded once.
    """
    if mask is not None:
        check_mask_header(mask, row)
    session.execute(
        select(InspectionRow.id).where(InspectionRow.id == row.id).with_for_update()
    )  # one review at a time
    session.refresh(row, ["reviews"])
    latest = row.reviews[-1] if row.reviews else None
    if latest is not None and latest.created_by == user and (label, mask, note) == (
        latest.label, latest.mask, latest.note
    ):  # fmt: skip
        return latest
    corrected = (["label"] if label != row.label else []) + ([] if mask is None else ["mask"])
    review = ReviewRow(inspection_id=row.id, created_by=user, label=label, corrected=corrected, mask=mask, note=note)
    session.add(review)
    session.flush()
    after = {"label": label, "mask": None if mask is None else hashlib.sha256(mask).hexdigest()}
    log_change(session, user, "review", f"inspection {row.id}", None, after, note)
    return review


def check_mask_header(mask: bytes, row: InspectionRow) -> None:
    """DataError for a mask of another size than the image, by its header."""
    size = png_size(mask)
    if size is None:
        raise DataError("the mask is no PNG")
    if size != (row.height, row.width):
        raise DataError(f"the mask has {size[1]}×{size[0]} pixels, the image {row.width}×{row.height}")


def check_mask(mask: bytes, row: InspectionRow) -> None:
    """DataError for a mask that does not fit an inspection, or cannot be decoded; before a transaction begins."""
    check_mask_header(mask, row)
    decode_mask(mask)


def reviewed_label(row: InspectionRow) -> str | None:
    """The label of the latest review, or None."""
    return row.reviews[-1].label if row.reviews else None


def latest_label() -> ScalarSelect[str]:
    """The same for queries of InspectionRow, as a correlated subquery."""
    review = select(ReviewRow.label).where(ReviewRow.inspection_id == InspectionRow.id)
    return review.order_by(ReviewRow.id.desc()).limit(1).correlate(InspectionRow).scalar_subquery()


def contradicts(label: str, verdict: str) -> bool:
    """Whether a true label contradicts a verdict: a defective part passed, or a good one was rejected."""
    return verdict == (Verdict.REJECT if label == GOOD else Verdict.PASS)


def log_change(
    session: Session,
    user: str,
    action: str,
    subject: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    comment: str = "",
) -> None:
    """Add an entry to the audit log, chained to the one before it."""
    previous = last_hash(session.connection())
    row = AuditRow(
        created_at=now(),
        created_by=user,
        action=action,
        subject=subject[:200],
        before=before,
        after=after,
        comment=comment,
    )
    session.add(row)
    session.flush()  # gives it the id
    row.sha256 = row_hash(previous, {name: getattr(row, name) for name in COLUMNS})
    session.flush()


def read_audit_log(session: Session, limit: int = 100, before: int | None = None) -> list[AuditRow]:
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(AuditRow.id < before)))


def decode_mask(png: bytes) -> Mask:
    """PNG to (H, W) bool; DataError for anything else."""
    size = png_size(png)
    if size is None or not 0 < min(size) <= max(size) <= MAX_MASK_SIDE:
        raise DataError("the mask is no PNG, or its sides are out of bounds")
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError("the mask is a damaged PNG")
    return np.asarray(pixels > 127)
