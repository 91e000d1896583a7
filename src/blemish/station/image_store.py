"""Image files: how they come in, which are kept, and for how long. No name that a sender gave is ever a path."""

import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from blemish.errors import DataError, ImageError
from blemish.imaging.read import image_header
from blemish.inspection.result import Verdict
from blemish.station.models import GoldenRow, InspectionRow, ReviewRow
from blemish.station.settings import Keep, Settings

_BLOCK = 2**20
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}


class NotKeptError(DataError):
    """The image of an inspection was not kept, or is gone."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that was taken in whole, under a name of our own."""

    path: Path
    sha256: str
    size: int


def take_in(stream: BinaryIO, folder: Path, limit: int) -> Incoming:
    """Copy a stream to a new file in `folder`; raises DataError for more than `limit` bytes, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as target:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > limit:
                    raise DataError(f"the file has more than the {limit:,} bytes that are allowed")
                digest.update(block)
                target.write(block)
        if not size:
            raise DataError("the file is empty")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Incoming(path, digest.hexdigest(), size)


def allowed_path(given: str, folders: list[Path]) -> Path:
    """A server-side file below one of the folders, links followed; raises DataError. Says nothing of other files."""
    try:
        path = Path(given).resolve()
        if any(path.is_relative_to(folder) for folder in folders) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):
        pass
    raise DataError("path is not a file below a folder that this station may read")


def allowed_dataset(given: str, folders: list[Path]) -> Path:
    """A folder or a CSV at or below one of the folders, links followed; raises DataError."""
    try:
        path = Path(given.strip()).resolve()
        if any(path.is_relative_to(folder) for folder in folders) and (path.is_dir() or path.suffix.lower() == ".csv"):
            return path
    except (OSError, ValueError, RuntimeError):
        pass
    raise DataError("this is no folder, and no CSV, at or below a folder that this station may read")


def check_pixels(path: Path, limit: int) -> None:
    """Refuse by its header, before anything is unpacked, an image of more than `limit` pixels, or no image."""
    try:
        header = image_header(path)
    except ImageError as error:
        raise ImageError(unnamed(str(error), path)) from error
    if header.height * header.width > limit:
        raise ImageError(f"the image has {header.width}×{header.height} pixels, more than the limit of {limit:,}")


def unnamed(message: str, file: Path) -> str:
    """A message without our own name of a file, which tells nobody anything."""
    return message.replace(f" {file}", "").replace(str(file), "the image")


def keeps(policy: Keep, verdict: str) -> bool:
    return policy == "all" or (policy == "rejects" and verdict != Verdict.PASS)


def keep(path: Path, images: Path) -> str:
    """Move a file among the kept images; its new path below them, by date."""
    with path.open("rb") as stream:
        start = stream.read(8)
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if start.startswith(magic)), ".img")
    relative = Path(datetime.now(UTC).strftime("%Y-%m-%d")) / f"{uuid.uuid4().hex}{suffix}"
    target = images / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)
    return relative.as_posix()


def kept_image(row: InspectionRow, images: Path) -> Path:
    """The image of a recorded inspection, unaltered; raises NotKeptError where it is gone or changed."""
    if row.image_path is None:
        raise NotKeptError(f"the image of inspection {row.id} was not kept")
    path = images / row.image_path
    try:
        with path.open("rb") as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == row.image_sha256
    except OSError as error:
        raise NotKeptError(f"the image of inspection {row.id} is gone: {error.strerror}") from error
    if not same:
        raise NotKeptError(f"the image of inspection {row.id} is not the one that was inspected")
    return path


def expired(session: Session, settings: Settings, limit: int = 1000) -> list[InspectionRow]:
    """Inspections whose images are to go, oldest first: beyond the age, or beyond the size of all that is kept.

    Images that bear a review or belong to the golden set stay: they are the truth of the next training.
    """
    row = InspectionRow
    # Others on the same database keep theirs elsewhere; a record in the station's own folder is all its own.
    own = true() if settings.db is None else row.station == settings.station
    bound = row.id.in_(select(ReviewRow.inspection_id)) | row.id.in_(select(GoldenRow.inspection_id))
    free = select(row).where(row.image_path.is_not(None), own, ~bound).order_by(row.id)
    found: dict[int, InspectionRow] = {}
    if settings.keep_days is not None:
        oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
        found |= {r.id: r for r in session.scalars(free.where(row.created_at < oldest).limit(limit)).unique()}
    if settings.keep_gib is not None:
        kept = session.scalar(select(func.sum(row.image_bytes)).where(row.image_path.is_not(None), own)) or 0
        excess = kept - settings.keep_gib * 2**30 - sum(r.image_bytes for r in found.values())
        for candidate in session.scalars(free.limit(limit)).unique():
            if excess <= 0:
                break
            if candidate.id not in found:
                found[candidate.id] = candidate
                excess -= candidate.image_bytes
    return list(found.values())


def sweep(session: Session, settings: Settings) -> int:
    """Forget and delete some expired images, and return how many; the records stay. The caller commits."""
    rows = expired(session, settings)
    for row in rows:
        (settings.images / str(row.image_path)).unlink(missing_ok=True)
        row.image_path = None
    return len(rows)


def sweep_strays(session: Session, settings: Settings, older_than_s: float = 86400) -> int:
    """Delete kept files that no record names: of parts that were never answered, because the station was killed."""
    found = 0
    for folder in settings.images.glob("*/"):
        known = set(
            session.scalars(select(InspectionRow.image_path).where(InspectionRow.image_path.startswith(folder.name)))
        )
        for path in folder.iterdir():
            if f"{folder.name}/{path.name}" not in known and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink(missing_ok=True)
                found += 1
    return found
