"""A label that a person is making: the class of the image, and that of each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from blemish.arrays import ClassMap, Mask
from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.geometry import Rle
from blemish.station.labelling.class_map import paint_over, piece_at, resize_map, split_defects


def _nothing() -> ClassMap:
    return np.zeros((1, 1), np.uint8)


@dataclass
class LabelDraft:
    """`original` is of the image's size, `painted` of that of the picture on which a person paints."""

    classes: tuple[str, ...] = ()  # good, and then those of defects
    original: ClassMap = field(default_factory=_nothing)
    painted: ClassMap = field(default_factory=_nothing)
    label: str = ""  # of the image, and of what is painted next; "": none is chosen yet
    changed: bool = False

    @classmethod
    def start(cls, classes: tuple[str, ...], original: ClassMap, max_side: int) -> "LabelDraft":
        scale = min(1.0, max_side / max(original.shape))
        height, width = (max(1, round(side * scale)) for side in original.shape)
        return cls(classes, original, resize_map(original, (height, width)))

    @property
    def names_defect(self) -> bool:
        """Whether the chosen class is one of a defect."""
        return self.label not in ("", GOOD)

    @property
    def index(self) -> int:
        """The chosen class in the maps; 0: none of a defect."""
        return self.classes.index(self.label) if self.names_defect else 0

    def take_over(self, painted: Mask) -> None:
        """Take the pixels that are painted now; new ones get the chosen class. DataError where there is none."""
        before = resize_map(self.painted, painted.shape)
        if not self.index and (painted & (before == 0)).any():
            raise DataError("Choose the class of what is painted, or erase it.")
        self.painted = paint_over(before, painted, self.index)
        self.changed = True

    def add(self, found: ClassMap) -> None:
        """Pixels with their classes, beside what is painted already."""
        self.painted = np.where(self.painted > 0, self.painted, resize_map(found, self.painted.shape)).astype(np.uint8)
        self.changed = True

    def set_class_at(self, shares: Sequence[float]) -> None:
        """Give the defect at a point, in shares of the sides, the chosen class; DataError for none of either."""
        if not self.names_defect:
            raise DataError("Choose a defect class first.")
        height, width = self.painted.shape
        x, y = min(width - 1, int(shares[0] * width)), min(height - 1, int(shares[1] * height))
        if not self.painted[y, x]:
            raise DataError("Nothing is drawn there.")
        self.painted[piece_at(self.painted, x, y)] = self.index
        self.changed = True

    def shapes(self) -> list[Rle]:
        """Each defect with its class; where all are of one, with the chosen class."""
        if self.label == GOOD:
            return []
        found = resize_map(self.painted, self.original.shape) if self.changed else self.original
        shapes = split_defects(found, self.classes[1:])
        if self.label and len({shape.label for shape in shapes}) == 1:
            shapes = [replace(shape, label=self.label) for shape in shapes]
        return shapes
