"""The cells of the confusion matrix of classes, each with the images in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.report.gallery import data_uri
from blemish.report.overlay import as_picture

if TYPE_CHECKING:  # evaluation and report are rooms of one floor
    from blemish.evaluation.evaluate import EvaluatedImage

SIDE = 180  # of a picture in a cell, px
MAX_WRONG = 8  # pictures of a wrong cell
MAX_RIGHT = 3  # of a right one


@dataclass(frozen=True, slots=True)
class Thumbnail:
    name: str
    probability: float
    image: str  # data URI


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """Images of class `annotated` predicted as `predicted`: the surest where that is wrong, else the least sure."""

    annotated: str
    predicted: str
    row: int  # of the table
    column: int
    total: int
    thumbnails: list[Thumbnail]


def confusion_cells(images: Sequence["EvaluatedImage"], names: Sequence[str]) -> list[ConfusionCell]:
    """The cells that have images, row by row of the table of classes `names`."""
    by_cell: dict[tuple[int, int], list[tuple[float, EvaluatedImage]]] = {}
    for image in images:
        if image.predicted is not None and image.sample.label in names and image.predicted[0] in names:
            cell = (names.index(image.sample.label), names.index(image.predicted[0]))
            by_cell.setdefault(cell, []).append((image.predicted[1], image))
    cells = []
    for (row, column), members in sorted(by_cell.items(), key=lambda item: item[0]):
        right = row == column
        members.sort(key=lambda pair: pair[0] if right else -pair[0])
        shown = [_thumbnail(image, p) for p, image in members[: MAX_RIGHT if right else MAX_WRONG]]
        thumbnails = [thumbnail for thumbnail in shown if thumbnail is not None]
        cells.append(ConfusionCell(names[row], names[column], row, column, len(members), thumbnails))
    return cells


def _thumbnail(image: "EvaluatedImage", probability: float) -> Thumbnail | None:
    """None where the image cannot be read any more."""
    path = image.sample.image
    try:
        return Thumbnail("/".join(path.parts[-2:]), probability, data_uri(as_picture(read_image(path)), SIDE))
    except BlemishError:
        return None
