"""One image and its annotations; many of them with their class names."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from blemish.geometry import Box, Shape

if TYPE_CHECKING:
    from blemish.dataset.labels import LabelEvidence

GOOD = "good"
DEFECT = "defect"  # a defect whose class is not annotated
IGNORE = "ignore"  # name of mask values whose pixels are not inspected
SPLITS = ("train", "tuning", "val", "test")  # fitted on, tuned on, thresholds chosen on, evaluated on
FEW = 25  # a defect class with fewer training images than this puts the data in the "few" setting

Setting = Literal["known", "unknown", "few"]


class AnnotationWarning(UserWarning):
    """An annotation that was set aside, in one line, and the images that it concerns: their labels are not known.

    That is one image; or, of an annotation that belongs to no image, any below a folder that has no annotation.
    """

    def __init__(self, line: str, image: Path | None = None, folder: Path | None = None) -> None:
        super().__init__(line)
        self.image = image
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Note:
    """What was done to the annotations of an image so that they fit it, such as scaled."""

    what: str
    image: Path


class AnnotationNote(UserWarning):
    """A note of a reader, on its way to `Dataset.notes`."""

    def __init__(self, note: Note) -> None:
        super().__init__(f"{note.image}: {note.what}")
        self.note = note


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file and its annotations; None means not known.

    A defect is either a box or a shape, never both; `ground_truth` makes boxes and masks of whatever is here.
    """

    image: Path
    label: str | None = None  # class name; GOOD for a defect-free part
    split: str | None = None  # one of SPLITS
    mask: Path | None = None  # defect pixels
    mask_classes: tuple[str, ...] | None = None  # names of the mask's pixel values 1, 2, …; None: a mask of two values
    boxes: tuple[Box, ...] | None = None
    shapes: tuple[Shape, ...] | None = None  # outlines and run lengths
    template: Path | None = None  # its reference image: a defect-free image of the same view
    roi: Path | None = None  # mask: only these pixels are inspected
    ignore: Path | None = None  # mask: these pixels are not inspected
    group: str | None = None  # part or lot; one group never spans two splits
    product: str | None = None
    labels: tuple[str, ...] | None = None  # all defect classes of an image with several; its label is then None
    sources: tuple[Path, ...] | None = None  # of a synthetic image: those whose surface and defects it is made of
    ignore_shapes: tuple[Shape, ...] | None = None  # outlines: these pixels are not inspected
    view: str | None = None  # camera, light or position, of a part with several images: `group` is the part then
    # What the label rests on; readers give it with a label that is stated, such as by a folder's name.
    evidence: "LabelEvidence | None" = field(default=None, compare=False)

    @property
    def defective(self) -> bool | None:
        """Whether the part has a defect; None where there is no label, mask or box."""
        if self.label is not None:
            return self.label != GOOD
        if self.labels:
            return True
        if self.boxes is not None or self.shapes is not None:
            return bool(self.boxes or self.shapes)
        return True if self.mask is not None else None

    @property
    def limits_pixels(self) -> bool:
        """Whether something may say that only a part of its pixels are inspected."""
        return any(x is not None for x in (self.roi, self.ignore, self.ignore_shapes, self.mask_classes))


def infer_setting(counts: Collection[int]) -> Setting:
    """Whether so many training images of each defect class are none, a handful, or enough."""
    if not counts:
        return "unknown"
    return "few" if min(counts) < FEW else "known"


@dataclass(frozen=True)
class Dataset:
    """Samples with their class names (GOOD first where it occurs) and where they came from."""

    samples: tuple[Sample, ...]
    root: Path
    format: str
    broken: tuple[str, ...] = ()  # annotations that were set aside, a line each
    notes: tuple[Note, ...] = ()  # annotations that were adapted to their image, such as scaled
    passed_over: tuple[tuple[str, int], ...] = ()  # why files were not read, and how many
    doubts: tuple[str, ...] = ()  # why metrics of these images may be too good, a line each

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of labels, boxes, shapes and masks, sorted, GOOD first; DEFECT where a mask has no class."""
        names = {s.label for s in self.samples if s.label is not None}
        names |= {item.label for s in self.samples for item in (*(s.boxes or ()), *(s.shapes or ()))}
        names |= {name for s in self.samples for name in (*(s.mask_classes or ()), *(s.labels or ()))}
        if any(s.mask and not (s.mask_classes or s.label or s.labels) for s in self.samples):
            names.add(DEFECT)
        names.discard(IGNORE)
        return tuple(sorted(names, key=lambda name: (name != GOOD, name)))

    @property
    def defect_classes(self) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name != GOOD)

    @property
    def annotations(self) -> frozenset[str]:
        """Kinds of annotations that at least one sample has: good, label, mask, boxes, template."""
        kinds: dict[str, Callable[[Sample], object]] = {
            "good": lambda s: s.defective is False,
            "label": lambda s: s.label is not None or s.labels,
            "mask": lambda s: s.mask is not None or s.shapes,
            "boxes": lambda s: s.boxes is not None or s.shapes,
            "template": lambda s: s.template is not None,
        }
        return frozenset(kind for kind, has in kinds.items() if any(has(s) for s in self.samples))

    @property
    def setting(self) -> Setting:
        """How well defects are known, by the labels of the training images."""
        training = [s for s in self.samples if s.split in (None, "train")]
        counts = Counter(name for s in training if s.defective for name in (s.labels or (s.label,)))
        return infer_setting(counts.values())

    def where(self, keep: Callable[[Sample], bool]) -> "Dataset":
        return replace(self, samples=tuple(s for s in self.samples if keep(s)))

    def split(self, name: str) -> "Dataset":
        """The samples of one split."""
        return self.where(lambda s: s.split == name)

    def with_samples(self, samples: Iterable[Sample]) -> "Dataset":
        return replace(self, samples=tuple(samples))


def sort_by_name(samples: Iterable[Sample]) -> list[Sample]:
    """Samples in the order of their images' paths: a draw by a seed must not depend on the order of rows of a list."""
    return sorted(samples, key=lambda sample: sample.image.as_posix())
