"""What is wrong with a dataset: files, masks, and images that occur twice where they must not."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.duplicates import fine_structure, near_pairs, perceptual_hash, signatures
from blemish.dataset.ground_truth import cut, read_class_mask
from blemish.dataset.info import Progress, in_threads
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import ImageError
from blemish.geometry import Box, Rle, shape_bounds
from blemish.imaging.read import read_image, read_mask

SMALL_SIDE = 8  # px; an image with a shorter side can hardly be meant
MAX_NEAR_PAIRS = 100_000  # more are not listed: the set is then one part under a fixed camera, or one image many times


@dataclass(frozen=True)
class Twins:
    """Images that are the same or nearly so."""

    images: list[str]
    across_splits: bool
    across_labels: bool
    correlation: float = 1.0  # of the fine structure; 1 for identical files


@dataclass
class Audit:
    """Findings; paths are relative to the dataset's root. The first seven lists are serious."""

    images: int
    unreadable: list[str] = field(default_factory=list)
    mask_size_mismatch: list[str] = field(default_factory=list)
    duplicates_across_splits: list[Twins] = field(default_factory=list)  # identical files
    duplicates_across_labels: list[Twins] = field(default_factory=list)
    groups_across_splits: list[str] = field(default_factory=list)
    broken_annotations: list[str] = field(default_factory=list)  # what the reader left out, missing images included
    boxes_empty: list[str] = field(default_factory=list)  # of no area, or wholly outside: they are dropped
    empty_masks: list[str] = field(default_factory=list)  # of defective images
    masks_on_good: list[str] = field(default_factory=list)  # defect pixels on images labelled good
    boxes_outside: list[str] = field(default_factory=list)  # boxes and outlines that are cut to the image
    boxes_of_other_class: list[str] = field(default_factory=list)  # than their image's label
    tiny: list[str] = field(default_factory=list)
    unlabelled: int = 0
    duplicates: list[Twins] = field(default_factory=list)  # identical files of one split and label
    near_duplicates: list[Twins] = field(default_factory=list)

    @property
    def serious(self) -> bool:
        return bool(
            self.unreadable
            or self.mask_size_mismatch
            or self.duplicates_across_splits
            or self.duplicates_across_labels
            or self.groups_across_splits
            or self.broken_annotations
            or self.boxes_empty
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "serious": self.serious}


@dataclass(frozen=True)
class _Look:
    """What one look at an image's file gives."""

    error: str = ""
    mask_error: str = ""
    outside: int = 0  # boxes and outlines
    no_area: int = 0
    empty: bool | None = None  # of the mask, where there is one
    size: tuple[int, int] = (0, 0)
    sha256: str = ""
    hash: NDArray[np.float32] | None = None
    structure: NDArray[np.float32] | None = None


def audit_dataset(dataset: Dataset, progress: Progress = lambda done: None) -> Audit:
    """Decode every image and mask once; 10,000 images need some 100 MB beyond the images in work."""
    looks = list(in_threads(_look_at, dataset.samples, progress))
    names = [_name(s.image, dataset.root) for s in dataset.samples]
    found = Audit(images=len(dataset), broken_annotations=list(dataset.broken))
    splits_of_group: defaultdict[str, set[str]] = defaultdict(set)
    for sample, look, name in zip(dataset.samples, looks, names, strict=True):
        if look.error:
            found.unreadable.append(look.error)
        if look.mask_error:
            found.mask_size_mismatch.append(look.mask_error)
        if look.outside:
            found.boxes_outside.append(f"{name}: {look.outside}")
        if look.no_area:
            found.boxes_empty.append(f"{name}: {look.no_area}")
        others = {box.label for box in sample.boxes or () if sample.label not in (None, box.label)}
        if others:
            found.boxes_of_other_class.append(f"{name}: {', '.join(sorted(others))}")
        if look.empty and sample.defective:
            found.empty_masks.append(name)
        if look.empty is False and sample.defective is False:
            found.masks_on_good.append(name)
        if not look.error and min(look.size) < SMALL_SIDE:
            found.tiny.append(name)
        if sample.group is not None and sample.split is not None:
            splits_of_group[sample.group].add(sample.split)
    found.unlabelled = sum(s.defective is None for s in dataset.samples)
    found.groups_across_splits = sorted(group for group, splits in splits_of_group.items() if len(splits) > 1)
    _find_twins(found, dataset.samples, looks, names)
    return found


def _look_at(sample: Sample) -> _Look:
    try:
        image = read_image(sample.image)
    except ImageError as error:
        return _Look(error=str(error))
    size = (image.shape[0], image.shape[1])
    mask_error, empty = "", None
    outside = no_area = 0
    if sample.mask is not None:
        try:
            mask = read_mask(sample.mask) if sample.mask_classes is None else read_class_mask(sample.mask) > 0
            empty = not mask.any()
            if mask.shape != size:
                mask_error = f"{sample.mask}: {mask.shape[1]}×{mask.shape[0]}, its image {size[1]}×{size[0]}"
        except ImageError as error:
            return _Look(error=str(error), size=size)
    for item in (*(sample.boxes or ()), *(sample.shapes or ())):
        if isinstance(item, Rle) and (item.height, item.width) != size:
            mask_error = f"{sample.image}: run lengths of {item.width}×{item.height}, its image {size[1]}×{size[0]}"
            continue
        bounds = item.bounds if isinstance(item, Box) else shape_bounds(item)
        whole = None if bounds is None else Box(*bounds, item.label)
        inside = None if whole is None else cut(whole, size)
        no_area += inside is None
        outside += inside is not None and inside != whole
    digest = hashlib.sha256(sample.image.read_bytes()).hexdigest()
    return _Look("", mask_error, outside, no_area, empty, size, digest, perceptual_hash(image), fine_structure(image))


def _find_twins(found: Audit, samples: Sequence[Sample], looks: Sequence[_Look], names: Sequence[str]) -> None:
    same: defaultdict[str, list[int]] = defaultdict(list)
    for i, look in enumerate(looks):
        if look.sha256:
            same[look.sha256].append(i)
    for members in same.values():
        if len(members) > 1:
            twins = _twins(members, samples, names)
            if twins.across_splits:
                found.duplicates_across_splits.append(twins)
            if twins.across_labels:
                found.duplicates_across_labels.append(twins)
            if not twins.across_splits and not twins.across_labels:
                found.duplicates.append(twins)
    first = [members[0] for members in same.values()]
    if len(first) < 2:
        return
    hashes = _stack(looks[i].hash for i in first)
    fine = signatures(_stack(looks[i].structure for i in first))
    for a, b, correlation in islice(near_pairs(hashes, fine), MAX_NEAR_PAIRS):
        found.near_duplicates.append(_twins([first[a], first[b]], samples, names, correlation))
    found.near_duplicates.sort(key=lambda t: (not t.across_splits, not t.across_labels, -t.correlation))


def _twins(members: list[int], samples: Sequence[Sample], names: Sequence[str], correlation: float = 1.0) -> Twins:
    def differ(what: Callable[[Sample], str | None]) -> bool:
        return len({value for i in members if (value := what(samples[i])) is not None}) > 1

    return Twins(
        [names[i] for i in members], differ(lambda s: s.split), differ(lambda s: s.label), round(correlation, 4)
    )


def _stack(rows: Iterable[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    return np.stack([row for row in rows if row is not None])


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
