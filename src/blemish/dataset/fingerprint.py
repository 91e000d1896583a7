"""Dataset properties that determine which methods suit it.

How many images have which annotations, how large defects are, whether all images are aligned, whether they are of an
object or of a texture, and images that occur twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from blemish.arrays import FloatMap, Vectors
from blemish.dataset.duplicates import fine_structure, oriented_hashes, oriented_pairs, small_grey
from blemish.dataset.ground_truth import find_defect_classes, has_boxes, has_mask
from blemish.dataset.info import DatasetInfo, Progress, describe, map_in_threads
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample, infer_setting
from blemish.dataset.split import check_groups, ensure_splits
from blemish.errors import DataError, ImageError
from blemish.imaging.read import read_image

MAX_IMAGES = 200  # that are decoded; a fingerprint need not be exact
SIDE = 48
FINE, COARSE = 0.8, 4.0  # px at SIDE; what lies between is structure, neither noise nor light
LONG = 2  # aspect ratio from which images are long: squeezed into a square they lose too much
ALIGNED = 0.5  # mean correlation of two images from which on they are of one alignment
PLAIN = 1 / 3  # structure of the border as a share of the middle's, below which the border is background


@dataclass(frozen=True)
class Fingerprint:
    """Counts are of images; sides and areas are in px of the image."""

    images: int
    setting: str  # unknown, few, known
    annotations: tuple[str, ...]
    training_annotations: tuple[str, ...]
    defect_classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]  # class -> split -> images
    good_training: int
    good_validation: int
    defective_training: int
    masked_training: int  # of these, with their pixels known
    boxed_training: int  # with at least their boxes known
    several_training: int  # with defects of more than one class
    defects_training: dict[str, int]  # class -> training images with it
    labelled_training: dict[str, int]  # class, the good one among them -> training images of it alone
    defects_test: int
    defects: int
    splits_given: tuple[str, ...]  # those that the data bring; the others are made as training makes them
    height: int  # of the middle image
    width: int
    sizes: int  # different ones
    channels: int
    bits: int
    brightest: float  # pixel of the decoded images, share of full scale
    # Square root of a defect's area: the median, and what three in four exceed; means over classes, by their defects.
    defect_side: float | None
    small_defect_side: float | None
    defect_share: float | None  # of the image's area, the median
    sizes_from_test: bool  # only test images have defects to measure, also by the split of the method that is advised
    alignment: float  # mean correlation of the structure of two images: 1 aligned, 0 unrelated
    kind: Literal["object", "texture"]
    near_duplicates: int  # pairs among the decoded images
    duplicates_across_splits: int
    decoded_images: int
    groups: int
    unreadable: int

    @property
    def aligned(self) -> bool:
        return self.alignment >= ALIGNED

    @property
    def rarest(self) -> int:
        """Training images of the rarest class that has any; 0 without defects."""
        return min(self.defects_training.values(), default=0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fingerprint(dataset: Dataset, progress: Progress = lambda done: None, seed: int = 0) -> Fingerprint:
    """Read every header and mask, and decode at most MAX_IMAGES images, evenly spread.

    Splits that the data do not bring are made first, by the seed, as for a method that is trained on defects.
    Raises DataError where there is no readable image, or a group is in several splits.
    """
    check_groups(dataset.samples)
    given = {s.split for s in dataset.samples if s.split is not None and s.sources is None}
    dataset = ensure_splits(dataset, seed, need_defects_in_training=True)
    own = dataset.where(lambda s: s.split != "test")
    sizes_from_test = not any(s.defective for s in own.samples)
    info = describe(dataset, progress)
    if not info.sizes:
        raise DataError("no image of the data can be read" + (f": {info.unreadable[0]}" if info.unreadable else ""))
    training = dataset.split("train")
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(MAX_IMAGES, len(dataset))).astype(int))
    decoded = list(filter(None, map_in_threads(_decode, [dataset.samples[i] for i in chosen], lambda done: None)))
    trained = [image for image in decoded if image.sample.split == "train"] or decoded
    good = [image.grey for image in trained if image.sample.defective is not True]
    reference = (
        np.stack(good or [image.grey for image in trained]) if trained else np.empty((0, SIDE, SIDE), np.float32)
    )
    pairs = _duplicate_pairs(decoded)
    class_counts = Counter(name for s in training.samples for name in _defect_classes(s))
    height, width = _median_size(info)
    defect_side, small_defect_side, defect_share = _defect_sides(info if sizes_from_test else describe(own))
    return Fingerprint(
        images=len(dataset),
        setting=infer_setting(class_counts.values()),
        annotations=tuple(sorted(dataset.annotations)),
        training_annotations=tuple(sorted(training.annotations)),
        defect_classes=dataset.defect_classes,
        counts=info.counts,
        good_training=sum(s.defective is False for s in training.samples),
        good_validation=sum(s.defective is False for s in dataset.split("val").samples),
        defective_training=sum(s.defective is True for s in training.samples),
        masked_training=sum(s.defective is True and has_mask(s) for s in training.samples),
        boxed_training=sum(s.defective is True and has_boxes(s) for s in training.samples),
        several_training=sum(len(_defect_classes(s)) > 1 for s in training.samples),
        defects_training=dict(sorted(class_counts.items())),
        labelled_training=dict(sorted(Counter(filter(None, map(_only_class, training.samples))).items())),
        defects_test=sum(s.defective is True for s in dataset.split("test").samples),
        defects=sum(s.defective is True for s in dataset.samples),
        splits_given=tuple(sorted(given)),
        height=height,
        width=width,
        sizes=len(info.sizes),
        channels=3 if any(depth.channels == 3 for depth in info.depths) else info.depths[0].channels,
        bits=info.depths[0].bits,
        brightest=max((image.brightest for image in decoded), default=1.0),
        defect_side=defect_side,
        small_defect_side=small_defect_side,
        defect_share=defect_share,
        sizes_from_test=sizes_from_test,
        alignment=alignment(reference) if len(reference) > 1 else 0.0,
        kind=image_kind(reference) if len(reference) else "texture",
        near_duplicates=len(pairs),
        duplicates_across_splits=sum(a.split != b.split for a, b in pairs),
        decoded_images=len(decoded),
        groups=info.groups,
        unreadable=len(info.unreadable),
    )


def alignment(images: FloatMap) -> float:
    """Mean correlation of all pairs of N > 1 grey images (N, S, S), of their structure without light and noise."""
    structures = structure(images).reshape(len(images), -1)
    structures = structures - structures.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(structures, axis=1, keepdims=True)
    units = np.where(lengths > 1e-3, structures / np.maximum(lengths, 1e-3), 0)
    n = len(units)
    # The squared length of the sum holds every pair twice and each image with itself once.
    return float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (n * (n - 1)))


def image_kind(images: FloatMap) -> Literal["object", "texture"]:
    """An object where all images (N, S, S) are aligned, or where the border is plain background."""
    if len(images) > 1 and alignment(images) >= ALIGNED:
        return "object"
    strength = np.abs(structure(images))
    edge = images.shape[1] // 8
    middle = strength[:, 2 * edge : -2 * edge, 2 * edge : -2 * edge].mean(axis=(1, 2))
    border = (strength.sum(axis=(1, 2)) - strength[:, edge:-edge, edge:-edge].sum(axis=(1, 2))) / (
        images.shape[1] ** 2 - (images.shape[1] - 2 * edge) ** 2
    )
    return "object" if np.median(border / np.maximum(middle, 1e-3)) < PLAIN else "texture"


def structure(images: FloatMap) -> FloatMap:
    """Grey images (N, S, S) without noise and light: what lies between two scales."""
    return np.stack([cv2.GaussianBlur(i, (0, 0), FINE) - cv2.GaussianBlur(i, (0, 0), COARSE) for i in images])


class _DecodedImage(NamedTuple):
    sample: Sample
    grey: FloatMap  # (SIDE, SIDE)
    hashes: Vectors  # of each orientation
    fine: Vectors
    brightest: float  # pixel, share of full scale


def _decode(sample: Sample) -> _DecodedImage | None:
    try:
        image = read_image(sample.image)
    except ImageError:
        return None  # counted by `describe`
    brightest = float(image.max()) / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    return _DecodedImage(sample, small_grey(image, SIDE), oriented_hashes(image), fine_structure(image), brightest)


def _duplicate_pairs(images: Sequence[_DecodedImage]) -> list[tuple[Sample, Sample]]:
    if len(images) < 2:
        return []
    hashes, structures = np.stack([image.hashes for image in images]), np.stack([image.fine for image in images])
    pairs = oriented_pairs(hashes, structures)
    return [(images[i].sample, images[j].sample) for i, j, _ in pairs]


def _defect_classes(sample: Sample) -> set[str]:
    """The defect classes in an image, as far as known."""
    if not sample.defective:
        return set()
    try:
        return set(find_defect_classes(sample) or {DEFECT})
    except ImageError:  # counted by `describe`
        return {DEFECT}


def _only_class(sample: Sample) -> str | None:
    return GOOD if sample.defective is False else sample.label


def _median_size(info: DatasetInfo) -> tuple[int, int]:
    """Height and width of the image of median area."""
    areas = np.repeat([s.height * s.width for s in info.sizes], [s.images for s in info.sizes])
    median = np.sort(areas)[len(areas) // 2]
    return next((s.height, s.width) for s in info.sizes if s.height * s.width == median)


def _defect_sides(info: DatasetInfo) -> tuple[float | None, float | None, float | None]:
    """Sides of the median defect and of the first quartile, and the median share of the image; None without sizes."""
    if not info.defects:
        return None, None, None
    counts = np.array([d.pixels.count for d in info.defects], np.float64)
    weights = counts / counts.sum()
    median = float(np.sqrt([d.pixels.median for d in info.defects]) @ weights)
    small = float(np.sqrt([d.pixels.q1 for d in info.defects]) @ weights)
    share = float(np.array([d.share.median for d in info.defects]) @ weights)
    return median, small, share
