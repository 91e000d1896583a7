"""What goes in and out over HTTP and to the sinks."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from blemish.inspection.manifest import Decision, Roi, Scale
from blemish.station.models import AuditRow, BundleRow, InspectionRow, RecipeRow, RegionRow, ReviewRow

MAX_ID = 2**31 - 1
Name = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,100}$")]
Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
RowId = Annotated[int, Field(ge=1, le=MAX_ID)]


class In(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if not is_storable(data):
            raise ValueError("give finite numbers, and text without NUL characters")
        return data


def is_storable(value: Any) -> bool:
    """Whether a database takes it: JSON text may hold NaN, numbers beyond all bounds, and characters that are none."""
    if isinstance(value, dict):
        return all(is_storable(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(is_storable, value))
    if isinstance(value, str):
        return not re.search("[\x00\ud800-\udfff]", value)
    return not isinstance(value, int | float) or abs(value) < 1e300


class RegionOut(BaseModel):
    label: str
    score: float | None
    box: tuple[int, int, int, int]  # x0 y0 x1 y1, x1 and y1 exclusive
    measurements: dict[str, float | None] | None


class RecipeRef(BaseModel):
    id: int
    name: str
    version: int


class ReviewOut(BaseModel):
    id: int
    at: datetime
    who: str
    label: str
    corrected: list[str]
    has_mask: bool
    note: str


class InspectionOut(BaseModel):
    id: int
    part_id: str | None
    lot: str | None
    station: str
    source: str
    created_at: datetime
    recipe: RecipeRef
    verdict: Literal["pass", "review", "reject"]
    label: str
    score: float | None
    regions: list[RegionOut]
    reasons: list[str]
    class_scores: dict[str, float] | None
    timings_ms: dict[str, float]
    height: int | None
    width: int | None
    image_sha256: str
    image_kept: bool
    error: str | None
    reviews: list[ReviewOut]


class Inspections(BaseModel):
    items: list[InspectionOut]  # newest first
    total: int
    next: int | None  # give it as `before` for the following page


class Problem(BaseModel):
    """Every answer that is no result. It never says that a part passed."""

    detail: str


class BundleOut(BaseModel):
    sha256: str
    name: str
    method: str
    classes: list[str]
    created_at: datetime
    created_by: str


class BundleCheck(BaseModel):
    sha256: str
    sound: bool
    message: str


class RecipeIn(In):
    """A new version of the recipe `name`; what is not given is taken from the bundle."""

    name: Name
    bundle: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    decision: Decision | None = None
    roi: Roi | None = None
    scale: Scale | None = None
    note: Text = ""


class RecipeOut(RecipeRef):
    bundle: str
    decision: Decision
    roi: Roi | None
    scale: Scale | None
    note: str
    created_at: datetime
    created_by: str
    was_active: bool
    active: bool


class Why(In):
    why: Text = ""
    accept_losses: bool = Field(default=False, description="use it although it loses parts of the golden set")


class DecisionIn(Why):
    decision: Decision


class ReviewIn(In):
    label: Label
    mask_png: str | None = Field(default=None, max_length=64 * 2**20, description="base64, the size of the image")
    note: Text = ""


class GoldenIn(In):
    label: Label


class GoldenOut(BaseModel):
    inspection_id: int
    label: str
    added_at: datetime
    added_by: str


class Loss(BaseModel):
    """A part of the golden set that a recipe judges wrongly."""

    inspection_id: int
    label: str
    verdict: str


class TokenIn(In):
    name: Name
    role: Literal["line", "operator", "engineer", "admin"]


class TokenOut(BaseModel):
    name: str
    role: str
    created_at: datetime
    revoked: bool


class NewToken(BaseModel):
    name: str
    role: str
    token: str = Field(description="shown this once; only its hash is kept")


class JobOut(BaseModel):
    id: str
    title: str
    who: str
    state: Literal["running", "done", "failed", "cancelled", "interrupted"]
    progress: float | None  # 0 to 1, where it is known
    started: datetime
    ended: datetime | None


class AuditOut(BaseModel):
    id: int
    at: datetime
    who: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    why: str


def inspection_out(row: InspectionRow) -> InspectionOut:
    return InspectionOut(
        id=row.id,
        part_id=row.part_id,
        lot=row.lot,
        station=row.station,
        source=row.source,
        created_at=row.created_at,
        recipe=RecipeRef(id=row.recipe.id, name=row.recipe.name, version=row.recipe.version),
        verdict=row.verdict,  # type: ignore[arg-type]
        label=row.label,
        score=row.score,
        regions=[_region_out(region) for region in row.regions],
        reasons=row.reasons,
        class_scores=row.class_scores,
        timings_ms=row.timings_ms,
        height=row.height,
        width=row.width,
        image_sha256=row.image_sha256,
        image_kept=row.image_path is not None,
        error=row.error,
        reviews=[review_out(review) for review in row.reviews],
    )


def _region_out(row: RegionRow) -> RegionOut:
    box = (row.x0, row.y0, row.x1, row.y1)
    return RegionOut(label=row.label, score=row.score, box=box, measurements=row.measurements)


def review_out(row: ReviewRow) -> ReviewOut:
    return ReviewOut(
        id=row.id,
        at=row.at,
        who=row.who,
        label=row.label,
        corrected=row.corrected,
        has_mask=row.mask is not None,
        note=row.note,
    )


def recipe_out(row: RecipeRow, active_id: int | None) -> RecipeOut:
    return RecipeOut(
        id=row.id,
        name=row.name,
        version=row.version,
        bundle=row.bundle.sha256,
        decision=Decision.model_validate(row.decision),
        roi=None if row.roi is None else Roi.model_validate(row.roi),
        scale=None if row.scale is None else Scale.model_validate(row.scale),
        note=row.note,
        created_at=row.created_at,
        created_by=row.created_by,
        was_active=row.activation is not None,
        active=row.id == active_id,
    )


def bundle_out(row: BundleRow) -> BundleOut:
    return BundleOut(
        sha256=row.sha256,
        name=row.name,
        method=row.manifest["provenance"]["method"],
        classes=row.manifest["classes"],
        created_at=row.created_at,
        created_by=row.created_by,
    )


def audit_out(row: AuditRow) -> AuditOut:
    return AuditOut(
        id=row.id,
        at=row.at,
        who=row.who,
        action=row.action,
        subject=row.subject,
        before=row.before,
        after=row.after,
        why=row.why,
    )
