"""Errors of a dataset: files, masks, and images that occur twice where they must not."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import Vectors
from blemish.dataset.contents import content_hash
from blemish.dataset.duplicates import fine_structure, oriented_hashes, oriented_pairs
from blemish.dataset.ground_truth import clip_box, read_label_map
from blemish.dataset.info import Progress, map_in_threads
from blemish.dataset.resolve import EMPTY_OF_DEFECTIVE, LARGE_MASK
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import ImageError
from blemish.geometry import Box, Rle, shape_bounds
from blemish.imaging.pixel_range import PixelValues, describe_range, join_values, measure_values
from blemish.imaging.read import read_image, read_mask, turn_like_image

MIN_SIDE = 8  # px; an image with a shorter side can hardly be meant
MAX_NEAR_PAIRS = 100_000  # more are not listed: the set is then one part under a fixed camera, or one image many times


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same or nearly so."""

    images: list[str]
    across_splits: bool
    across_labels: bool
    correlation: float = 1.0  # of the fine structure; 1 for identical files


FINDINGS = (  # fields of an audit that list findings, with their titles
    ("unreadable", "Unreadable files"),
    ("mask_size_mismatch", "Masks of another size than their image"),
    ("duplicates_across_splits", "Duplicates across splits"),
    ("duplicates_across_labels", "Duplicates with different labels"),
    ("groups_across_splits", "Groups in more than one split"),
    ("broken_annotations", "Invalid annotations"),
    ("large_masks", "Masks that mark more than half of their image"),
    ("empty_masks", "Defective images with an empty mask"),
    ("masks_on_good", "Good images with defect pixels in the mask"),
    ("boxes_outside", "Boxes outside the image"),
    ("boxes_empty", "Boxes without an area"),
    ("boxes_of_other_class", "Boxes of another class than their image"),
    ("adapted", "Annotations scaled or turned with their image"),
    ("constant", "Images of one value"),
    ("pixel_values", "Deep images that do not use full scale"),
    ("tiny", "Very small images"),
    ("duplicates", "Duplicate images"),
    ("near_duplicates", "Near-duplicate images"),
)


@dataclass
class Audit:
    """Findings; paths are relative to the dataset's root."""

    images: int
    unreadable: list[str] = field(default_factory=list)
    mask_size_mismatch: list[str] = field(default_factory=list)
    duplicates_across_splits: list[DuplicateGroup] = field(default_factory=list)  # identical files
    duplicates_across_labels: list[DuplicateGroup] = field(default_factory=list)
    groups_across_splits: list[str] = field(default_factory=list)
    broken_annotations: list[str] = field(default_factory=list)  # what the reader left out, missing images included
    boxes_empty: list[str] = field(default_factory=list)  # of no area, or wholly outside: they are dropped
    empty_masks: list[str] = field(default_factory=list)  # of defective images
    large_masks: list[str] = field(default_factory=list)  # that mark more than half of their image: inverted, perhaps
    masks_on_good: list[str] = field(default_factory=list)  # defect pixels on images labelled good
    boxes_outside: list[str] = field(default_factory=list)  # boxes and outlines that are clipped to the image
    boxes_of_other_class: list[str] = field(default_factory=list)  # than their image's label
    adapted: list[str] = field(default_factory=list)  # annotations that were scaled or turned with their image
    tiny: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)  # images of one value
    unlabelled: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)  # why files were not read -> files
    pixel_values: list[str] = field(default_factory=list)  # of images deeper than 8 bits that do not use full scale
    duplicates: list[DuplicateGroup] = field(default_factory=list)  # identical files of one split and label
    near_duplicates: list[DuplicateGroup] = field(default_factory=list)

    @property
    def serious(self) -> bool:
        return any(getattr(self, name) for name in SERIOUS_FINDINGS)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "serious": self.serious}


SERIOUS_FINDINGS = (
    "unreadable", "mask_size_mismatch", "duplicates_across_splits", "duplicates_across_labels", "groups_across_splits",
    "broken_annotations", "boxes_empty",
)  # fmt: skip


@dataclass(frozen=True)
class _ImageFindings:
    """The result of decoding an image and its mask."""

    error: str = ""
    mask_error: str = ""
    outside: int = 0  # boxes and outlines
    no_area: int = 0
    empty: bool | None = None  # of the mask, where there is one
    large: bool = False  # the mask
    constant: bool = False  # the image
    size: tuple[int, int] = (0, 0)
    sha256: str = ""
    hashes: Vectors | None = None
    structure: Vectors | None = None
    values: PixelValues | None = None  # of an image deeper than 8 bits


