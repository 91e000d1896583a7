"""Duplicates among many images: identical ones by a hash of file or pixels, near duplicates by what they show.

For the latter a perceptual hash finds candidates, and the fine structure confirms them. Copies that are turned by
quarters or mirrored are found, those that are turned by other angles or cropped by a tenth or more are not.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Vectors
from blemish.dataset.contents import content_hash
from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.imaging.pixel_range import count_channels
from blemish.imaging.read import read_image

log = logging.getLogger(__name__)
HASH_BITS = 64
MAX_DISTANCE = 10  # Hamming, of 64
MIN_CORRELATION = 0.9  # of the signatures
MAX_NEAR_IMAGES = 5_000  # of a set in which near duplicates are looked for before it is split: a minute or two
MAX_NEAR_PAIRS = 100_000  # more are not looked at: the set is one part under a fixed camera, or one image many times
MAX_SHARE = 1 / 3  # of a class without a defect; more near duplicates of one another are what its images are like
MIN_ALIKE = 6  # images; fewer near duplicates are kept together whatever their share of a class
ORIENTATIONS = 8  # turned by quarters, and mirrored
_SIDE = 48
_HASHED = 32
_HEAD = 2**16  # bytes of which files of equal size are compared first
_MIN_FOR_MEAN = 10  # images
_MAX_PIXEL_KEYS = 1 << 18  # that are remembered, of half a kilobyte
_ROWS = 1024  # of the comparison at a time: 40 MB at 10,000 images


def oriented_hashes(image: NDArray[Any]) -> Vectors:
    """Perceptual hashes (ORIENTATIONS, HASH_BITS) of an image in each orientation, the first as it is.

    A hash is the sign (+1, -1) of 64 low frequencies of the cosine transform of the grey image at 32 × 32, without the
    mean.
    """
    grey = small_grey(image, _HASHED)
    spectra = [cv2.dct(np.ascontiguousarray(_turn(grey, k))) for k in range(ORIENTATIONS)]
    low = np.stack([spectrum[:8, :9].ravel()[1:65] for spectrum in spectra])
    return np.where(low > np.median(low, axis=1, keepdims=True), np.float32(1), np.float32(-1))


def fine_structure(image: NDArray[Any]) -> Vectors:
    """The grey image at 48 × 48 minus its local mean, as a unit vector.

    It is blind to brightness and contrast, and nearly so to another size or compression.
    """
    grey = small_grey(image, _SIDE)
    return np.asarray(_normalize((grey - cv2.GaussianBlur(grey, (0, 0), 1.5)).reshape(1, -1))[0])


def signatures(structures: Vectors) -> Vectors:
    """Unit vectors (N, D) of the differences between images: without the structure that all of them share.

    Aligned images of similar parts correlate at 0.9 and more; without their mean, at 0. The mean of a few images is no
    estimate, so that they are left as they are.
    """
    return structures if len(structures) < _MIN_FOR_MEAN else _normalize(structures - structures.mean(axis=0))


def near_pairs(
    hashes: Vectors, signatures: Vectors, turned: tuple[Vectors, Vectors] | None = None
) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of similar images with their correlation, from hashes (N, HASH_BITS) and `signatures`.

    With hashes and signatures of the images `turned`, image i as it is and image j turned are compared. One matrix
    product a block of rows: for ±1 bits, the product is 64 minus twice the Hamming distance.
    """
    other_hashes, other_signatures = turned or (hashes, signatures)
    for start in range(0, len(hashes), _ROWS):
        alike = hashes[start : start + _ROWS] @ other_hashes[start:].T >= HASH_BITS - 2 * MAX_DISTANCE
        alike &= np.arange(alike.shape[1])[None] > np.arange(alike.shape[0])[:, None]
        rows, columns = np.flatnonzero(alike.any(axis=1)), np.flatnonzero(alike.any(axis=0))
        if not len(rows):
            continue
        correlation = signatures[start + rows] @ other_signatures[start + columns].T
        for i, j in zip(*np.nonzero(alike[np.ix_(rows, columns)] & (correlation >= MIN_CORRELATION)), strict=True):
            yield int(start + rows[i]), int(start + columns[j]), float(correlation[i, j])


