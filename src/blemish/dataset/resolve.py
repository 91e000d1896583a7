"""Decide what every image is, for all formats alike, from what states its label and what its annotation says.

The order of precedence: what a folder, file name or column states of an image outranks its annotation. Stated
defective, with an empty annotation: it is defective, and where is not known. Stated good, with defects annotated: that
contradicts itself, and the image is unknown. Where nothing is stated, the annotation decides; an empty one means good
where the layout says so, and the lack of one where the layout says so or `unlabelled` does. An annotation that was set
aside never makes an image good: its label is unknown unless it is stated defective, and where the defects are, too.
"""

import warnings
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from blemish.dataset.annotations import note_adapted, warn_skipped
from blemish.dataset.formats.base import Convention
from blemish.dataset.ground_truth import VOID, read_label_map
from blemish.dataset.labels import (
    LabelEvidence,
    Unlabelled,
    derive_label,
    is_background_name,
    is_defect_name,
    is_doubtful_name,
    is_ignore_name,
    normalize_label,
)
from blemish.dataset.sample import DEFECT, GOOD, IGNORE, AnnotationWarning, Dataset, Sample
from blemish.errors import ImageError, MaskError
from blemish.geometry import Box, Polygon, Shape
from blemish.imaging.read import has_clear_frame, image_header, read_mask

_BACKGROUND = "background"
LARGE_MASK = 0.5  # share of an image; few defects are larger
MIN_LARGE_MASKS = 3  # that give away that masks are inverted
EMPTY_OF_DEFECTIVE = "annotations are empty although the image is defective: the place of its defect is not known"


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of an image's annotation; None where it has none."""

    defects: frozenset[str] | None = None  # classes that it marks
    good: bool = False  # whether it marks something of a class that means good
    other: bool = False  # whether it marks background or ignored areas
    error: str = ""
    by_mask: bool = False
    size_fits: bool = True  # whether an empty mask has the size of its image
    marked: float = 0.0  # share of the pixels of a mask of two values


def resolve_labels(
    samples: Sequence[Sample],
    convention: Convention,
    skipped: Iterable[AnnotationWarning] = (),
    unlabelled: Unlabelled = "unknown",
) -> list[Sample]:
    """The samples with their labels and what these rest on; sets contradictions and unreadable masks aside.

    `skipped` are the annotations that the reader has set aside.
    """
    skipped = list(skipped)
    incomplete = {warning.image for warning in skipped if warning.image is not None}
    doubtful = {warning.folder for warning in skipped if warning.folder is not None}
    samples = [_rename_classes(_drop_void_label(s, incomplete)) for s in _join_repeated(samples, incomplete)]
    samples = _drop_remarks(samples, incomplete)
    with ThreadPoolExecutor(max_workers=min(8, (cv2.getNumberOfCPUs() or 1) + 1)) as pool:
        contents = list(pool.map(_read_content, samples))
    _warn_of_large_masks(samples, contents)
    resolved = []
    for sample, content in zip(samples, contents, strict=True):
        if content.error and sample.image not in incomplete:
            warn_skipped(content.error, sample.image)
        set_aside = sample.image in incomplete or bool(content.error)
        orphans = any(folder in sample.image.parents for folder in doubtful)
        by_convention = convention.absent_is_good and not orphans
        sample = _drop_good_items(sample)
        if sample.label is not None or sample.labels:
            resolved.append(_resolve_stated(sample, content, set_aside))
        else:
            resolved.append(_resolve_annotated(sample, content, set_aside, by_convention, convention, unlabelled))
    return resolved


def _warn_of_large_masks(samples: Sequence[Sample], contents: Sequence[_Content]) -> None:
    """Masks that mark the sound part are sound files; that all of them mark most of their image gives them away."""
    shares = [(c.marked, s.mask) for s, c in zip(samples, contents, strict=True) if c.marked > 0]
    if len(shares) >= MIN_LARGE_MASKS and min(shares, key=lambda own: own[0])[0] > LARGE_MASK:
        warnings.warn(
            f"all {len(shares)} masks mark more than half of their image, such as {shares[0][1]}: invert them if what "
            "they mark is the sound part",
            stacklevel=3,
        )


