"""Image files: how they are received, which are stored, and for how long. No name that a sender gave becomes a path."""

import errno
import hashlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, DataError, ImageError
from blemish.files import file_sha256
from blemish.imaging.read import MAX_PIXELS, image_header
from blemish.inspection.manifest import Manifest
from blemish.inspection.result import Verdict
from blemish.station.models import GoldenRow, InspectionRow, ReviewRow
from blemish.station.settings import GIB, KeepPolicy, Settings

_BLOCK = 2**20
MIN_DISK_BYTES = 64 * 2**20  # free; below that no part is taken, so that the record of those in work finds room
MAX_REDUCTION = 32  # of each side of an image, to the input of a bundle's graph
MAX_ENLARGEMENT = 4  # of each side, to the largest training image
MIN_PIXEL_LIMIT = 16_000_000
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}


class DiskFullError(BlemishError):
    """There is no room for a part; free some, and send it again."""

    wait_s = 30.0


class ImageNotStoredError(DataError):
    """The image of an inspection was not stored, or is gone."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that was received whole, under a name of the station's own."""

    path: Path
    sha256: str
    size: int


def check_disk(folder: Path) -> None:
    """Raise DiskFullError where a part would find no room."""
    free = shutil.disk_usage(folder).free
    if free < MIN_DISK_BYTES:
        raise DiskFullError(
            f"the disk of the station is full ({free // 2**20} MiB free); no part is taken until it is not"
        )


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def receive_file(stream: BinaryIO, folder: Path, max_bytes: int) -> ReceivedFile:
    """Copy a stream to a new file in `folder`; raises DataError for more than `max_bytes`, or none."""
    path = folder / uuid.uuid4().hex
    digest, size = hashlib.sha256(), 0
    try:
        with _create(path) as target:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > max_bytes:
                    raise DataError(f"the file is larger than the limit of {max_bytes:,} bytes")
                digest.update(block)
                target.write(block)
        if not size:
            raise DataError("the file is empty")
    except BaseException as error:
        path.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFullError("the disk of the station is full") from error
        raise
    return ReceivedFile(path, digest.hexdigest(), size)


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def allowed_path(given: str, folders: list[Path]) -> Path:
    """A file on the server below one of the folders, links followed; raises DataError. Reveals nothing of others."""
    path = _resolve_below(given, folders)
    if path is None or not path.is_file():
        raise DataError("path is not a file below a folder that this station may read")
    return path


def allowed_dataset(given: str, folders: list[Path]) -> Path:
    """A folder or a CSV at or below one of the folders, links followed; raises DataError."""
    path = _resolve_below(given.strip(), folders)
    if path is None or not (path.is_dir() or path.suffix.lower() == ".csv"):
        raise DataError("this is no folder, and no CSV, at or below a folder that this station may read")
    return path


def _resolve_below(given: str, folders: list[Path]) -> Path | None:
    try:
        path = Path(given).resolve()
        return path if any(map(path.is_relative_to, folders)) and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def pixel_limit(manifest: Manifest) -> int:
    """The largest number of pixels of an image that a bundle may get: a multiple of what it was trained on.

    Of older bundles, which do not say that, each side may be reduced `MAX_REDUCTION` times to the graph's input; beyond
    that nothing is left of a defect. Those that inspect tiles have no such limit.
    """
    trained = manifest.input.pixels
    if trained is not None:
        return max(MIN_PIXEL_LIMIT, MAX_ENLARGEMENT**2 * trained.height[1] * trained.width[1])
    if manifest.tiling is not None:
        return MAX_PIXELS
    return max(MIN_PIXEL_LIMIT, MAX_REDUCTION**2 * manifest.input.height * manifest.input.width)


def check_pixels(path: Path, max_pixels: int) -> None:
    """Raise ImageError for an image of more than `max_pixels`, or no image, by its header, before it is decoded."""
    try:
        header = image_header(path)
    except ImageError as error:
        raise ImageError(hide_path(str(error), path)) from error
    if header.height * header.width > max_pixels:
        raise ImageError(f"the image has {header.width}×{header.height} pixels, more than the limit of {max_pixels:,}")


