"""The settings of a station, with all limits."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from blemish.translation import ENGLISH, languages

KeepPolicy = Literal["all", "rejects", "none"]  # "rejects": rejects and reviews
ShiftStart = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
MIB, GIB = 2**20, 2**30


class Settings(BaseModel):
    """Settings of one station; no other process writes to the folder `data`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    db: str | None = None  # SQLAlchemy URL; None: an SQLite file in `data`
    station: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")] = "station"
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)

    engine: str = "onnxruntime"
    threads: int | None = Field(default=None, ge=1)
    queue_depth: int = Field(default=64, ge=1)  # parts received and not yet answered; more are refused
    batch_size: int = Field(default=8, ge=1)
    batch_wait_ms: float = Field(default=5.0, ge=0)  # the longest wait of a part for others that are being received
    runners: int = Field(default=2, ge=1)  # batches at a time: one is decoded while the other is in the network

    max_image_bytes: int = Field(default=64 * MIB, ge=1)
    max_bundle_bytes: int = Field(default=1024 * MIB, ge=1)
    max_pixels: int = Field(default=64_000_000, ge=1)
    time_limit_s: float = Field(default=30.0, gt=0)  # for a body to arrive, and for an answer

    image_folders: list[Path] = []  # `path` of a request must be below one of them
    keep: KeepPolicy = "all"
    keep_days: float | None = Field(default=None, gt=0)
    keep_gib: float | None = Field(default=None, gt=0)

    done_days: float | None = Field(default=None, gt=0)  # files of watched folders in `done`; None: they stay
    outbox_days: float = Field(default=30.0, gt=0)  # entries that were delivered
    key_days: float = Field(default=7.0, gt=0)  # a key of a sender is forgotten then

    known: list[Path] = []  # datasets that are inspected at the start, their labels entered as reviews
    watch: list[Path] = []
    cameras: list[str] = []  # a device's number, an RTSP address, or a video file
    camera_interval_s: float = Field(default=1.0, ge=0)
    line: str | None = None  # modbus://, opcua:// or tcp://HOST:PORT, or of a plug-in: where a PLC asks for parts
    line_nodeset: Path | None = None  # of OPC 40100-1, for opcua://
    line_cameras: list[str] = []  # whose images are taken when the PLC asks; NAME=ADDRESS for each of several views
    sinks: list[str] = []  # csv:PATH, jsonl:PATH, http(s)://..., mqtt://host[:port]/topic

    shifts: list[ShiftStart] = ["06:00", "14:00", "22:00"]  # in the time zone of the station
    shift_reports: Path | None = None  # folder for a PDF after each shift
    shift_report_language: str = ENGLISH
    verdict_age_s: float = Field(default=10.0, gt=0)  # an older verdict is no longer shown as the present one
    no_part_s: float | None = Field(default=300.0, gt=0)  # these raise alarms; None: never
    max_reject_rate: float | None = Field(default=0.5, ge=0, le=1)
    max_reject_run: int | None = Field(default=10, ge=1)
    min_free_gib: float = Field(default=1.0, ge=0)

    segmenter: Path | None = None  # ONNX network that helps with labelling, see labelling/prompt_segmenter.py
    secure_cookies: bool = False  # behind HTTPS
    bundle_key: Path | None = None  # public key (PEM): only bundles that were signed with its private key are imported
    no_tokens: bool = False  # everybody who reaches the station is an administrator, until the first token is made

    @field_validator("data", mode="after")
    @classmethod
    def _make_absolute(cls, folder: Path) -> Path:
        """Absolute, because processes of the station run in other folders."""
        return folder.resolve()

    @field_validator("shift_report_language", mode="after")
    @classmethod
    def _check_language(cls, language: str) -> str:
        if language not in languages():
            raise ValueError(f"unknown language '{language}'; known are {', '.join(languages())}")
        return language

    @field_validator("image_folders", "watch", mode="after")
    @classmethod
    def _resolve(cls, folders: list[Path]) -> list[Path]:
        return [folder.resolve() for folder in folders]

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database."""
        if self.db is None:
            return f"sqlite:///{(self.data / 'station.db').resolve()}"
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.db)

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def orphans(self) -> Path:
        """Stored images that the record does not know, by date."""
        return self.data / "orphans"

    @property
    def references(self) -> Path:
        """Reference images for image quality."""
        return self.data / "references"

    @property
    def jobs(self) -> Path:
        """Trainings started from the pages, a folder each."""
        return self.data / "jobs"

    @property
    def exports(self) -> Path:
        """Datasets of reviewed parts, a folder each."""
        return self.data / "exports"

    @property
    def labelling(self) -> Path:
        """Labels of data sets, a folder each."""
        return self.data / "labelling"

    @property
    def bundles(self) -> Path:
        return self.data / "bundles"

    @property
    def incoming(self) -> Path:
        """Files that are being received; emptied at every start."""
        return self.data / "incoming"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine. Not by its prefix: 127.evil.example is a name that anybody may register."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
