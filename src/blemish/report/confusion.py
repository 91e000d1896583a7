"""The cells of the confusion of classes, each with the images in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.report.gallery import data_uri
from blemish.report.overlay import as_picture

if TYPE_CHECKING:  # the figures are made on a floor beside this one
    from blemish.evaluation.evaluate import Seen

SIDE = 180  # of a picture in a cell, px
MOST = 8  # pictures of a wrong cell
MOST_RIGHT = 3  # of a right one


@dataclass(frozen=True, slots=True)
class Thumb:
    name: str
    probability: float
    image: str  # data URI


@dataclass(frozen=True, slots=True)
class Cell:
    """Images of class `truth` that are called `predicted`: the surest where that is wrong, else the least sure."""

    truth: str
    predicted: str
    row: int  # of the table
    column: int
    total: int
    thumbs: list[Thumb]


def confusion_cells(judged: Sequence["Seen"], names: Sequence[str]) -> list[Cell]:
    """The cells in which there are images, row by row of the table of classes `names`."""
    found: dict[tuple[int, int], list[tuple[float, Seen]]] = {}
    for one in judged:
        if one.predicted is not None and one.sample.label in names and one.predicted[0] in names:
            place = (names.index(one.sample.label), names.index(one.predicted[0]))
            found.setdefault(place, []).append((one.predicted[1], one))
    cells = []
    for (row, column), images in sorted(found.items(), key=lambda item: item[0]):
        right = row == column
        images.sort(key=lambda pair: pair[0] if right else -pair[0])
        thumbs = [thumb for p, one in images[: MOST_RIGHT if right else MOST] for thumb in _thumb(one, p)]
        cells.append(Cell(names[row], names[column], row, column, len(images), thumbs))
    return cells


def _thumb(judged: "Seen", probability: float) -> list[Thumb]:
    """One, or none where the image cannot be read any more."""
    path = judged.sample.image
    try:
        return [Thumb("/".join(path.parts[-2:]), probability, data_uri(as_picture(read_image(path)), SIDE))]
    except BlemishError:
        return []