def _join_repeated(samples: Sequence[Sample], incomplete: set[Path]) -> list[Sample]:
    """One sample an image, or one for each of its splits; what is said of it several times and differs is set aside."""
    by_image: dict[Path, dict[str | None, Sample]] = {}
    differing = set[Path]()
    for sample in samples:
        own = by_image.setdefault(sample.image, {})
        first = own.setdefault(sample.split, sample)
        if any(replace(other, split=first.split) != first for other in (sample, *own.values())):
            differing.add(sample.image)
    for image in sorted(differing):
        warn_skipped(f"{image} is listed several times, with different annotations", image)
        incomplete.add(image)
        by_image[image] = {split: Sample(image, split=split) for split in by_image[image]}
    shared = [image for image, own in by_image.items() if len(own) > 1]
    if shared:
        names = ", ".join(sorted({str(split or "no split") for image in shared for split in by_image[image]}))
        warnings.warn(f"{len(shared)} images are in several splits ({names}), such as {shared[0]}", stacklevel=3)
    return [sample for own in by_image.values() for sample in own.values()]


def explain_no_good(dataset: Dataset) -> str | None:
    """The consequence of a dataset without a good image, in one line; None where one is good, or no label is known."""
    defective = [s for s in dataset.samples if s.defective]
    if not defective or any(s.defective is False for s in dataset.samples):
        return None
    doubtful = [name for name in dataset.defect_classes if is_doubtful_name(name)]
    question = f", such as {' or '.join(map(repr, doubtful[:5]))}" if doubtful else ""
    return (
        "no image is good: thresholds then follow from the defects alone, so that sound parts may all be rejected; add "
        f"images of good parts, or name the class that means good with --good NAME{question}"
    )


def doubtful_classes(samples: Iterable[Sample]) -> list[str]:
    """Stated classes that are taken for defects although a word in their name means good, such as `ok_spots`."""
    names = {s.label for s in samples if s.label is not None}
    return sorted(name for name in names if not name.replace(" ", "").isdigit() and is_doubtful_name(name))


def _plain_class(name: str) -> str:
    """GOOD, IGNORE or background by any of their names; else the name of a defect class."""
    if is_background_name(name):
        return _BACKGROUND
    return IGNORE if is_ignore_name(name) else normalize_label(name)


def _drop_void_label(sample: Sample, incomplete: set[Path]) -> Sample:
    """The sample without a stated label such as `void` or `background`, which says neither good nor defective."""
    if sample.label is None or _plain_class(sample.label) not in (_BACKGROUND, IGNORE):
        return sample
    warn_skipped(f"{sample.image}: {sample.label!r} says neither good nor defective", sample.image)
    incomplete.add(sample.image)
    return replace(sample, label=None, evidence=None)


def _drop_remarks(samples: Sequence[Sample], incomplete: set[Path]) -> list[Sample]:
    """The samples without tags that are no classes: such as `reviewed`, where images have it beside regions, and no
    region of the set is of it.

    What an image with such a tag alone is, is not known.
    """
    classes = [{i.label for i in (*(s.boxes or ()), *(s.shapes or ()))} - {GOOD, IGNORE, _BACKGROUND} for s in samples]
    tags = [_tags(sample) for sample in samples]
    regions = set().union(*classes)
    remarks = {n for own, names in zip(classes, tags, strict=True) if own for n in names} - regions
    kept = []
    for sample, own, names in zip(samples, classes, tags, strict=True):
        left = tuple(name for name in names if name not in remarks)
        if len(left) < len(names):
            named = ", ".join(repr(name) for name in names if name in remarks)
            if own or left:
                note_adapted(f"the tag {named} is taken for a remark, since no region is of it,", sample.image)
            else:
                warn_skipped(
                    f"{sample.image}: its tag {named} may be a remark: no region of others is of it", sample.image
                )
                incomplete.add(sample.image)
            sample = replace(
                sample,
                label=left[0] if len(left) == 1 else None,
                labels=left if len(left) > 1 else None,
                evidence=sample.evidence if left else None,
            )
        kept.append(sample)
    return kept


