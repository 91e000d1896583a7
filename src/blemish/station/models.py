"""The database tables of a station."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Times with a zone, stored in UTC, because SQLite has no time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


_JSON = JSON(none_as_null=True)
KNOWN_ORIGIN = "dataset"  # of known parts, which are no production


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={  # so that a later migration can name what it changes
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        float: Double,
        dict[str, Any]: _JSON,
        list[dict[str, Any]]: _JSON,
        list[str]: _JSON,
        dict[str, float]: _JSON,
    }


class Created:
    """Who added a row, and when."""

    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(String(100))


class RecordRow(Base):
    """The random id of this record, its only row: ids of inspections begin at 1 in every record."""

    __tablename__ = "record"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class LeaseRow(Base):
    """Which data folder uses the name of a station; see station_lease.py."""

    __tablename__ = "station_leases"

    station: Mapped[str] = mapped_column(String(64), primary_key=True)
    folder: Mapped[str] = mapped_column(String(32))
    seen_at: Mapped[datetime | None]  # by the clock of the database; None: it was given up


class BundleRow(Created, Base):
    __tablename__ = "bundles"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)  # of the file, which is stored under this name
    name: Mapped[str] = mapped_column(String(200))
    manifest: Mapped[dict[str, Any]]


class RecipeRow(Created, Base):
    """A bundle and how it is used; never changed, only followed by a next version."""

    __tablename__ = "recipes"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[int]
    bundle_id: Mapped[int] = mapped_column(ForeignKey("bundles.id"))
    decision: Mapped[dict[str, Any]]
    roi: Mapped[dict[str, Any] | None]  # None: the bundle's; so too the scale
    scale: Mapped[dict[str, Any] | None]
    views: Mapped[dict[str, Any] | None]  # of several views, see recipe_views.py; None: one image
    cameras: Mapped[dict[str, Any] | None]  # settings by the name of the view, "" for one image; None: not kept
    note: Mapped[str] = mapped_column(Text, default="")
    activation: Mapped[int | None] = mapped_column(unique=True)  # the highest is active; None: never was
    bundle: Mapped[BundleRow] = relationship(lazy="joined")


class InspectionRow(Base):
    __tablename__ = "inspections"
    __table_args__ = (Index(None, "verdict", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)  # the sender's idempotency key, until it expires
    request_sha256: Mapped[str | None] = mapped_column(String(64))  # of all that was sent with the key
    part_id: Mapped[str | None] = mapped_column(String(200), index=True)
    lot: Mapped[str | None] = mapped_column(String(200), index=True)
    record: Mapped[str | None] = mapped_column(String(32))  # where it was made; a backup takes it to another one
    station: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(200))  # "api", "folder", "camera", "dataset"
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id"), index=True)
    image_sha256: Mapped[str] = mapped_column(String(64))
    image_path: Mapped[str | None] = mapped_column(String(200))  # below the station's images; None: not stored
    image_bytes: Mapped[int]
    image_quality: Mapped[dict[str, float] | None]  # see image_quality.py; None: not measured
    height: Mapped[int | None]
    width: Mapped[int | None]
    verdict: Mapped[str] = mapped_column(String(10))
    label: Mapped[str] = mapped_column(String(200))
    score: Mapped[float | None]  # None: there is no valid score, and the verdict is review
    class_scores: Mapped[dict[str, float] | None]
    reasons: Mapped[list[dict[str, Any]]]  # in the published schema
    timings_ms: Mapped[dict[str, float]]
    error: Mapped[str | None] = mapped_column(Text)  # why there is no valid result
    recipe: Mapped[RecipeRow] = relationship(lazy="selectin")
    regions: Mapped[list["RegionRow"]] = relationship(
        back_populates="inspection", lazy="selectin", order_by="RegionRow.id", cascade="all, delete-orphan"
    )
    reviews: Mapped[list["ReviewRow"]] = relationship(lazy="selectin", order_by="ReviewRow.id")


class RegionRow(Base):
    __tablename__ = "regions"

    id: Mapped[int] = mapped_column(primary_key=True)
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), index=True)
    label: Mapped[str] = mapped_column(String(200), index=True)
    score: Mapped[float | None]
    x0: Mapped[int]
    y0: Mapped[int]
    x1: Mapped[int]
    y1: Mapped[int]
    mask: Mapped[bytes | None] = mapped_column(LargeBinary)  # PNG of the size of the box
    area_px: Mapped[float | None] = mapped_column(index=True)  # also in the measurements; a column can be searched
    length_px: Mapped[float | None]
    measurements: Mapped[dict[str, Any] | None]
    inspection: Mapped[InspectionRow] = relationship(back_populates="regions")


class ReviewRow(Created, Base):
    """A person's label for an inspected part; the latest is the ground truth."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), index=True)
    label: Mapped[str] = mapped_column(String(200))  # "good", or a defect class
    corrected: Mapped[list[str]]  # which of label and mask differ from the inspection
    mask: Mapped[bytes | None] = mapped_column(LargeBinary)  # PNG of the size of the image; None: not painted
    note: Mapped[str] = mapped_column(Text, default="")


