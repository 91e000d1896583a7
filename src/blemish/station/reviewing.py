"""Which parts people should look at, and what they said of them, as a dataset."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError
from blemish.imaging.read import encode
from blemish.station.image_store import kept_image
from blemish.station.models import InspectionRow, ReviewRow
from blemish.station.repository import decode_mask

QUEUES = ("zone", "disputed", "rejects")
MOST = 500  # parts of a queue that are listed


def queue(session: Session, kind: str) -> list[int]:
    """Ids, oldest first, of parts that wait for somebody.

    "zone": between the thresholds and not reviewed; "rejects": rejected and not reviewed; "disputed": the latest review
    contradicts the verdict, and no second one has said the same.
    """
    row = InspectionRow
    if kind == "disputed":
        return _disputed(session)[:MOST]
    wanted = row.verdict == ("review" if kind == "zone" else "reject")
    query = select(row.id).where(wanted, ~row.reviews.any(), row.image_path.is_not(None))
    return list(session.scalars(query.order_by(row.id).limit(MOST)))


def queue_lengths(session: Session) -> dict[str, int]:
    row = InspectionRow
    found = {"disputed": len(_disputed(session))}
    for kind, verdict in (("zone", "review"), ("rejects", "reject")):
        query = select(func.count()).where(row.verdict == verdict, ~row.reviews.any(), row.image_path.is_not(None))
        found[kind] = session.scalar(query) or 0
    return found


def _disputed(session: Session) -> list[int]:
    labels: dict[int, list[str]] = defaultdict(list)
    verdicts: dict[int, str] = {}
    query = select(ReviewRow.inspection_id, ReviewRow.label, InspectionRow.verdict)
    query = query.join(InspectionRow, InspectionRow.id == ReviewRow.inspection_id).order_by(ReviewRow.id)
    for id_, label, verdict in session.execute(query):
        labels[id_].append(label)
        verdicts[id_] = verdict
    return sorted(id_ for id_, said in labels.items() if is_disputed(verdicts[id_], said))


def is_disputed(verdict: str, labels: Sequence[str]) -> bool:
    """Whether the latest of the labels needs a second look; two that agree settle it."""
    if len(labels) > 1 and labels[-1] == labels[-2]:
        return False
    if len(labels) > 1:
        return True
    return verdict != "review" and (verdict == "pass") != (labels[-1] == GOOD)


def scale_mask(png: bytes, row: InspectionRow) -> bytes:
    """A mask that was drawn on a smaller picture, at the size of the image."""
    mask = decode_mask(png).astype(np.uint8) * 255
    if row.height is None or row.width is None:
        raise DataError("this part's image could not be read, so nothing can be drawn on it")
    if mask.shape != (row.height, row.width):
        mask = np.asarray(cv2.resize(mask, (row.width, row.height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return encode(mask, ".png")


def reviewed(session: Session) -> list[InspectionRow]:
    row = InspectionRow
    return list(session.scalars(select(row).where(row.reviews.any(), row.image_path.is_not(None)).order_by(row.id)))


def export(rows: Sequence[InspectionRow], images: Path, exports: Path) -> Dataset:
    """Write reviewed parts as a new folder with `dataset.csv`, images and masks, which `read_dataset` reads.

    A part's mask is what the latest review of its final class drew; where nobody drew one, that of a defective part is
    left unknown, for a class that was confirmed says nothing of the edges. The lot is the group that splits keep
    together. Raises DataError where there is nothing to write.
    """
    folder = exports / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    samples = []
    for row in rows:
        try:
            source = kept_image(row, images)
        except BlemishError:
            continue  # gone since
        samples.append(_copied(row, source, folder))
    if not samples:
        (folder / "masks").rmdir()
        (folder / "images").rmdir()
        folder.rmdir()
        raise DataError("there is no reviewed part whose image is kept")
    dataset = Dataset(tuple(samples), folder, "csv")
    write_csv(dataset, folder / "dataset.csv", relative=True)
    return dataset


def _copied(row: InspectionRow, source: Path, folder: Path) -> Sample:
    image = folder / "images" / f"{row.id}{source.suffix}"
    image.write_bytes(source.read_bytes())
    label = row.reviews[-1].label
    drawn = [review.mask for review in row.reviews if review.mask is not None and review.label == label]
    mask = None
    if drawn and label != GOOD:
        mask = folder / "masks" / f"{row.id}.png"
        mask.write_bytes(drawn[-1])
    return Sample(image, label=label, mask=mask, group=row.lot)