def hide_path(message: str, file: Path) -> str:
    """A message without the station's internal name of a file."""
    return message.replace(f" {file}", "").replace(str(file), "the image")


def should_store(policy: KeepPolicy, verdict: str) -> bool:
    return policy == "all" or (policy == "rejects" and verdict != Verdict.PASS)


def store_image(path: Path, images: Path) -> str:
    """Move a file to the stored images; returns its new path below them, by date."""
    with path.open("rb") as stream:
        start = stream.read(8)
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if start.startswith(magic)), ".img")
    relative = Path(datetime.now(UTC).strftime("%Y-%m-%d")) / f"{uuid.uuid4().hex}{suffix}"
    target = images / relative
    try:
        os.replace(path, target)
    except FileNotFoundError:  # the first one of this day
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    return relative.as_posix()


def has_image(row: InspectionRow, images: Path) -> bool:
    """Whether there is a stored image, whatever is in it; other stations on one record store theirs elsewhere."""
    return row.image_path is not None and (images / row.image_path).is_file()


def stored_image(row: InspectionRow, images: Path) -> Path:
    """The image of a recorded inspection, unaltered; raises ImageNotStoredError where it is gone or changed."""
    if row.image_path is None:
        raise ImageNotStoredError(f"the image of inspection {row.id} was not stored")
    path = images / row.image_path
    try:
        same = file_sha256(path) == row.image_sha256
    except OSError as error:
        raise ImageNotStoredError(f"the image of inspection {row.id} is gone: {error.strerror}") from error
    if not same:
        raise ImageNotStoredError(f"the image of inspection {row.id} is not the one that was inspected")
    return path


def find_expired(session: Session, settings: Settings, limit: int = 1000) -> list[InspectionRow]:
    """Inspections whose images are to be deleted, oldest first: beyond the maximum age, or the maximum total size.

    Images that have a review or belong to the golden set stay: they are ground truth for the next training. So do those
    that wait for a person: of parts that were not passed, and that nobody has reviewed.
    """
    row = InspectionRow
    # Other stations on one database store their images elsewhere; a database in the station's folder is its own.
    own = true() if settings.db is None else row.station == settings.station
    pinned = row.id.in_(select(ReviewRow.inspection_id)) | row.id.in_(select(GoldenRow.inspection_id))
    waits = row.verdict != Verdict.PASS.value
    free = select(row).where(row.image_path.is_not(None), own, ~pinned, ~waits).order_by(row.id)
    expired: dict[int, InspectionRow] = {}
    if settings.keep_days is not None:
        oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
        expired |= {r.id: r for r in session.scalars(free.where(row.created_at < oldest).limit(limit)).unique()}
    if settings.keep_gib is not None:
        stored = session.scalar(select(func.sum(row.image_bytes)).where(row.image_path.is_not(None), own)) or 0
        excess = stored - settings.keep_gib * GIB - sum(r.image_bytes for r in expired.values())
        for candidate in session.scalars(free.limit(limit)).unique():
            if excess <= 0:
                break
            if candidate.id not in expired:
                expired[candidate.id] = candidate
                excess -= candidate.image_bytes
    return list(expired.values())


def delete_expired(session: Session, settings: Settings) -> int:
    """Delete some expired images, and return how many; the records stay. The caller commits."""
    rows = find_expired(session, settings)
    for row in rows:
        (settings.images / str(row.image_path)).unlink(missing_ok=True)
        row.image_path = None
    return len(rows)


def set_orphans_aside(session: Session, settings: Settings, min_age_s: float = 86400) -> int:
    """Move stored files that the record does not know to the folder of orphans, and return how many.

    They are of parts that were never answered, because the station was killed; or else the record is the wrong one, and
    then nothing else may be lost.
    """
    moved = 0
    for folder in settings.images.glob("*/"):
        paths = select(InspectionRow.image_path).where(InspectionRow.image_path.startswith(folder.name))
        known = set(session.scalars(paths))
        for path in folder.iterdir():
            if f"{folder.name}/{path.name}" not in known and time.time() - path.stat().st_mtime > min_age_s:
                target = settings.orphans / folder.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
                moved += 1
    return moved
