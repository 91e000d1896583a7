"""What a dataset consists of, as plain data: counts, sizes, depths, kinds of truth, sizes of defects."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.ground_truth import shapes_of
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import shape_mask
from blemish.imaging.read import ImageHeader, image_header, read_mask

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]  # called with the number of images done since the last call


@dataclass(frozen=True)
class Spread:
    """Smallest, quartiles, largest."""

    count: int
    low: float
    q1: float
    median: float
    q3: float
    high: float


@dataclass(frozen=True)
class DefectSizes:
    """Sizes of the defects of one class: connected regions of the masks, or boxes."""

    label: str
    source: str  # "mask" or "boxes"
    pixels: Spread
    share: Spread  # of the image's area


@dataclass(frozen=True)
class DatasetInfo:
    format: str
    images: int
    setting: str
    truth: list[str]
    classes: list[str]
    counts: dict[str, dict[str, int]]  # class -> split -> images; "(none)" where not known
    groups: int
    products: dict[str, int]
    sizes: dict[str, int]  # "width×height" -> images
    depths: dict[str, int]  # "8 bit, 3 channels" -> images
    unreadable: list[str]
    defects: list[DefectSizes]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(dataset: Dataset, progress: Progress = lambda done: None) -> DatasetInfo:
    """Look at every header and mask; a file that cannot be read is named, and the rest goes on."""
    unreadable: list[str] = []
    headers: list[ImageHeader] = []
    regions: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for sample, (header, sizes, error) in zip(
        dataset.samples, in_threads(_look_at, dataset.samples, progress), strict=True
    ):
        if error:
            unreadable.append(error)
        if header:
            headers.append(header)
        label = sample.label or "defect"
        if header:
            area = header.height * header.width
            for name, size in sizes:
                regions.setdefault((name or label, "mask"), []).append((size, size / area))
        if header and sample.mask is None:
            for box in sample.boxes or ():
                size = max(0.0, box.x1 - box.x0) * max(0.0, box.y1 - box.y0)
                share = size / (header.height * header.width)
                regions.setdefault((box.label, "boxes"), []).append((size, share))
    none = "(none)"
    counts: dict[str, Counter[str]] = {}
    for s in dataset.samples:
        counts.setdefault(s.label or none, Counter())[s.split or none] += 1
    return DatasetInfo(
        format=dataset.format,
        images=len(dataset),
        setting=dataset.setting,
        truth=sorted(dataset.truth),
        classes=list(dataset.classes),
        counts={name: dict(counts[name]) for name in (*dataset.classes, none) if name in counts},
        groups=len({s.group for s in dataset.samples if s.group is not None}),
        products=dict(sorted(Counter(s.product for s in dataset.samples if s.product is not None).items())),
        sizes=dict(Counter(f"{h.width}×{h.height}" for h in headers).most_common()),
        depths=dict(Counter(f"{h.bits} bit, {_channels(h.channels)}" for h in headers).most_common()),
        unreadable=unreadable,
        defects=[
            DefectSizes(label, source, _spread([r[0] for r in found]), _spread([r[1] for r in found]))
            for (label, source), found in sorted(regions.items())
            if found
        ],
    )


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], progress: Progress) -> Iterable[Result]:
    """Results in order; decoding releases Python's lock, so threads serve."""
    with ThreadPoolExecutor(max_workers=min(8, (cv2.getNumberOfCPUs() or 1) + 1)) as pool:
        for result in pool.map(work, items):
            progress(1)
            yield result


def region_sizes(mask: NDArray[np.bool_]) -> list[float]:
    """Pixels of each 8-connected region."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [float(stats[i, cv2.CC_STAT_AREA]) for i in range(1, count)]


def _look_at(sample: Sample) -> tuple[ImageHeader | None, list[tuple[str, float]], str]:
    """Header, and class and pixels of each region of the mask or outlines; no class where the image's label is it."""
    try:
        header = image_header(sample.image)
    except ImageError as error:
        return None, [], str(error)
    try:
        if sample.mask is not None and sample.mask_classes is None:
            return header, [("", pixels) for pixels in region_sizes(read_mask(sample.mask))], ""
        shapes = shapes_of(sample, (header.height, header.width))
        masks = [(shape.label, shape_mask(shape, (header.height, header.width))) for shape in shapes]
        return header, [(label, pixels) for label, mask in masks for pixels in region_sizes(mask)], ""
    except (DataError, ImageError) as error:
        return header, [], str(error)


def _channels(count: int) -> str:
    return {1: "grey", 3: "RGB"}.get(count, f"{count} channels")


def _spread(values: list[float]) -> Spread:
    return Spread(len(values), *(float(v) for v in np.percentile(values, [0, 25, 50, 75, 100])))
