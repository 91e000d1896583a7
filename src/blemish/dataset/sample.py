"""One image and what is known about it; many of them with their class names."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from blemish.geometry import Box, Shape

GOOD = "good"
DEFECT = "defect"  # a defect of which nothing tells the class
SPLITS = ("train", "val", "test")
FEW = 25  # a defect class with fewer training images than this puts the data in the "few" setting

Setting = Literal["known", "unknown", "few"]


class AnnotationWarning(UserWarning):
    """An annotation that a reader had to leave out, in one line, and the image whose truth it was part of."""

    def __init__(self, line: str, image: Path | None = None) -> None:
        super().__init__(line)
        self.image = image


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file and what is known about it; None means not known.

    A defect is either a box or a shape, never both; `ground_truth` makes boxes and masks of whatever is here.
    """

    image: Path
    label: str | None = None  # class name; GOOD for a defect-free part
    split: str | None = None  # one of SPLITS
    mask: Path | None = None  # defect pixels
    mask_classes: tuple[str, ...] | None = None  # names of the mask's pixel values 1, 2, …; None: a mask of two values
    boxes: tuple[Box, ...] | None = None
    shapes: tuple[Shape, ...] | None = None  # outlines and run lengths
    template: Path | None = None  # a defect-free twin of this very image
    roi: Path | None = None  # mask: only these pixels count
    ignore: Path | None = None  # mask: these pixels do not count
    group: str | None = None  # part or lot; one group never spans two splits
    product: str | None = None
    labels: tuple[str, ...] | None = None  # all defect classes, of an image that shows several; its label is then None
    sources: tuple[Path, ...] | None = None  # of a synthetic image: those whose surface and defects it shows

    @property
    def defective(self) -> bool | None:
        """Whether the part has a defect; None where no label, mask or box tells."""
        if self.label is not None:
            return self.label != GOOD
        if self.labels:
            return True
        if self.boxes is not None or self.shapes is not None:
            return bool(self.boxes or self.shapes)
        return True if self.mask is not None else None


def setting_of(counts: Collection[int]) -> Setting:
    """What so many training images of each defect class tell of defects: nothing, a handful, or enough."""
    if not counts:
        return "unknown"
    return "few" if min(counts) < FEW else "known"


@dataclass(frozen=True)
class Dataset:
    """Samples with their class names (GOOD first where it occurs) and where they came from."""

    samples: tuple[Sample, ...]
    root: Path
    format: str
    broken: tuple[str, ...] = ()  # annotations that the reader had to leave out, a line each

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of labels, boxes, shapes and masks, sorted, GOOD first; DEFECT where a mask has no class."""
        names = {s.label for s in self.samples if s.label is not None}
        names |= {found.label for s in self.samples for found in (*(s.boxes or ()), *(s.shapes or ()))}
        names |= {name for s in self.samples for name in (*(s.mask_classes or ()), *(s.labels or ()))}
        if any(s.mask and not (s.mask_classes or s.label or s.labels) for s in self.samples):
            names.add(DEFECT)
        return tuple(sorted(names, key=lambda name: (name != GOOD, name)))

    @property
    def defect_classes(self) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name != GOOD)

    @property
    def truth(self) -> frozenset[str]:
        """Kinds of truth that at least one sample bears: good, label, mask, boxes, template."""
        found = set()
        for s in self.samples:
            found |= {kind for kind in ("label", "mask", "boxes", "template") if getattr(s, kind) is not None}
            if s.shapes:
                found |= {"mask", "boxes"}
            if s.labels:
                found.add("label")
            if s.defective is False:
                found.add("good")
        return frozenset(found)

    @property
    def setting(self) -> Setting:
        """What the training images tell of defects, by the classes of their labels."""
        training = [s for s in self.samples if s.split in (None, "train")]
        counts = Counter(name for s in training if s.defective for name in (s.labels or (s.label,)))
        return setting_of(counts.values())

    def where(self, keep: Callable[[Sample], bool]) -> "Dataset":
        return replace(self, samples=tuple(s for s in self.samples if keep(s)))

    def split(self, name: str) -> "Dataset":
        """The samples of one split."""
        return self.where(lambda s: s.split == name)

    def with_samples(self, samples: Iterable[Sample]) -> "Dataset":
        return replace(self, samples=tuple(samples))
