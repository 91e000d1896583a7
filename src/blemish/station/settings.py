"""What a station is told when it starts. All limits are stated here."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

Keep = Literal["all", "rejects", "none"]  # "rejects": rejects and reviews
MIB = 2**20


class Settings(BaseModel):
    """Settings of one station; `data` is the folder that it alone writes to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    db: str | None = None  # SQLAlchemy URL; None: an SQLite file in `data`
    station: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")] = "station"
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)

    engine: str = "onnxruntime"
    threads: int | None = Field(default=None, ge=1)
    queue_depth: int = Field(default=64, ge=1)  # parts taken in and not yet answered; more are told to come again
    batch_size: int = Field(default=8, ge=1)
    batch_wait_ms: float = Field(default=5.0, ge=0)  # the longest that a part waits for others that are on their way
    runners: int = Field(default=2, ge=1)  # batches at a time: one is read while the other is in the network

    max_image_bytes: int = Field(default=64 * MIB, ge=1)
    max_bundle_bytes: int = Field(default=1024 * MIB, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1)
    time_limit_s: float = Field(default=30.0, gt=0)  # for a body to arrive, and for an answer

    image_folders: list[Path] = []  # where `path` of a request, and nothing else, may point
    keep: Keep = "all"
    keep_days: float | None = Field(default=None, gt=0)
    keep_gib: float | None = Field(default=None, gt=0)

    known: list[Path] = []  # datasets that are inspected at the start, their truth entered as reviews
    watch: list[Path] = []
    cameras: list[str] = []  # a device's number, an RTSP address, or a video file
    camera_interval_s: float = Field(default=1.0, ge=0)
    sinks: list[str] = []  # csv:PATH, jsonl:PATH, http(s)://..., mqtt://host[:port]/topic

    secure_cookies: bool = False  # behind HTTPS

    @field_validator("data", mode="after")
    @classmethod
    def _fixed(cls, folder: Path) -> Path:
        """Processes of the station run elsewhere."""
        return folder.resolve()

    @field_validator("image_folders", "watch", mode="after")
    @classmethod
    def _resolved(cls, folders: list[Path]) -> list[Path]:
        return [folder.resolve() for folder in folders]

    @property
    def url(self) -> str:
        """Address of the database."""
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
    def references(self) -> Path:
        """Pictures that later ones are compared with."""
        return self.data / "references"

    @property
    def jobs(self) -> Path:
        """Trainings that were started from the pages, a folder each."""
        return self.data / "jobs"

    @property
    def exports(self) -> Path:
        """Data sets made of reviewed parts, a folder each."""
        return self.data / "exports"

    @property
    def bundles(self) -> Path:
        return self.data / "bundles"

    @property
    def incoming(self) -> Path:
        """Files on their way in; emptied at every start."""
        return self.data / "incoming"


def is_loopback(host: str) -> bool:
    """Not by how it begins: 127.evil.example is a name that anybody may have registered."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