def audit_dataset(dataset: Dataset, progress: Progress = lambda done: None) -> Audit:
    """Decode every image and mask once; 10,000 images need some 100 MB beyond the images being decoded."""
    results = list(map_in_threads(_check_image, dataset.samples, progress))
    names = [_relative_name(s.image, dataset.root) for s in dataset.samples]
    audit = Audit(len(dataset), broken_annotations=list(dataset.broken), passed_over=dict(dataset.passed_over))
    for note in dataset.notes:
        name = _relative_name(note.image, dataset.root)
        if note.what == EMPTY_OF_DEFECTIVE:
            audit.empty_masks.append(name)
        else:
            audit.adapted.append(f"{name}: {note.what}")
    splits_of_group: defaultdict[str, set[str]] = defaultdict(set)
    for sample, result, name in zip(dataset.samples, results, names, strict=True):
        if result.error:
            audit.unreadable.append(result.error)
        if result.mask_error:
            audit.mask_size_mismatch.append(result.mask_error)
        if result.outside:
            audit.boxes_outside.append(f"{name}: {result.outside}")
        if result.no_area:
            audit.boxes_empty.append(f"{name}: {result.no_area}")
        others = {box.label for box in sample.boxes or () if sample.label not in (None, box.label)}
        if others:
            audit.boxes_of_other_class.append(f"{name}: {', '.join(sorted(others))}")
        if result.empty and sample.defective:
            audit.empty_masks.append(name)
        if result.empty is False and sample.defective is False:
            audit.masks_on_good.append(name)
        if result.large and sample.defective:
            audit.large_masks.append(name)
        if result.constant:
            audit.constant.append(name)
        if not result.error and min(result.size) < MIN_SIDE:
            audit.tiny.append(name)
        if sample.group is not None and sample.split is not None:
            splits_of_group[sample.group].add(sample.split)
    audit.unlabelled = sum(s.defective is None for s in dataset.samples)
    audit.groups_across_splits = sorted(group for group, splits in splits_of_group.items() if len(splits) > 1)
    deep = join_values(result.values for result in results if result.values is not None)
    audit.pixel_values = [line for values in deep.values() if (line := describe_range(values)) is not None]
    _find_duplicates(audit, dataset.samples, results, names)
    return audit


def _check_image(sample: Sample) -> _ImageFindings:
    size = (0, 0)
    mask_error, empty, large = "", None, False
    try:
        image = read_image(sample.image)
        if not np.isfinite(image).all():
            raise ImageError(f"{sample.image} has pixels that are not finite (NaN or infinity)")
        size = (image.shape[0], image.shape[1])
        if sample.mask is not None:
            mask = read_mask(sample.mask) if sample.mask_classes is None else read_label_map(sample.mask) > 0
            mask = turn_like_image(mask, size, sample.image, sample.mask)
            empty, large = not mask.any(), bool(mask.mean() > LARGE_MASK) and sample.mask_classes is None
            if mask.shape != size:
                mask_error = f"{sample.mask}: {mask.shape[1]}×{mask.shape[0]}, its image {size[1]}×{size[0]}"
    except ImageError as error:
        return _ImageFindings(error=str(error), size=size)
    outside = no_area = 0
    for item in (*(sample.boxes or ()), *(sample.shapes or ())):
        if isinstance(item, Rle) and (item.height, item.width) != size:
            mask_error = f"{sample.image}: run lengths of {item.width}×{item.height}, its image {size[1]}×{size[0]}"
            continue
        bounds = item.bounds if isinstance(item, Box) else shape_bounds(item)
        whole = None if bounds is None else Box(*bounds, item.label)
        clipped = None if whole is None else clip_box(whole, size)
        no_area += clipped is None
        outside += clipped is not None and clipped != whole
    return _ImageFindings(
        mask_error=mask_error,
        outside=outside,
        no_area=no_area,
        empty=empty,
        large=large,
        constant=bool((image == image[:1, :1]).all()),
        size=size,
        sha256=content_hash(sample.image) or "",
        hashes=oriented_hashes(image),
        structure=fine_structure(image),
        values=None if image.dtype == np.uint8 else measure_values(image),
    )


def _find_duplicates(
    audit: Audit, samples: Sequence[Sample], results: Sequence[_ImageFindings], names: Sequence[str]
) -> None:
    def make_group(members: list[int], correlation: float = 1.0) -> DuplicateGroup:
        def differ(value_of: Callable[[Sample], str | None]) -> bool:
            return len({value_of(samples[i]) for i in members} - {None}) > 1

        across = (differ(lambda s: s.split), differ(lambda s: s.label))
        return DuplicateGroup([names[i] for i in members], *across, round(correlation, 4))

    same: defaultdict[str, list[int]] = defaultdict(list)
    for i, result in enumerate(results):
        if result.sha256:
            same[result.sha256].append(i)
    for group in (make_group(members) for members in same.values() if len(members) > 1):
        if group.across_splits:
            audit.duplicates_across_splits.append(group)
        if group.across_labels:
            audit.duplicates_across_labels.append(group)
        if not group.across_splits and not group.across_labels:
            audit.duplicates.append(group)
    by_product: defaultdict[str | None, list[int]] = defaultdict(list)  # what images of a product share is no likeness
    for members in same.values():
        by_product[samples[members[0]].product].append(members[0])
    for first in by_product.values():
        hashes = _stack(results[i].hashes for i in first)
        structures = _stack(results[i].structure for i in first)
        for a, b, correlation in islice(oriented_pairs(hashes, structures), MAX_NEAR_PAIRS):
            audit.near_duplicates.append(make_group([first[a], first[b]], correlation))
    audit.near_duplicates.sort(key=lambda t: (not t.across_splits, not t.across_labels, -t.correlation))


def _stack(rows: Iterable[Vectors | None]) -> Vectors:
    return np.stack([row for row in rows if row is not None])


def _relative_name(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