def _tags(sample: Sample) -> tuple[str, ...]:
    """Names that an annotation states of the whole image, but for those that mean good, or defective and no more."""
    if sample.evidence is not LabelEvidence.ANNOTATION:
        return ()
    names = sample.labels or (() if sample.label is None else (sample.label,))
    return () if any(name == GOOD or is_defect_name(name) for name in names) else names


def _rename_classes(sample: Sample) -> Sample:
    """One name each for the classes that are no defects, in labels, boxes, shapes and masks."""
    boxes, shapes = (
        None if items is None else tuple(replace(item, label=_plain_class(item.label)) for item in items)
        for items in (sample.boxes, sample.shapes)
    )
    classes = sample.mask_classes
    if classes is not None:
        classes = tuple(GOOD if (plain := _plain_class(name)) == _BACKGROUND else plain for name in classes)
    label = None if sample.label is None else normalize_label(sample.label)
    evidence = sample.evidence or (LabelEvidence.COLUMN if label or sample.labels else None)
    return replace(sample, label=label, boxes=boxes, shapes=shapes, mask_classes=classes, evidence=evidence)  # type: ignore[arg-type]


def _read_content(sample: Sample) -> _Content:
    items = (*(sample.boxes or ()), *(sample.shapes or ()))
    known = sample.boxes is not None or sample.shapes is not None
    names = {item.label for item in items}
    error = "" if "" not in names else f"{sample.image}: a box or outline has no class"
    marks: set[str] = names - {GOOD, IGNORE, _BACKGROUND}
    size_fits, marked = True, 0.0
    if sample.mask is not None:
        known = True
        try:
            if sample.mask_classes is None:
                mask = read_mask(sample.mask)
                marked = float(mask.mean())
                if marked:
                    marks.add(DEFECT)
                size: tuple[int, ...] = mask.shape
            else:
                pixels = read_label_map(sample.mask)
                size, values = pixels.shape, [int(v) for v in np.unique(pixels) if v]
                named = {sample.mask_classes[v - 1] for v in values if 0 < v <= len(sample.mask_classes)}
                unnamed = [v for v in values if not 0 < v <= len(sample.mask_classes)]
                if unnamed == [VOID] and named:
                    unnamed = []
                if unnamed:
                    shown = ", ".join(map(str, unnamed[:5]))
                    error = f"{sample.mask}: pixel values without a name: {shown}"
                marks |= named - {GOOD, IGNORE}
                names |= named
            if marks and not has_clear_frame(sample.mask, sample.image):
                error = f"{sample.mask}: EXIF turns {sample.image} and not the mask: which way up it is cannot be told"
            size_fits = bool(marks) or sample.label == GOOD or _fits(size, sample.image)
        except MaskError:  # the masks of the whole set are not what they are taken for
            raise
        except ImageError as problem:
            error = str(problem)
    return _Content(
        frozenset(marks) if known else None,
        GOOD in names,
        bool(names & {IGNORE, _BACKGROUND}),
        error,
        sample.mask is not None,
        size_fits,
        marked,
    )


def _fits(size: tuple[int, ...], image: Path) -> bool:
    try:
        return image_header(image).size in (size, size[::-1])
    except ImageError:
        return True  # an image that cannot be read is named elsewhere


