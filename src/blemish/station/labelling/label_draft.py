"""A label that a person is making: the class of the image, and that of each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from blemish.arrays import ClassMap
from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.geometry import Rle
from blemish.station.labelling.class_map import NO_CLASS, piece_at, resize_map, split_defects


def _nothing() -> ClassMap:
    return np.zeros((1, 1), np.uint8)


@dataclass
class LabelDraft:
    """`original` is of the image's size, `painted` of that of the picture on which a person paints."""

    classes: tuple[str, ...] = ()  # good, and then those of defects
    original: ClassMap = field(default_factory=_nothing)
    start: ClassMap = field(default_factory=_nothing)  # `painted` at first
    painted: ClassMap = field(default_factory=_nothing)
    label: str = ""  # of the image, and of what is painted next; "": none is chosen yet
    changed: bool = False

    @classmethod
    def of(cls, classes: tuple[str, ...], original: ClassMap, max_side: int) -> "LabelDraft":
        scale = min(1.0, max_side / max(original.shape))
        height, width = (max(1, round(side * scale)) for side in original.shape)
        start = resize_map(original, (height, width))
        return cls(classes, original, start, start)

    @property
    def names_defect(self) -> bool:
        """Whether the chosen class is one of a defect."""
        return self.label not in ("", GOOD)

    @property
    def index(self) -> int:
        """The chosen class in the maps; 0: none of a defect."""
        return self.classes.index(self.label) if self.names_defect else 0

    def take_over(self, painted: ClassMap | None) -> None:
        """What is painted is now this; None: as at first. Pixels without a class get the chosen one, if any."""
        self.changed = painted is not None
        self.painted = self.start if painted is None else painted
        if self.names_defect:
            self.painted = np.where(self.painted == NO_CLASS, self.index, self.painted).astype(np.uint8)

    def piece_at(self, shares: Sequence[float]) -> ClassMap:
        """The defect at a point, in shares of the sides, with the chosen class; DataError for none of either."""
        if not self.names_defect:
            raise DataError("Choose a defect class first.")
        height, width = self.painted.shape
        x, y = min(width - 1, int(shares[0] * width)), min(height - 1, int(shares[1] * height))
        if not self.painted[y, x]:
            raise DataError("Nothing is drawn there.")
        return piece_at(self.painted, x, y) * np.uint8(self.index)

    def shapes(self) -> list[Rle]:
        """Each defect with its class; where all are of one, with the chosen class."""
        if self.label == GOOD:
            return []
        found = resize_map(self.painted, self.original.shape) if self.changed else self.original
        shapes = split_defects(found, self.classes[1:])
        if self.label and len({shape.label for shape in shapes}) == 1:
            shapes = [replace(shape, label=self.label) for shape in shapes]
        return shapes
