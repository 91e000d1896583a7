"""What of a dataset decides on the method.

How many images of what truth, how large defects are, whether things lie at the same place in all images, whether the
picture is of a part or of a texture, and images that occur twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.duplicates import fine_structure, near_pairs, perceptual_hash, signatures, small_grey
from blemish.dataset.ground_truth import classes_shown, has_boxes, has_mask
from blemish.dataset.info import DatasetInfo, Progress, describe, in_threads
from blemish.dataset.sample import DEFECT, GOOD, Dataset, Sample, setting_of
from blemish.dataset.split import ensure_splits
from blemish.errors import DataError, ImageError
from blemish.imaging.read import read_image

Floats = NDArray[np.float32]

LOOKED_AT = 200  # images decoded; a fingerprint need not be exact
SIDE = 48
FINE, COARSE = 0.8, 4.0  # px at SIDE; what lies between is structure, neither noise nor light
ALIGNED = 0.5  # mean correlation of two images from which on things have their place in the picture
PLAIN = 1 / 3  # structure of the border in parts of the middle's, below which the border is background


@dataclass(frozen=True)
class Fingerprint:
    """Counts are of images; sides and areas are in px of the image."""

    images: int
    setting: str  # unknown, few, known
    truth: tuple[str, ...]
    training_truth: tuple[str, ...]
    defect_classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]  # class -> split -> images
    good_training: int
    good_validation: int
    defective_training: int
    masked_training: int  # of these, with their pixels known
    boxed_training: int  # with at least their places known
    several_training: int  # that show more than one class
    defects_training: dict[str, int]  # class -> images to learn from that show it
    labelled_training: dict[str, int]  # class, the good one among them -> images to learn from that show it alone
    defects_test: int
    defects: int
    splits_given: tuple[str, ...]  # those that the data bring; the others are made as training makes them
    height: int  # of the middle image
    width: int
    sizes: int  # different ones
    channels: int
    bits: int
    brightest: float  # pixel of the images looked at, share of full scale
    # Square root of a defect's area: the median, and what three in four exceed; means over classes, by their defects.
    defect_side: float | None
    small_defect_side: float | None
    defect_share: float | None  # of the image's area, the median
    sizes_from_test: bool  # defects to measure are among the test images alone
    alignment: float  # mean correlation of the structure of two images: 1 the same place, 0 none
    kind: Literal["object", "texture"]
    near_duplicates: int  # pairs among the images looked at
    duplicates_across_splits: int
    looked_at: int
    groups: int
    unreadable: int

    @property
    def aligned(self) -> bool:
        return self.alignment >= ALIGNED

    @property
    def rarest(self) -> int:
        """Images to learn from of the rarest class that has any; 0 without defects."""
        return min(self.defects_training.values(), default=0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fingerprint(dataset: Dataset, progress: Progress = lambda done: None, seed: int = 0) -> Fingerprint:
    """Look at every header and mask, and decode at most LOOKED_AT images, evenly spread.

    Splits that the data do not bring are made first, by the seed, as for a method that learns from defects.
    Raises DataError where there is no readable image.
    """
    given = {s.split for s in dataset.samples if s.split is not None}
    dataset = ensure_splits(dataset, seed, need_defects_in_training=True)
    own = dataset.where(lambda s: s.split != "test")
    sizes_from_test = not any(s.defective for s in own.samples)
    info = describe(dataset, progress)
    if not info.sizes:
        raise DataError("no image of the data can be read" + (f": {info.unreadable[0]}" if info.unreadable else ""))
    training = dataset.split("train")
    chosen = _spread_out(dataset.samples, LOOKED_AT)
    looks = [look for look in in_threads(_look, chosen, lambda done: None) if look is not None]
    learnt_from = [look for look in looks if look[0].split == "train"] or looks
    sound = [look for look in learnt_from if look[0].defective is not True] or learnt_from
    reference = [look[1] for look in sound]
    pairs = _pairs(looks)
    shown = Counter(name for s in training.samples for name in _classes_of(s))
    height, width = _middle_size(info)
    sides = _defect_sides(info if sizes_from_test else describe(own))
    return Fingerprint(
        images=len(dataset),
        setting=setting_of(shown.values()),
        truth=tuple(sorted(dataset.truth)),
        training_truth=tuple(sorted(training.truth)),
        defect_classes=dataset.defect_classes,
        counts=info.counts,
        good_training=sum(s.defective is False for s in training.samples),
        good_validation=sum(s.defective is False for s in dataset.split("val").samples),
        defective_training=sum(s.defective is True for s in training.samples),
        masked_training=sum(s.defective is True and has_mask(s) for s in training.samples),
        boxed_training=sum(s.defective is True and has_boxes(s) for s in training.samples),
        several_training=sum(len(_classes_of(s)) > 1 for s in training.samples),
        defects_training=dict(sorted(shown.items())),
        labelled_training=dict(sorted(Counter(filter(None, map(_only_class, training.samples))).items())),
        defects_test=sum(s.defective is True for s in dataset.split("test").samples),
        defects=sum(s.defective is True for s in dataset.samples),
        splits_given=tuple(sorted(given)),
        height=height,
        width=width,
        sizes=len(info.sizes),
        channels=3 if any("RGB" in depth for depth in info.depths) else _number(next(iter(info.depths)), 1),
        bits=_number(next(iter(info.depths)), 0),
        brightest=max((look[4] for look in looks), default=1.0),
        defect_side=None if sides is None else sides[0],
        small_defect_side=None if sides is None else sides[1],
        defect_share=None if sides is None else sides[2],
        sizes_from_test=sizes_from_test,
        alignment=alignment(np.stack(reference)) if len(reference) > 1 else 0.0,
        kind=kind_of(np.stack(reference)) if reference else "texture",
        near_duplicates=len(pairs),
        duplicates_across_splits=sum(a.split != b.split for a, b in pairs),
        looked_at=len(looks),
        groups=info.groups,
        unreadable=len(info.unreadable),
    )


def alignment(images: Floats) -> float:
    """Mean correlation of all pairs of N > 1 grey images (N, S, S), of their structure without light and noise."""
    structures = structure(images).reshape(len(images), -1)
    structures = structures - structures.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(structures, axis=1, keepdims=True)
    units = np.where(lengths > 1e-3, structures / np.maximum(lengths, 1e-3), 0)
    n = len(units)
    # The squared length of the sum holds every pair twice and each image with itself once.
    return float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (n * (n - 1)))


def kind_of(images: Floats) -> Literal["object", "texture"]:
    """An object where things have their place in all images (N, S, S), or where the border is plain background."""
    if len(images) > 1 and alignment(images) >= ALIGNED:
        return "object"
    strength = np.abs(structure(images))
    edge = images.shape[1] // 8
    middle = strength[:, 2 * edge : -2 * edge, 2 * edge : -2 * edge].mean(axis=(1, 2))
    border = (strength.sum(axis=(1, 2)) - strength[:, edge:-edge, edge:-edge].sum(axis=(1, 2))) / (
        images.shape[1] ** 2 - (images.shape[1] - 2 * edge) ** 2
    )
    return "object" if np.median(border / np.maximum(middle, 1e-3)) < PLAIN else "texture"


def structure(images: Floats) -> Floats:
    """What of grey images (N, S, S) lies between noise and light."""
    return np.stack([cv2.GaussianBlur(i, (0, 0), FINE) - cv2.GaussianBlur(i, (0, 0), COARSE) for i in images])


_Look = tuple[Sample, Floats, Floats, Floats, float]  # grey, hash, fine structure, brightest pixel


def _look(sample: Sample) -> _Look | None:
    try:
        image = read_image(sample.image)
    except ImageError:
        return None  # counted by `describe`
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    brightest = float(image.max()) / full
    return sample, small_grey(image, SIDE), perceptual_hash(image), fine_structure(image), brightest


def _pairs(looks: Sequence[_Look]) -> list[tuple[Sample, Sample]]:
    if len(looks) < 2:
        return []
    hashes = np.stack([look[2] for look in looks])
    fine = signatures(np.stack([look[3] for look in looks]))
    return [(looks[i][0], looks[j][0]) for i, j, _ in near_pairs(hashes, fine)]


def _classes_of(sample: Sample) -> set[str]:
    """The defect classes that an image shows, as far as known."""
    if not sample.defective:
        return set()
    try:
        return set(classes_shown(sample) or {DEFECT})
    except ImageError:  # counted by `describe`
        return {DEFECT}


def _only_class(sample: Sample) -> str | None:
    return GOOD if sample.defective is False else sample.label


def _spread_out(samples: Sequence[Sample], most: int) -> list[Sample]:
    return [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))]


def _middle_size(info: DatasetInfo) -> tuple[int, int]:
    """Height and width of the image of middle area."""
    sizes = [(*map(int, text.split("×")), count) for text, count in info.sizes.items()]
    areas = np.repeat([w * h for w, h, _ in sizes], [count for _, _, count in sizes])
    middle = np.sort(areas)[len(areas) // 2]
    width, height = next((w, h) for w, h, _ in sizes if w * h == middle)
    return height, width


def _defect_sides(info: DatasetInfo) -> tuple[float, float, float] | None:
    """Sides of the median defect and of the first quartile, and the median share of the image; None without sizes."""
    if not info.defects:
        return None
    counts = np.array([d.pixels.count for d in info.defects], np.float64)
    weights = counts / counts.sum()
    median = float(np.sqrt([d.pixels.median for d in info.defects]) @ weights)
    small = float(np.sqrt([d.pixels.q1 for d in info.defects]) @ weights)
    share = float(np.array([d.share.median for d in info.defects]) @ weights)
    return median, small, share


def _number(depth: str, place: int) -> int:
    """Bits (place 0) or channels (place 1) of "8 bit, grey" or "8 bit, 5 channels"."""
    part = depth.split(",")[place].strip()
    return 1 if part == "grey" else 3 if part == "RGB" else int(part.split()[0])
