"""Writing samples to other layouts, shared by all formats: folders, file names, and a line for each kind of loss."""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.arrays import Mask
from blemish.dataset.annotations import fold_name
from blemish.dataset.ground_truth import (
    clip_box,
    defect_boxes,
    defect_shapes,
    has_boxes,
    has_mask,
    read_class_masks,
    read_defect_mask,
)
from blemish.dataset.labels import derive_label
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, Rle, Shape
from blemish.imaging.read import image_header, read_mask, write_image

Layout = Callable[[Sample, str, str, Path], tuple[Path, Path | None]]


@dataclass(frozen=True, slots=True)
class ExportEntry:
    """A sample as it is to be written: its annotations, None where the location of defects is unknown."""

    sample: Sample
    stem: str
    subset: Path  # folder of the sample's split, or none
    size: tuple[int, int]  # height, width
    items: tuple[Box | Shape, ...] | None

    @property
    def file_name(self) -> str:
        return image_name(self.sample, self.stem)


def prepare_entries(
    dataset: Dataset,
    out: Path,
    holds: Callable[[Shape], bool],
    kept: Collection[str] = (),
    subsets: bool = True,
    requirement: str = "a file",
    unknown_as_good: bool = False,
) -> tuple[list[ExportEntry], list[str]]:
    """Samples for a format of boxes and, where `holds` says so, shapes, and a line for each loss; makes the folder.

    Boxes are clipped to the image. Mask files become run lengths; shapes that the format cannot hold become boxes.
    With `subsets` the format keeps splits where all samples have one. `unknown_as_good`: in this format an image whose
    defects are unknown looks like one without defects.
    """
    by_split = subsets and all_split(dataset.samples)
    kept = {*kept, *(("split",) if by_split else ())}
    entries, boxed = [], 0
    for sample, stem in zip(dataset.samples, unique_stems(dataset.samples), strict=True):
        size = image_header(sample.image).size
        items: tuple[Box | Shape, ...] | None = None
        if has_boxes(sample):
            shapes = defect_shapes(sample, size) if sample.shapes is not None or not sample.boxes else ()
            if all(holds(shape) for shape in shapes):
                clipped = (clip_box(box, size) for box in sample.boxes or ())
                items = (*filter(None, clipped), *shapes)
            else:
                items, boxed = defect_boxes(sample, size), boxed + 1
        entries.append(ExportEntry(sample, stem, _subset(sample, by_split), size, items))
    derived = [derive_label(i.label for i in e.items) if e.items is not None else None for e in entries]
    unlike = sum(e.sample.label != label for e, label in zip(entries, derived, strict=True))
    lost = [
        *list_losses(dataset.samples, {"label", "mask", "boxes", "shapes", *kept}),
        *_line(boxed, "the outlines of {} images are kept as boxes"),
        *_line(
            sum(bool(s.boxes) and s.mask is not None for s in dataset.samples),
            "mask of {} images is not kept: their boxes are",
        ),
        *_line(
            0 if "label" in kept else unlike,
            "label of {} images is not kept: it does not follow from their annotations",
        ),
        *_line(
            sum(e.items is None for e in entries) if unknown_as_good else 0,
            "{} images whose defects are not known read back as good",
        ),
    ]
    make_output_folder(out, entries, requirement)
    return entries, lost


def defect_names(dataset: Dataset, entries: Iterable[ExportEntry]) -> list[str]:
    """All defect classes of a dataset and its entries, sorted."""
    labels = {item.label for entry in entries for item in entry.items or ()}
    return sorted(labels | {name for name in dataset.classes if name != GOOD})


def write_classified(
    dataset: Dataset, out: Path, layout: Layout, kept: Collection[str] = (), masks: bool = True
) -> list[str]:
    """Write images into folders of their class, and masks; returns a line for each loss.

    `layout` takes a sample, its label, its stem and the folder of its split, and gives the image's path without a
    suffix and that of its mask, if any, below `out`.
    """
    pairs, lost = select_labelled(dataset.samples)
    samples = [sample for sample, _ in pairs]
    by_split = all_split(samples)
    written = {"label", *kept, *(("mask",) if masks else ()), *(("split",) if by_split else ())}
    lost += list_losses(samples, written)
    make_output_folder(out, samples, "a label")
    for (sample, label), stem in zip(pairs, unique_stems(samples), strict=True):
        image, mask = layout(sample, label, stem, _subset(sample, by_split))
        copy_image(sample.image, out / image.parent / image_name(sample, image.name))
        if mask is not None:
            write_defect_mask(sample, out / mask)
    return lost