def oriented_pairs(hashes: Vectors, structures: Vectors) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of near duplicates with their correlation: as they are, and then those of which one was turned.

    From `oriented_hashes` (N, ORIENTATIONS, HASH_BITS) and `fine_structure` (N, D).
    """
    upright, seen = signatures(structures), set[tuple[int, int]]()
    mean = structures.mean(axis=0) if len(structures) >= _MIN_FOR_MEAN else 0
    pictures = structures.reshape(-1, _SIDE, _SIDE)
    for k in range(ORIENTATIONS):
        turned = _normalize(_turn(pictures, k).reshape(len(structures), -1) - mean)
        for a, b, correlation in near_pairs(hashes[:, 0], upright, (hashes[:, k], turned)):
            if (a, b) not in seen:
                seen.add((a, b))
                yield a, b, correlation


def identical_files(paths: Sequence[Path]) -> list[list[int]]:
    """Indices of files of equal content, in the order of their first; files that cannot be read are like no other.

    Contents are read only of files of equal size, and whole only where their beginnings are the same too.
    """
    groups = [list(range(len(paths)))]
    for key in (_size, _head, content_hash):
        finer: defaultdict[tuple[int, Hashable], list[int]] = defaultdict(list)
        for number, members in enumerate(groups):
            for i in members:
                if (value := key(paths[i])) is not None:
                    finer[number, value].append(i)
        groups = [members for members in finer.values() if len(members) > 1]
    return sorted(groups)


def identical_images(paths: Sequence[Path]) -> list[list[int]]:
    """Indices of files of equal content or of equal pixels, in the order of their first."""
    same = identical_files(paths)
    copies = {i for members in same for i in members[1:]}
    by_pixels: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i, pixels in _read_pixels(paths, [i for i in range(len(paths)) if i not in copies]).items():
        by_pixels[pixels].append(i)
    of_first = {members[0]: members for members in same}
    joined = [[i for first in firsts for i in of_first.pop(first, [first])] for firsts in by_pixels.values()]
    return sorted(sorted(members) for members in (*joined, *of_first.values()) if len(members) > 1)


@dataclass(frozen=True)
class AlikeImages:
    """Indices of near duplicates of one another, directly or by others; `usual` where that is what images are like."""

    members: list[int]
    usual: bool


def near_duplicates(
    samples: Sequence[Sample], indices: Iterable[int] | None = None, log_level: int = logging.INFO
) -> list[AlikeImages]:
    """Near duplicates of one product, in any of eight orientations, among the samples or those of `indices`.

    They are usual where at least MIN_ALIKE are alike and more than MAX_SHARE of a class of images that show no defect
    are among them, as under a fixed camera, or all images of a class of defects: it could not be split otherwise. A log
    line of `log_level` says where they are not looked for.
    """
    if len(samples) > MAX_NEAR_IMAGES:
        log.log(
            log_level,
            f"near duplicates are looked for in sets of up to {MAX_NEAR_IMAGES} images; of these {len(samples)}, only "
            "identical images are kept on one side of a split",
        )
        return []
    by_product: defaultdict[str | None, list[int]] = defaultdict(list)
    for i in range(len(samples)) if indices is None else indices:
        by_product[samples[i].product].append(i)
    classes = [(s.product, s.label, s.defective) for s in samples]
    totals, paths, few = Counter(classes), [s.image for s in samples], 0
    found = []
    for own in by_product.values():
        own = sorted(own, key=lambda i: paths[i])
        alike = _alike(tuple((paths[i], _modified(paths[i])) for i in own), MAX_NEAR_PAIRS)
        if alike.readable < _MIN_FOR_MEAN:
            few += alike.readable if alike.readable > 1 else 0
            continue
        if alike.cut:
            log.log(
                log_level, f"more than {MAX_NEAR_PAIRS} pairs of {alike.readable} images are alike; others are not seen"
            )
        for positions in alike.sets:
            members = sorted(own[k] for k in positions)
            counts = Counter(classes[i] for i in members)
            usual = len(members) >= MIN_ALIKE and any(
                n == totals[own] if own[2] else n > MAX_SHARE * totals[own] for own, n in counts.items()
            )
            found.append(AlikeImages(members, usual))
    if few:
        log.log(
            log_level,
            f"near duplicates are not looked for among {few} images, of products with fewer than {_MIN_FOR_MEAN}: "
            "only identical images are kept on one side of a split",
        )
    return found


def describe_unsearched(samples: Sequence[Sample]) -> list[str]:
    """A line where the real images are too many for near duplicates to be looked for; else none."""
    count = sum(s.sources is None for s in samples)
    if count <= MAX_NEAR_IMAGES:
        return []
    return [
        f"near duplicates are not looked for among {count} images, more than {MAX_NEAR_IMAGES}: where nearly the same "
        "image is in two splits, metrics and thresholds from them are too good; give the images of one part one 'group'"
    ]


def join_duplicates(samples: Sequence[Sample], log_level: int = logging.INFO) -> list[int]:
    """For each sample the index of its unit: samples that a split keeps together.

    These are samples of one group, identical images and near duplicates that are not usual (see `near_duplicates`),
    joined transitively; a unit's index is that of the first of its samples by name. A log line of `log_level` names an
    example of each.
    """
    order = sorted(
        range(len(samples)),
        key=lambda i: (samples[i].group is None, samples[i].group or samples[i].image.as_posix(), i),
    )
    ordered = [samples[number] for number in order]
    paths = [s.image for s in ordered]
    parents = list(range(len(order)))  # of positions in `order`, so that a root is the first of its unit

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    def join(members: Sequence[int]) -> None:
        for other in members[1:]:
            a, b = sorted((root(members[0]), root(other)))
            parents[b] = a

    by_group: defaultdict[str, list[int]] = defaultdict(list)
    for i, s in enumerate(ordered):
        if s.group is not None:
            by_group[s.group].append(i)
    same = identical_images(paths)
    for members in (*by_group.values(), *same):
        join(members)
    if same:
        count, (a, b, *_) = sum(map(len, same)), (paths[i] for i in same[0])
        log.log(log_level, f"{count} images are identical, such as {a} and {b}: they are kept on one side of a split")
    copies = {i for members in same for i in members[1:]}
    for alike in near_duplicates(ordered, [i for i in range(len(order)) if i not in copies], log_level):
        a, b, *_ = (paths[i] for i in alike.members)
        example = f"{len(alike.members)} images are nearly the same, such as {a} and {b}"
        if alike.usual:
            line = f"{example}, as under a fixed camera: a split keeps only identical images of them together"
            log.log(log_level, line)
        else:
            log.debug(f"{example}: they are kept on one side of a split")
            join(alike.members)
    units = [0] * len(order)
    for i, number in enumerate(order):
        units[number] = order[root(i)]
    return units


class _Alike(NamedTuple):
    """Positions of images that are near duplicates of one another, directly or by others; `cut` where not all are."""

    sets: list[list[int]]
    readable: int
    cut: bool = False


@lru_cache(maxsize=32)
def _alike(files: tuple[tuple[Path, int | None], ...], limit: int) -> _Alike:
    """Near duplicates among files with their times of change, once for all that ask: of the first `limit` pairs.

    None are found among few readable ones: what they have in common cannot be told from what makes them the same.
    """
    known = _read_signatures([path for path, _ in files], range(len(files)))
    if len(known) < _MIN_FOR_MEAN:
        return _Alike([], len(known))
    keys = list(known)
    hashes = np.stack([own.hashes for own in known.values()])
    structures = np.stack([own.structure for own in known.values()])
    pairs = list(islice(oriented_pairs(hashes, structures), limit + 1))
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for a, b, _ in pairs:
        neighbours[keys[a]].add(keys[b])
        neighbours[keys[b]].add(keys[a])
    sets, left = [], set(neighbours)
    while left:
        reached, waiting = set[int](), [min(left)]
        while waiting:
            i = waiting.pop()
            if i not in reached:
                reached.add(i)
                waiting += neighbours[i]
        left -= reached
        sets.append(sorted(reached))
    return _Alike(sets, len(known), len(pairs) > limit)


def _turn(pictures: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Square pictures (…, S, S) turned by quarters, from the fourth orientation on mirrored too."""
    return np.rot90(pictures[..., ::-1] if orientation >= 4 else pictures, orientation % 4, axes=(-2, -1))


