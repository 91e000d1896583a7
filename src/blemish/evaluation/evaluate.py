"""Judge a bundle on images whose truth is known, through the inspector: what is measured is what ships."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.valid import valid_mask
from blemish.dataset.write import sha256_of
from blemish.errors import BlemishError, DataError
from blemish.evaluation.classes import ClassFigures, class_figures
from blemish.evaluation.image import ImageFigures, image_figures
from blemish.evaluation.pixel import PixelFigures, collect, pixel_figures
from blemish.evaluation.speed import Speed, measure_speed
from blemish.imaging.read import read_mask
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import Unreadable
from blemish.inspection.result import Bools, Floats, Inspection

Watch = Callable[[Sample, Inspection], None]


@dataclass(frozen=True)
class Figures:
    """Figures of one set of images; None where there is no truth for them or no such output."""

    image: ImageFigures | None
    pixel: PixelFigures | None
    classes: ClassFigures | None


@dataclass(frozen=True)
class Evaluation:
    figures: Figures
    products: dict[str, Figures]
    speed: Speed | None
    bundle: dict[str, Any]
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain data; what could not be measured is absent."""
        found = {
            **asdict(self.figures),
            "products": {name: asdict(figures) for name, figures in self.products.items()},
            "speed": None if self.speed is None else asdict(self.speed),
            "bundle": self.bundle,
            "data": self.data,
        }
        return _without_missing(found)


@dataclass(slots=True)
class Seen:
    """What evaluation keeps of one inspected image."""

    sample: Sample
    result: Inspection
    mask: Bools | None  # truth of the pixels, where it is known
    valid: Bools | None


def evaluate(inspector: Inspector, dataset: Dataset, *, speed: bool = True, watch: Watch | None = None) -> Evaluation:
    """Figures of a bundle on a dataset, all of whose images are used.

    `watch` is shown each sample with its inspection. Unreadable images are counted and left out. Raises DataError
    where no image can be inspected.
    """
    unreadable: list[str] = []
    seen = list(_inspect(inspector, dataset, unreadable, watch))
    if not seen:
        reason = f": {unreadable[0]}" if unreadable else ""
        raise DataError(f"none of the {len(dataset)} images could be inspected{reason}")
    products = sorted({s.sample.product for s in seen if s.sample.product is not None})
    readable = [s.sample for s in seen]
    counts = {"good": 0, "defective": 0, "unknown": 0}
    for s in seen:
        counts[{True: "defective", False: "good", None: "unknown"}[s.sample.defective]] += 1
    return Evaluation(
        figures=_figures(inspector, seen),
        products={p: _figures(inspector, [s for s in seen if s.sample.product == p]) for p in products}
        if len(products) > 1
        else {},
        speed=measure_speed(inspector, readable) if speed else None,
        bundle={
            "name": inspector.manifest.name,
            "method": inspector.manifest.provenance.method,
            "path": str(inspector.bundle.path),
            "size_mb": inspector.bundle.path.stat().st_size / 1e6,
            "decision": inspector.manifest.decision.model_dump(exclude_defaults=True),
        },
        data={
            "root": str(dataset.root),
            "format": dataset.format,
            "images": len(seen),
            **counts,
            "without_pixel_truth": sum(s.mask is None for s in seen),
            "unreadable": unreadable,
            "sha256": sha256_of(dataset.with_samples(readable)),
        },
    )


def _inspect(inspector: Inspector, dataset: Dataset, unreadable: list[str], watch: Watch | None) -> Iterator[Seen]:
    results = inspector.inspect(dataset.samples, on_error="report")
    for sample, result in zip(dataset.samples, results, strict=True):
        if isinstance(result, Unreadable):
            unreadable.append(result.message)
            continue
        if watch is not None:
            watch(sample, result)
        masked = sample.roi is not None or sample.ignore is not None
        valid = valid_mask(sample, result.size) if masked else None
        try:
            mask = _pixel_truth(sample, result)
        except BlemishError as error:
            unreadable.append(str(error))
            continue
        yield Seen(sample, result, mask, valid)


def _pixel_truth(sample: Sample, result: Inspection) -> Bools | None:
    """Defect pixels of an image; None where they are not known, as with an empty mask of a defective image."""
    if result.heat_map is None:
        return None
    if sample.mask is not None:
        mask = read_mask(sample.mask, result.size)
        return mask if mask.any() or sample.defective is False else None
    return np.zeros(result.size, np.bool_) if sample.defective is False else None


def _figures(inspector: Inspector, seen: list[Seen]) -> Figures:
    known = [s for s in seen if s.sample.defective is not None]
    scores = np.array([s.result.score for s in known], np.float64)
    defective = np.array([bool(s.sample.defective) for s in known])
    image = image_figures(scores, defective, [s.result.verdict for s in known]) if known else None
    located = [s for s in seen if s.mask is not None]
    pixel = None
    if any(s.mask is not None and s.mask.any() for s in located):
        maps: list[Floats] = [s.result.heat_map for s in located if s.result.heat_map is not None]
        masks: list[Bools] = [s.mask for s in located if s.mask is not None]
        scored = collect(maps, masks, [s.valid for s in located])
        pixel = pixel_figures(scored, inspector.manifest.decision.map_high, len(located))
    classes = None
    labelled = [s for s in seen if s.sample.label is not None and s.result.class_scores is not None]
    if labelled:
        classes = class_figures([s.sample.label or GOOD for s in labelled], [_likeliest(s.result) for s in labelled])
    return Figures(image, pixel, classes)


def _likeliest(result: Inspection) -> str:
    scores = result.class_scores or {}
    return max(scores, key=scores.__getitem__)


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(v) for key, v in value.items() if v is not None and v != {}}
    return value
