"""Duplicates among many images: identical files by their hash, near duplicates by what they show.

For the latter a perceptual hash finds candidates, and the fine structure confirms them.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Vectors
from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.files import file_sha256
from blemish.imaging.read import read_image

log = logging.getLogger(__name__)
HASH_BITS = 64
MAX_DISTANCE = 10  # Hamming, of 64
MIN_CORRELATION = 0.9  # of the signatures
MAX_NEAR_IMAGES = 5_000  # of a set in which near duplicates are looked for before it is split: a minute or two
MAX_NEAR_PAIRS = 100_000  # more are not looked at: the set is one part under a fixed camera, or one image many times
MAX_SHARE = 1 / 3  # of a class; more near duplicates of one another are what its images are like
MIN_ALIKE = 6  # images; fewer near duplicates are kept together whatever their share of a class
_SIDE = 48
_HEAD = 2**16  # bytes of which files of equal size are compared first
_MIN_FOR_MEAN = 10  # images
_ROWS = 1024  # of the comparison at a time: 40 MB at 10,000 images


def perceptual_hash(image: NDArray[Any]) -> Vectors:
    """Sign (+1, -1) of 64 low frequencies of the cosine transform of the grey image at 32 × 32, without the mean."""
    low = cv2.dct(small_grey(image, 32))[:8, :9].ravel()[1:65]
    return np.where(low > np.median(low), np.float32(1), np.float32(-1))


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


def near_pairs(hashes: Vectors, signatures: Vectors) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of similar images with their correlation, from `perceptual_hash` and `signatures`.

    One matrix product a block of rows: for ±1 bits, the product is 64 minus twice the Hamming distance.
    """
    for start in range(0, len(hashes), _ROWS):
        alike = hashes[start : start + _ROWS] @ hashes[start:].T >= HASH_BITS - 2 * MAX_DISTANCE
        alike &= np.arange(alike.shape[1])[None] > np.arange(alike.shape[0])[:, None]
        rows, columns = np.flatnonzero(alike.any(axis=1)), np.flatnonzero(alike.any(axis=0))
        if not len(rows):
            continue
        correlation = signatures[start + rows] @ signatures[start + columns].T
        for i, j in zip(*np.nonzero(alike[np.ix_(rows, columns)] & (correlation >= MIN_CORRELATION)), strict=True):
            yield int(start + rows[i]), int(start + columns[j]), float(correlation[i, j])


def identical_files(paths: Sequence[Path]) -> list[list[int]]:
    """Indices of files of equal content, in the order of their first; files that cannot be read are like no other.

    Contents are read only of files of equal size, and whole only where their beginnings are the same too.
    """
    groups = [list(range(len(paths)))]
    for key in (_size, _head, _sha256):
        finer: defaultdict[tuple[int, Hashable], list[int]] = defaultdict(list)
        for number, members in enumerate(groups):
            for i in members:
                if (value := key(paths[i])) is not None:
                    finer[number, value].append(i)
        groups = [members for members in finer.values() if len(members) > 1]
    return sorted(groups)


def join_duplicates(samples: Sequence[Sample], log_level: int = logging.INFO) -> list[int]:
    """For each sample the index of its unit: samples that a split keeps together.

    These are samples of one group, identical files and near duplicates of one product, joined transitively; a unit's
    index is that of the first of its samples by name. Near duplicates are looked for in up to MAX_NEAR_IMAGES images.
    Where at least MIN_ALIKE of them are alike and make up more than MAX_SHARE of a class, as under a fixed camera, only
    the identical files among them are joined. A log line of `log_level` names an example of each.
    """
    paths, groups = [s.image for s in samples], [s.group for s in samples]
    order = sorted(range(len(paths)), key=lambda i: (groups[i] is None, groups[i] or paths[i].as_posix(), i))
    parents = list(range(len(order)))  # of positions in `order`, so that a root is the first of its unit

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    def join(a: int, b: int) -> None:
        a, b = sorted((root(a), root(b)))
        parents[b] = a

    first_of_group: dict[str, int] = {}
    for i, number in enumerate(order):
        group = groups[number]
        if group is not None:
            join(first_of_group.setdefault(group, i), i)
    ordered = [paths[number] for number in order]
    same = identical_files(ordered)
    for members in same:
        for other in members[1:]:
            join(members[0], other)
    if same:
        a, b, *_ = (ordered[i] for i in same[0])
        count = sum(map(len, same))
        line = f"{count} images are identical files, such as {a} and {b}: they are kept on one side of a split"
        log.log(log_level, line)
    copies = {i for members in same for i in members[1:]}
    by_product: defaultdict[str | None, list[int]] = defaultdict(list)
    for i, number in enumerate(order):
        if i not in copies:
            by_product[samples[number].product].append(i)
    classes = [(s.product, s.label, s.defective) for s in samples]
    totals = Counter(classes)
    if len(order) > MAX_NEAR_IMAGES:
        log.log(
            log_level,
            f"near duplicates are looked for in sets of up to {MAX_NEAR_IMAGES} images; of these {len(order)}, only "
            "identical files are kept on one side of a split",
        )
        by_product.clear()
    for members in (members for own in by_product.values() for members in _alike(own, ordered)):
        shares = Counter(classes[order[i]] for i in members)
        usual = len(members) >= MIN_ALIKE and any(n > MAX_SHARE * totals[name] for name, n in shares.items())
        example = f"{len(members)} images are nearly the same, such as {ordered[members[0]]} and {ordered[members[1]]}"
        if usual:
            line = f"{example}, as under a fixed camera: a split keeps only identical files of them together"
            log.log(log_level, line)
            continue
        log.debug(f"{example}: they are kept on one side of a split")
        for other in members[1:]:
            join(members[0], other)
    units = [0] * len(order)
    for i, number in enumerate(order):
        units[number] = order[root(i)]
    return units


def _alike(indices: Sequence[int], paths: Sequence[Path]) -> list[list[int]]:
    """Sets of images that are near duplicates of one another, directly or by others."""
    if len(indices) < _MIN_FOR_MEAN:  # what the images have in common cannot be told from what makes them the same
        return []
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda i: _signature(paths[i], _modified(paths[i])), indices))
    known = [(i, own) for i, own in zip(indices, found, strict=True) if own is not None]
    if len(known) < _MIN_FOR_MEAN:
        return []
    hashes, structures = (np.stack([own[k] for _, own in known]) for k in (0, 1))
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for a, b, _ in islice(near_pairs(hashes, signatures(structures)), MAX_NEAR_PAIRS):
        neighbours[known[a][0]].add(known[b][0])
        neighbours[known[b][0]].add(known[a][0])
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
    return sets


@lru_cache(maxsize=2 * MAX_NEAR_IMAGES)
def _signature(path: Path, modified: int | None) -> tuple[Vectors, Vectors] | None:
    """Perceptual hash and fine structure of an image file, for as long as it is not modified; None if unreadable."""
    if modified is None:
        return None
    try:
        image = read_image(path)
    except ImageError:  # reported where the image is needed
        return None
    return perceptual_hash(image), fine_structure(image)


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


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path)
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
