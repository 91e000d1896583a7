"""The models of requests and responses of the REST API, and of the results that sinks receive."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from blemish.imaging.roi import Roi
from blemish.inspection.convert import InspectionRecord, RegionRecord
from blemish.inspection.manifest import Decision, Scale
from blemish.station import auth
from blemish.station.cameras.settings import CameraSettings
from blemish.station.jobs import JobProgress, JobState
from blemish.station.models import BundleRow, InspectionRow, RecipeRow, ReviewRow
from blemish.station.recipe_views import RecipeViews
from blemish.station.repository import InspectionFilter, StoredInspection, inspection_values
from blemish.translation import ENGLISH

MAX_ID = 2**31 - 1


def _check_controls(text: str) -> str:
    if CONTROLS.search(text):
        raise ValueError("give text without control characters")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,100}$")]
NoteText = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
ClassLabel = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_check_controls)]
RowId = Annotated[int, Field(ge=1, le=MAX_ID)]
Role = Literal["line", "operator", "engineer", "admin"]


class RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, data: Any) -> Any:
        if not is_storable(data):
            raise ValueError("give finite numbers, and text without NUL characters")
        return data


def is_storable(value: Any) -> bool:
    """Whether a database can store it: JSON may hold NaN, numbers beyond all bounds, and invalid characters."""
    if isinstance(value, dict):
        return all(is_storable(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return all(map(is_storable, value))
    if isinstance(value, str):
        return not re.search("[\x00\ud800-\udfff]", value)
    return not isinstance(value, int | float) or abs(value) < 1e300


# Control characters, and those that change the direction of text: two ids could look the same, or hide an end.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


MAX_PART_ID = 200  # characters


def is_part_id(text: str) -> bool:
    """Whether a record keeps this id of a part whole, and people can tell it from others."""
    return len(text) <= MAX_PART_ID and is_storable(text) and not CONTROLS.search(text)


class ResponseModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RecipeRef(ResponseModel):
    id: int
    name: str
    version: int


class ReviewOut(ResponseModel):
    id: int
    created_at: datetime
    created_by: str
    label: str
    corrected: list[str]
    has_mask: bool
    note: str


class InspectionOut(InspectionRecord):
    """A recorded inspection: the published schema of an inspection, with the data of its record."""

    id: int
    record: str | None = Field(None, description="random id of the record; other records have the same `id` again")
    part_id: str | None
    lot: str | None
    station: str
    origin: str = Field(description="api, folder, camera or dataset")
    created_at: datetime
    recipe: RecipeRef
    image_sha256: str
    image_stored: bool
    error: str | None = Field(description="why there is no valid result")
    reviews: list[ReviewOut]

    @property
    def identity(self) -> str:
        """Unique among all records, for those who keep results longer than a record."""
        return f"{self.record or self.station}-{self.id}"


class InspectionQuery(InspectionFilter):
    limit: int = Field(50, ge=1, le=500)
    before: RowId | None = None


class PrintedQuery(InspectionFilter):
    language: str = Field(ENGLISH, max_length=20)


class InspectionPage(BaseModel):
    items: list[InspectionOut]  # newest first
    total: int
    next: int | None = Field(description="give it as `before` for the following page")


class ErrorOut(BaseModel):
    """Every response without a result. It never means that a part passed."""

    detail: str


class LastPartOut(ResponseModel):
    id: int
    verdict: str
    recipe: str = Field(description="name and version of the recipe that decided it, perhaps not the active one")
    age_s: float


class ProblemOut(BaseModel):
    kind: str = Field(description="database, station, engine or source")
    name: str


class StatusOut(BaseModel):
    recipe: str | None = Field(description="name and version of the active recipe")
    last: LastPartOut | None
    last_reject: int = Field(description="id of the newest rejected part, or 0")
    problem: ProblemOut | None = Field(description="while there is one, the last verdict is not the present one")
    alarms: int = Field(description="not acknowledged")


class AlarmOut(ResponseModel):
    id: int
    kind: str
    subject: str
    value: float | None
    created_at: datetime
    ended_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class BundleOut(ResponseModel):
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


class RecipeIn(RequestModel):
    """A new version of the recipe `name`, which is no number; values that are not given come from the bundle."""

    name: Name
    bundle: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    decision: Decision | None = None
    roi: Roi | None = None
    scale: Scale | None = None
    views: RecipeViews | None = None
    cameras: dict[str, CameraSettings] | None = Field(
        default=None, description='settings by the name of the view, or "" for a recipe of one image'
    )
    note: NoteText = ""


class RecipeOut(RecipeRef):
    bundle: str
    decision: Decision
    roi: Roi | None
    scale: Scale | None
    views: RecipeViews | None
    cameras: dict[str, CameraSettings] | None
    note: str
    created_at: datetime
    created_by: str
    was_active: bool
    active: bool


class ActivationIn(RequestModel):
    comment: NoteText = ""
    accept_losses: bool = Field(default=False, description="activate it although it loses parts of the golden set")


class DecisionIn(ActivationIn):
    decision: Decision


class ReviewIn(RequestModel):
    label: ClassLabel
    mask_png: str | None = Field(default=None, max_length=2**20, description="base64, of the size of the image")
    note: NoteText = ""


class GoldenIn(RequestModel):
    label: ClassLabel


class GoldenOut(ResponseModel):
    inspection_id: int
    label: str
    created_at: datetime
    created_by: str


class GoldenLoss(BaseModel):
    """A part of the golden set that a recipe decides wrongly."""

    inspection_id: int
    label: str
    verdict: str


class TokenIn(RequestModel):
    name: Name
    role: Role


class TokenOut(ResponseModel):
    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None


class NewTokenOut(BaseModel):
    name: str
    role: str
    token: str = Field(description="given only once; the station stores its hash")


class DeadLetterOut(ResponseModel):
    id: int
    sink: str
    inspection_id: int
    attempts: int
    dead_at: datetime
    error: str | None


class PasswordIn(RequestModel):
    password: SecretStr = Field(min_length=auth.MIN_PASSWORD, max_length=auth.MAX_PASSWORD)


class UserIn(PasswordIn):
    name: Name
    role: Role


class UserOut(BaseModel):
    name: str
    role: str


class JobOut(ResponseModel):
    id: str
    title: str
    user: str
    state: JobState
    progress: JobProgress | None
    started: datetime
    ended: datetime | None


class QualificationIn(RequestModel):
    until: AwareDatetime
    note: NoteText = ""


class QualificationOut(ResponseModel):
    recipe_id: int
    until: datetime
    note: str
    created_at: datetime
    created_by: str


class StudyOut(BaseModel):
    id: int
    name: str
    kind: str = Field(description="people, verdict, or the name of a measurement")
    parts: int
    appraisers: list[str]
    repeats: int
    trials: int
    done: int
    created_at: datetime
    created_by: str


class AuditOut(ResponseModel):
    id: int
    created_at: datetime
    created_by: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    comment: str


def inspection_out(row: InspectionRow) -> InspectionOut:
    same = ("id", "record", "part_id", "lot", "station", "origin", "created_at", "image_sha256", "error")
    return InspectionOut(
        **inspection_values(row),
        **{name: getattr(row, name) for name in same},
        recipe=RecipeRef.model_validate(row.recipe),
        image_stored=row.image_path is not None,
        reviews=[review_out(review) for review in row.reviews],
    )


def stored_out(stored: StoredInspection, recipe: RecipeRef) -> InspectionOut:
    """The same of an inspection that was recorded now, without reading it again."""
    columns = stored.columns
    names = set(InspectionOut.model_fields) & set(columns)
    return InspectionOut(
        **{name: columns[name] for name in names},
        size=(columns["height"] or 0, columns["width"] or 0),
        regions=[RegionRecord.model_validate(region) for region in stored.regions],
        recipe=recipe,
        image_stored=columns["image_path"] is not None,
        reviews=[],
    )


def review_out(row: ReviewRow) -> ReviewOut:
    return ReviewOut.model_validate({**_columns(row, ReviewOut), "has_mask": row.mask is not None})


def recipe_out(row: RecipeRow, active_id: int | None) -> RecipeOut:
    computed = {
        "bundle": row.bundle.sha256,
        "was_active": row.activation is not None,
        "active": row.id == active_id,
    }
    return RecipeOut.model_validate({**_columns(row, RecipeOut), **computed})


def bundle_out(row: BundleRow) -> BundleOut:
    computed = {"method": row.manifest["provenance"]["method"], "classes": row.manifest["classes"]}
    return BundleOut.model_validate({**_columns(row, BundleOut), **computed})


def _columns(row: object, model: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in model.model_fields if hasattr(row, name)}
