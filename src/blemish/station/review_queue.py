"""Parts that wait for a person's review, and reviewed parts as a dataset."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.write import write_csv
from blemish.errors import BlemishError, DataError
from blemish.imaging.decoders import png_size
from blemish.imaging.read import encode
from blemish.station.image_store import stored_image
from blemish.station.models import InspectionRow, ReviewRow
from blemish.station.repository import contradicts, decode_mask

VERDICTS = {"undecided": "review", "rejected": "reject"}  # of the parts in a queue; those in "disputed" have reviews
QUEUES = ("undecided", "disputed", "rejected")
MAX_LISTED = 500  # parts of a queue


def list_queue(session: Session, kind: str, person: str | None = None) -> list[int]:
    """Ids, oldest first, of parts that wait for a review, by `person` where it is given.

    "undecided": between the thresholds and not reviewed; "rejected": rejected and not reviewed; "disputed": the latest
    review contradicts the verdict, and no review by a second person has confirmed it. Who gave that review is not the
    second person.
    """
    if kind == "disputed":
        return _list_disputed(session, person)[:MAX_LISTED]
    return list(session.scalars(_unreviewed(kind).order_by(InspectionRow.id).limit(MAX_LISTED)))


def queue_lengths(session: Session, person: str | None = None) -> dict[str, int]:
    lengths = {"disputed": len(_list_disputed(session, person))}
    for kind in VERDICTS:
        lengths[kind] = session.scalar(select(func.count()).select_from(_unreviewed(kind).subquery())) or 0
    return lengths


def _unreviewed(kind: str) -> Select[Any]:
    row = InspectionRow
    # Whether its image was stored is no condition: a person decides with the part in hand.
    return select(row.id).where(row.verdict == VERDICTS[kind], ~row.reviews.any())


def _list_disputed(session: Session, person: str | None = None) -> list[int]:
    reviews: dict[tuple[int, str], list[tuple[str, str]]] = defaultdict(list)
    query = select(ReviewRow.inspection_id, InspectionRow.verdict, ReviewRow.created_by, ReviewRow.label)
    query = query.join(InspectionRow, InspectionRow.id == ReviewRow.inspection_id).order_by(ReviewRow.id)
    for inspection_id, verdict, reviewer, label in session.execute(query):
        reviews[inspection_id, verdict].append((reviewer, label))
    return sorted(
        id_ for (id_, verdict), given in reviews.items() if is_disputed(verdict, given) and given[-1][0] != person
    )


def is_disputed(verdict: str, reviews: Sequence[tuple[str, str]]) -> bool:
    """Whether the latest of the reviews (person, label) needs a second opinion.

    Two people who agree, one after the other, settle a dispute; reviews of one person in a row count as the last one.
    """
    opinions: list[tuple[str, str]] = []
    for person, label in reviews:
        if opinions and opinions[-1][0] == person:
            opinions.pop()
        opinions.append((person, label))
    if len(opinions) > 1:
        return opinions[-1][1] != opinions[-2][1]
    return contradicts(opinions[-1][1], verdict)


def scale_mask(png: bytes, row: InspectionRow) -> bytes:
    """A mask that was painted on a smaller picture, at the size of the image."""
    if row.height is None or row.width is None:
        raise DataError("this part's image could not be read, so nothing can be painted on it")
    size = png_size(png)
    if size is None or max(size) > max(row.height, row.width):
        raise DataError("the painted mask is no PNG, or larger than the image")
    mask = decode_mask(png).astype(np.uint8) * 255
    if mask.shape != (row.height, row.width):
        mask = np.asarray(cv2.resize(mask, (row.width, row.height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return encode(mask, ".png")


def list_reviewed(session: Session) -> list[InspectionRow]:
    row = InspectionRow
    return list(session.scalars(select(row).where(row.reviews.any(), row.image_path.is_not(None)).order_by(row.id)))


def export_reviews(rows: Sequence[InspectionRow], images: Path, exports: Path) -> Dataset:
    """Write reviewed parts as a new folder with `dataset.csv`, images and masks, which `read_dataset` reads.

    A part's mask is the one that the latest review of its final class has; where nobody painted one, the mask of a
    defective part is left unknown, because a confirmed class says nothing of the outline. The lot is the group that
    splits keep together. Raises DataError where there is nothing to write.
    """
    folder = exports / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    samples = []
    for row in rows:
        try:
            samples.append(_export_part(row, stored_image(row, images), folder))
        except BlemishError:
            continue  # the image is gone since
    if not samples:
        shutil.rmtree(folder)
        raise DataError("there is no reviewed part with a stored image")
    dataset = Dataset(tuple(samples), folder, "csv")
    write_csv(dataset, folder / "dataset.csv", relative=True)
    return dataset


def _export_part(row: InspectionRow, source: Path, folder: Path) -> Sample:
    image = folder / "images" / f"{row.id}{source.suffix}"
    shutil.copyfile(source, image)
    label = row.reviews[-1].label
    masks = [review.mask for review in row.reviews if review.mask is not None and review.label == label]
    mask = None
    if masks and label != GOOD:
        mask = folder / "masks" / f"{row.id}.png"
        mask.write_bytes(masks[-1])
    return Sample(image, label=label, mask=mask, group=row.lot)