class _Signature(NamedTuple):
    """What duplicates of an image have in common with it."""

    pixels: Hashable  # type, shape and a hash of the pixels; colours that are all grey are one channel
    hashes: Vectors  # perceptual, of each orientation
    structure: Vectors  # fine


def _read_signatures(paths: Sequence[Path], indices: Iterable[int]) -> dict[int, _Signature]:
    """Signatures of those of the images that can be read, by their indices."""
    indices = list(indices)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda i: _signature(paths[i], _modified(paths[i])), indices))
    return {i: own for i, own in zip(indices, found, strict=True) if own is not None}


def _read_pixels(paths: Sequence[Path], indices: list[int]) -> dict[int, Hashable]:
    """What equal pixels have in common, of those of the images that can be read.

    It is a part of the signature where near duplicates are looked for too, so that each image is decoded once.
    """
    if len(paths) <= MAX_NEAR_IMAGES:
        return {i: own.pixels for i, own in _read_signatures(paths, indices).items()}
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda i: _pixels(paths[i], _modified(paths[i])), indices))
    return {i: own for i, own in zip(indices, found, strict=True) if own is not None}


@lru_cache(maxsize=_MAX_PIXEL_KEYS)
def _pixels(path: Path, modified: int | None) -> Hashable:
    """The pixels of an image file by `_hash_pixels`, for as long as it is not modified; None if unreadable."""
    if modified is None:
        return None
    try:
        return _hash_pixels(read_image(path))
    except ImageError:
        return None


def _hash_pixels(image: NDArray[Any]) -> Hashable:
    flat = image[..., :1] if count_channels(image) == 1 else image
    return str(flat.dtype), flat.shape, hashlib.sha256(np.ascontiguousarray(flat).data).digest()


@lru_cache(maxsize=2 * MAX_NEAR_IMAGES)
def _signature(path: Path, modified: int | None) -> _Signature | None:
    """The signature of an image file, for as long as it is not modified; None if unreadable."""
    if modified is None:
        return None
    try:
        image = read_image(path)
    except ImageError:  # reported where the image is needed
        return None
    return _Signature(_hash_pixels(image), oriented_hashes(image), fine_structure(image))


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _head(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError:
        return None


def small_grey(image: NDArray[Any], side: int) -> Vectors:
    """(H, W, C) of any depth as (side, side) float32, 0 to 255 where the depth has a full scale."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else np.ascontiguousarray(image[..., 0])
    shrinks = side <= min(grey.shape)
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scale = {"uint8": 1.0, "uint16": 255 / 65535}.get(str(image.dtype), 255.0)
    return np.nan_to_num(small.astype(np.float32)) * np.float32(scale)


def _normalize(rows: Vectors) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-3, rows / np.maximum(lengths, 1e-3), 0), np.float32)