def write_masked(
    dataset: Dataset,
    out: Path,
    write: Callable[[Sample, str, Path, Mask], Iterable[str]],
    subsets: bool,
    merged: str,
) -> list[str]:
    """Hand each sample, its stem, its split's folder and the masks (K, H, W) of the defect classes to `write`.

    `write` returns the classes that it has written. Returns a line for each loss; `merged` is the line for defects that
    become one.
    """
    samples = [s for s in dataset.samples if has_mask(s)]
    by_split = subsets and all_split(samples)
    lost = list_losses(samples, {"mask", "shapes", "label", *(("split",) if by_split else ())})
    lost += _line(len(dataset) - len(samples), "{} images whose defect pixels are not known are left out")
    if any(not (isinstance(shape, Rle) and shape.many) for s in samples for shape in s.shapes or ()):
        lost.append(merged)
    make_output_folder(out, samples, "a mask or outlines")
    unlike = 0
    for sample, stem in zip(samples, unique_stems(samples), strict=True):
        layers = read_class_masks(sample, dataset.defect_classes, image_header(sample.image).size)
        unlike += derive_label(write(sample, stem, _subset(sample, by_split), layers)) != sample.label
    return lost + _line(unlike, "label of {} images is not kept: it does not follow from their masks")


def list_losses(samples: Iterable[Sample], kept: Collection[str]) -> list[str]:
    """One line for each kind of knowledge in the samples that is not in `kept`."""
    samples = list(samples)
    lines = []
    outlined = sum(bool(s.shapes) for s in samples)
    if outlined and "shapes" not in kept:
        masks = "are kept as one mask each" if "mask" in kept else "are not kept"
        lines.append(f"outlines of {outlined} images {masks}")
    layered = sum(s.mask_classes is not None for s in samples)
    if "mask" in kept and "shapes" not in kept:
        lines += _line(layered, "classes in the masks of {} images are not kept")
    for kind in (
        "label", "labels", "split", "mask", "boxes", "template", "roi", "ignore", "ignore_shapes", "group", "view",
        "product",
    ):  # fmt: skip
        if kind not in kept:
            lines += _line(sum(getattr(s, kind) is not None for s in samples), f"{kind} of {{}} images is not kept")
    if "sources" not in kept:
        lines += _line(
            sum(s.sources is not None for s in samples),
            "{} synthetic images read back as real ones, so that thresholds and metrics would rest on them: leave them "
            "out, or take the layout csv or coco",
        )
    return lines


def select_labelled(samples: Iterable[Sample]) -> tuple[list[tuple[Sample, str]], list[str]]:
    """Samples with their label, DEFECT where there are only boxes or a mask; and a line about those that have none."""
    samples = list(samples)
    labels = [s.label or {True: DEFECT, False: GOOD, None: None}[s.defective] for s in samples]
    pairs = [(s, label) for s, label in zip(samples, labels, strict=True) if label is not None]
    several = sum(s.label is None and bool(s.boxes or s.shapes or s.mask_classes) for s, _ in pairs)
    return pairs, [
        *_line(len(samples) - len(pairs), "{} images without a label are left out"),
        *_line(several, f"{{}} images with defects of several classes are labelled {DEFECT}"),
    ]


def make_output_folder(out: Path, written: Sequence[object], requirement: str = "a file") -> None:
    """DataError where the folder is not empty, or no image has what the layout requires."""
    if not written:
        raise DataError(f"none of the images has {requirement}, and the layout holds no others; take another layout")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} already exists and is not an empty folder; give another place to write to")
    out.mkdir(parents=True, exist_ok=True)


def unique_stems(samples: Iterable[Sample]) -> list[str]:
    """A file stem for every sample, whatever the case: its own where no other has it, otherwise a number before it."""
    stems = [s.image.stem for s in samples]
    often = Counter(map(fold_name, stems))
    unique, taken = [], {stem for stem, count in often.items() if count == 1}
    for i, stem in enumerate(stems):
        while often[fold_name(stem)] > 1 or (stem != stems[i] and fold_name(stem) in taken):
            stem = f"{i:06d}_{stem}"
        taken.add(fold_name(stem))
        unique.append(stem)
    return unique


def image_name(sample: Sample, stem: str) -> str:
    return stem + sample.image.suffix.lower()


def copy_image(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write_defect_mask(sample: Sample, target: Path) -> None:
    """The defect pixels, where a mask or outlines give them, as a PNG of 0 and 255."""
    if sample.mask is not None and sample.mask_classes is None:
        write_image(target, read_mask(sample.mask))
    elif sample.mask is not None or (sample.shapes and has_mask(sample)):
        write_image(target, read_defect_mask(sample, image_header(sample.image).size))


def all_split(samples: Sequence[Sample]) -> bool:
    return bool(samples) and all(s.split for s in samples)


def single_ring(shape: Shape) -> bool:
    return isinstance(shape, Polygon) and len(shape.rings) == 1


def any_shape(shape: Shape) -> bool:
    return True


def no_shape(shape: Shape) -> bool:
    return False


def format_coordinate(value: float) -> str:
    """A coordinate, whole where it is, and otherwise with all its digits."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _subset(sample: Sample, by_split: bool) -> Path:
    return Path(str(sample.split)) if by_split else Path()


def _line(count: int, text: str) -> list[str]:
    return [text.format(count)] if count else []
