"""Contents of a dataset as plain data: counts, sizes, depths, kinds of annotations, sizes of defects."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import cv2
import numpy as np

from blemish.arrays import Mask
from blemish.dataset.ground_truth import defect_shapes
from blemish.dataset.resolve import count_evidence, explain_no_good
from blemish.dataset.sample import DEFECT, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import box_areas, box_array, shape_mask
from blemish.imaging.pixel_range import (
    PixelValues,
    describe_range,
    join_values,
    measure_values,
)
from blemish.imaging.read import ImageHeader, image_header, read_image, read_mask

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int], None]  # called with the number of images done since the last call
MAX_DECODED = 200  # images whose pixel values are measured
NOT_KNOWN = "(none)"  # in place of a label or split


@dataclass(frozen=True)
class Quartiles:
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
    pixels: Quartiles
    share: Quartiles  # of the image's area


@dataclass(frozen=True)
class SizeCount:
    """How many images have a size."""

    height: int
    width: int
    images: int

    def __str__(self) -> str:
        return f"{self.width}×{self.height}"


@dataclass(frozen=True)
class DepthCount:
    """How many images have so many bits per channel and channels."""

    bits: int
    channels: int
    images: int

    def __str__(self) -> str:
        return f"{self.bits} bit, {({1: 'grey', 3: 'RGB'}).get(self.channels, f'{self.channels} channels')}"


@dataclass(frozen=True)
class DatasetInfo:
    format: str
    images: int
    setting: str
    annotations: list[str]
    classes: list[str]
    counts: dict[str, dict[str, int]]  # class -> split -> images; NOT_KNOWN where not known
    groups: int
    products: dict[str, int]
    sizes: list[SizeCount]  # the most frequent first
    depths: list[DepthCount]
    unreadable: list[str]
    defects: list[DefectSizes]
    evidence: dict[str, dict[str, int]] = field(default_factory=dict)  # good, defective, unknown -> by what -> images
    passed_over: dict[str, int] = field(default_factory=dict)  # why files were not read -> files
    no_good: str | None = None  # what it means that no image is good
    pixel_values: list[str] = field(default_factory=list)  # of images deeper than 8 bits that do not use full scale

    def as_dict(self) -> dict[str, Any]:
        """Plain data; the kinds of annotations are called `truth` there."""
        sizes = {str(own): own.images for own in self.sizes}
        fields = {"truth" if name == "annotations" else name: value for name, value in asdict(self).items()}
        return fields | {"sizes": sizes, "depths": {str(own): own.images for own in self.depths}}


def describe(dataset: Dataset, progress: Progress = lambda done: None) -> DatasetInfo:
    """Read every header and mask; a file that cannot be read is named, and the rest goes on."""
    unreadable: list[str] = []
    headers: list[ImageHeader] = []
    areas: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    deep: list[Sample] = []
    measured = map_in_threads(_measure_sample, dataset.samples, progress)
    for sample, (header, defects, error) in zip(dataset.samples, measured, strict=True):
        if error:
            unreadable.append(error)
        if header:
            headers.append(header)
            deep += [sample] if header.dtype != "uint8" else []
            for key, pixels in defects:
                areas[key].append((pixels, pixels / (header.height * header.width)))
    counts: dict[str, Counter[str]] = {}
    for s in dataset.samples:
        counts.setdefault(s.label or NOT_KNOWN, Counter())[s.split or NOT_KNOWN] += 1
    sizes, depths = Counter(h.size for h in headers), Counter((h.bits, h.channels) for h in headers)
    return DatasetInfo(
        format=dataset.format,
        images=len(dataset),
        setting=dataset.setting,
        annotations=sorted(dataset.annotations),
        classes=list(dataset.classes),
        counts={name: dict(counts[name]) for name in (*dataset.classes, NOT_KNOWN) if name in counts},
        groups=len({s.group for s in dataset.samples if s.group is not None}),
        products=dict(sorted(Counter(s.product for s in dataset.samples if s.product is not None).items())),
        sizes=[SizeCount(*size, count) for size, count in sizes.most_common()],
        depths=[DepthCount(*depth, count) for depth, count in depths.most_common()],
        unreadable=unreadable,
        defects=[
            DefectSizes(label, source, *(_quartiles(values) for values in zip(*found, strict=True)))
            for (label, source), found in sorted(areas.items())
        ],
        evidence=count_evidence(dataset.samples),
        passed_over=dict(dataset.passed_over),
        no_good=explain_no_good(dataset),
        pixel_values=describe_values(deep[:: max(1, len(deep) // MAX_DECODED)]),
    )


def describe_values(samples: Sequence[Sample]) -> list[str]:
    """In words, how far the pixels of images use the scale of their type, where it is not all of it."""
    values = (pixels for pixels in map_in_threads(_measure_values, samples, lambda done: None) if pixels is not None)
    return [line for own in join_values(values).values() if (line := describe_range(own)) is not None]


def measure_samples(samples: Sequence[Sample]) -> list[PixelValues]:
    """The type, value range, brightness and size of each image; unreadable ones are passed over."""
    return list(filter(None, map_in_threads(_measure_values, samples, lambda done: None)))


def _measure_values(sample: Sample) -> PixelValues | None:
    try:
        return measure_values(read_image(sample.image))
    except ImageError:  # counted already, or named where the image is used
        return None


def map_in_threads(work: Callable[[T], R], items: Sequence[T], progress: Progress) -> Iterable[R]:
    """Results in order; decoding releases Python's lock, so threads serve."""
    with ThreadPoolExecutor(max_workers=min(8, (cv2.getNumberOfCPUs() or 1) + 1)) as pool:
        for result in pool.map(work, items):
            progress(1)
            yield result


def _measure_sample(sample: Sample) -> tuple[ImageHeader | None, list[tuple[tuple[str, str], float]], str]:
    """Header; class, source and pixels of each region of the mask or outlines and of each box; and an error."""
    try:
        header = image_header(sample.image)
    except ImageError as error:
        return None, [], str(error)
    boxes = sample.boxes or () if sample.mask is None else ()
    areas = box_areas(box_array(boxes)).tolist()
    boxed = [((box.label, "boxes"), area) for box, area in zip(boxes, areas, strict=True)]
    try:
        if sample.mask is not None and sample.mask_classes is None:
            masks = [(sample.label or DEFECT, read_mask(sample.mask))]
        else:
            masks = [(shape.label, shape_mask(shape, header.size)) for shape in defect_shapes(sample, header.size)]
    except (DataError, ImageError) as error:
        return header, boxed, str(error)
    return header, [((label, "mask"), pixels) for label, mask in masks for pixels in _region_areas(mask)] + boxed, ""


def _region_areas(mask: Mask) -> list[float]:
    """Pixels of each 8-connected region."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [float(area) for area in stats[1:, cv2.CC_STAT_AREA]]


def _quartiles(values: Sequence[float]) -> Quartiles:
    return Quartiles(len(values), *(float(v) for v in np.percentile(values, [0, 25, 50, 75, 100])))