def _drop_good_items(sample: Sample) -> Sample:
    """The sample with the boxes and shapes of its defects alone; areas to be ignored are kept apart."""
    items = (*(sample.boxes or ()), *(sample.shapes or ()))
    ignored = [_as_shape(item) for item in items if item.label == IGNORE]
    no_defects = (GOOD, IGNORE, _BACKGROUND)
    boxes = None if sample.boxes is None else tuple(b for b in sample.boxes if b.label not in no_defects)
    shapes = None if sample.shapes is None else tuple(s for s in sample.shapes if s.label not in no_defects)
    if boxes is None and shapes == ():
        boxes, shapes = (), None
    return replace(sample, boxes=boxes, shapes=shapes, ignore_shapes=(*(sample.ignore_shapes or ()), *ignored) or None)


def _as_shape(item: Box | Shape) -> Shape:
    if not isinstance(item, Box):
        return item
    x0, y0, x1, y1 = item.bounds
    return Polygon((((x0, y0), (x1, y0), (x1, y1), (x0, y1)),), item.label)


def _resolve_stated(sample: Sample, content: _Content, set_aside: bool) -> Sample:
    """Where a folder, file name or column states what the image is."""
    if sample.label == GOOD:
        if content.defects and not set_aside:
            where = f"has pixels in {sample.mask}" if content.by_mask else "has boxes or outlines"
            warn_skipped(f"{sample.image}: it is good by its {sample.evidence}, but a defect {where}", sample.image)
        return _unknown(sample) if content.defects or set_aside else sample
    if content.defects == frozenset() and content.by_mask and not content.size_fits:
        return sample  # refused where it is used
    if content.defects == frozenset() and not set_aside:
        note_adapted(EMPTY_OF_DEFECTIVE, sample.image)
    if set_aside or content.defects == frozenset():
        return replace(sample, mask=None, mask_classes=None, boxes=None, shapes=None)
    if sample.label is not None and sample.shapes:  # joined masks have no class of their own
        named = (replace(shape, label=sample.label) if shape.label == DEFECT else shape for shape in sample.shapes)
        sample = replace(sample, shapes=tuple(named))
    return sample


def _resolve_annotated(
    sample: Sample,
    content: _Content,
    set_aside: bool,
    by_convention: bool,
    convention: Convention,
    unlabelled: Unlabelled,
) -> Sample:
    """Where the annotation alone, or the lack of one, says what the image is."""
    if content.by_mask and not content.size_fits and not set_aside:
        warn_skipped(f"{sample.mask}: the mask is empty and not of the size of {sample.image}", sample.image)
        set_aside = True
    if set_aside:
        return _unknown(sample)
    evidence = LabelEvidence.NONE
    if content.defects:
        mark = LabelEvidence.MASK if content.by_mask else LabelEvidence.ANNOTATION
        return replace(sample, label=derive_label(content.defects), evidence=mark)
    if content.good:
        evidence = LabelEvidence.CLASS
    elif content.other:
        warn_skipped(f"{sample.image}: nothing but background or ignored areas are annotated", sample.image)
        return _unknown(sample)
    elif content.defects is not None:
        if convention.empty_is_good:
            evidence = LabelEvidence.EMPTY_MASK if content.by_mask else LabelEvidence.EMPTY_ANNOTATION
    elif by_convention:
        evidence = LabelEvidence.CONVENTION
        sample = replace(sample, boxes=None if convention.annotation == "mask" else ())
    elif unlabelled == GOOD:
        evidence = LabelEvidence.OPTION
    if evidence is LabelEvidence.NONE:
        return _unknown(sample)
    return replace(sample, label=GOOD, evidence=evidence)


def _unknown(sample: Sample) -> Sample:
    return replace(
        sample,
        label=None,
        labels=None,
        mask=None,
        mask_classes=None,
        boxes=None,
        shapes=None,
        evidence=LabelEvidence.NONE,
    )


def count_evidence(samples: Collection[Sample]) -> dict[str, dict[str, int]]:
    """How many images are good, defective and unknown by what: {"good": {"folder name": 340, …}, …}."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        kind = {False: GOOD, True: "defective", None: "unknown"}[sample.defective]
        row = counts.setdefault(kind, {})
        evidence = str(sample.evidence or LabelEvidence.NONE)
        row[evidence] = row.get(evidence, 0) + 1
    return counts