class GoldenRow(Created, Base):
    """A part whose ground truth is certain; every recipe is checked on it before it is activated."""

    __tablename__ = "golden_parts"

    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), primary_key=True)
    label: Mapped[str] = mapped_column(String(200))
    inspection: Mapped[InspectionRow] = relationship(lazy="joined")


class AuditRow(Created, Base):
    """A change or an export made by a person; each row's hash covers the row before it, see audit_chain.py."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(200))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    comment: Mapped[str] = mapped_column(Text, default="")
    sha256: Mapped[str | None] = mapped_column(String(64))


class TokenRow(Base):
    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    revoked_at: Mapped[datetime | None]


class UserRow(Base):
    """A person who signs in with name and password."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str] = mapped_column(String(200))  # Argon2 hash
    created_at: Mapped[datetime] = mapped_column(default=now)
    revoked_at: Mapped[datetime | None]


class SessionRow(Base):
    """A browser that is signed in, by a token or a password; the row goes when it signs out."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)  # of the cookie's random value
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime]


class AlarmRow(Base):
    """A condition of the line that somebody has to acknowledge; see alarms.py."""

    __tablename__ = "alarms"
    __table_args__ = (Index(None, "station", "acknowledged_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(300))  # what it concerns, such as a sink; "": the station
    value: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]  # None: the condition holds
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(100))


class QualificationRow(Created, Base):
    """Until when a version of a recipe is qualified, as somebody stated; the latest row holds."""

    __tablename__ = "qualifications"

    id: Mapped[int] = mapped_column(primary_key=True)
    recipe_id: Mapped[int] = mapped_column(ForeignKey("recipes.id"), index=True)
    until: Mapped[datetime]
    note: Mapped[str] = mapped_column(Text, default="")  # the dossier or study it rests on


class GaugeStudyRow(Created, Base):
    """A gauge study made on the station's pages; see gauge_studies.py."""

    __tablename__ = "gauge_studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    kind: Mapped[str] = mapped_column(String(30))  # what a trial gives, a key of gauge_studies.KINDS
    parts: Mapped[list[dict[str, Any]]]  # name, reference, and the inspection whose picture is judged
    appraisers: Mapped[list[str]]
    repeats: Mapped[int]


class GaugeTrialRow(Base):
    """One part that one appraiser is asked for once; its result is written once and never changed."""

    __tablename__ = "gauge_trials"
    __table_args__ = (UniqueConstraint("study_id", "appraiser", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("gauge_studies.id"))
    appraiser: Mapped[str] = mapped_column(String(100))
    position: Mapped[int]  # in the appraiser's random order, from 1
    part: Mapped[str] = mapped_column(String(200))
    repeat: Mapped[int]
    result: Mapped[str | None] = mapped_column(String(50))  # a verdict or a number; None: not asked yet
    inspection_id: Mapped[int | None] = mapped_column(ForeignKey("inspections.id"), index=True, unique=True)
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[str | None] = mapped_column(String(100))


class OutboxRow(Base):
    """A result that a sink has yet to receive; written with the inspection, marked when the sink has it."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "sink", "delivered_at", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sink: Mapped[str] = mapped_column(String(300))
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"))
    attempts: Mapped[int] = mapped_column(default=0)
    delivered_at: Mapped[datetime | None]
    dead_at: Mapped[datetime | None]  # the sink refuses this result, and takes the ones after it
    error: Mapped[str | None] = mapped_column(Text)
