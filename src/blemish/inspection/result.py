"""Raw outputs of a graph, and the inspection of one image that follows from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, overload

import numpy as np

from blemish.arrays import Boxes, FloatArray, FloatMap, Image, Labels, Mask, Picture
from blemish.inspection.lazy_map import LazyMap

_MAX_SHOWN = 3  # entries of a list that a repr spells out


class Verdict(StrEnum):
    """The decision on a part: it passes, a person reviews it, or it is rejected."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


class ReasonKind(StrEnum):
    THRESHOLD = "threshold"  # a score reached a threshold
    RULE = "rule"
    IGNORED = "ignored"  # rules dropped every region
    NO_THRESHOLD = "no_threshold"
    INVALID_SCORE = "invalid_score"
    DEPTH = "depth"  # the pixels' type is unlike that of the training images
    RANGE = "range"  # the pixels' values are
    SIZE = "size"  # the image's size is
    FAILED = "failed"  # there is no inspection


SENTENCES = {
    ReasonKind.THRESHOLD: "{score} {value:.4g} is at or above the {verdict} threshold {threshold:.4g}",
    ReasonKind.RULE: "rule: {rule}",
    ReasonKind.IGNORED: "all {value:.0f} regions are ignored by a rule",
    ReasonKind.NO_THRESHOLD: "no threshold set",
    ReasonKind.INVALID_SCORE: "the score is not a number",
    ReasonKind.DEPTH: "pixel type unlike the training images: {detail}",
    ReasonKind.RANGE: "pixel values unlike the training images: {detail}",
    ReasonKind.SIZE: "image size unlike the training images: {detail}",
    ReasonKind.FAILED: "could not be inspected: {detail}",
}  # in English, for people; programs go by the fields of a Reason


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a verdict, as data; `str()` gives a sentence."""

    kind: ReasonKind
    verdict: Verdict  # that this reason asks for
    label: str | None = None  # class whose score reached its threshold; None: the score of the image
    value: float | None = None  # the score, or the number of regions that were ignored
    threshold: float | None = None
    rule: str | None = None  # text of the rule
    detail: str | None = None  # message of the error where the inspection failed; what is unlike, in figures

    def __str__(self) -> str:
        score = "score" if self.label is None else f"{self.label} score"
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {name: math.nan for name in ("value", "threshold") if values[name] is None}  # numbers, for the format
        return SENTENCES[self.kind].format(score=score, **values)


class _ByValue:
    """Equality by value (arrays too, NaN equal to NaN) and a repr that gives only the shape and dtype of arrays."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return _equal(self, other) if type(self) is type(other) else NotImplemented

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}  # type: ignore[arg-type]
        return _call(self, {name: value for name, value in shown.items() if _is_set(value)})


@dataclass(slots=True, eq=False, repr=False)
class Outputs(_ByValue):
    """Raw, unthresholded results of a graph for N images; any of them may be absent.

    Defect classes exclude the good class in `mask_scores`; `class_scores` and `class_map` cover all classes.
    """

    class_scores: FloatArray | None = None  # (N, K) probabilities
    class_map: FloatArray | None = None  # (N, K, h, w)
    anomaly_score: FloatArray | None = None  # (N,)
    anomaly_map: FloatArray | None = None  # (N, H, W)
    mask_scores: FloatArray | None = None  # (N, K, H, W) probabilities; see Manifest.exclusive_classes
    boxes: FloatArray | None = None  # (N, M, 4) x0 y0 x1 y1 in pixels of the graph's input
    box_scores: FloatArray | None = None  # (N, M); padding rows have score 0
    box_labels: Labels | None = None  # (N, M) index into the defect classes
    box_masks: FloatArray | None = None  # (N, M, h, w) probabilities inside each box
    embedding: FloatArray | None = None  # (N, E) vector that few-shot classes are compared by

    def kinds(self) -> list[str]:
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def row(self, index: int) -> "Outputs":
        """The results of one image, still with a leading axis of one."""
        return Outputs(**{kind: getattr(self, kind)[index : index + 1] for kind in self.kinds()})


@dataclass(frozen=True, slots=True)
class Measurements:
    """Geometry of one region. Lengths in px and, where the scale is known, the same in mm.

    `length_px_u` is the expanded uncertainty of `length_px`, and so on; see `blemish.inspection.uncertainty`, which
    defines it. None: nothing is known of it.
    """

    area_px: float
    perimeter_px: float
    length_px: float  # longest path through the region, along its skeleton, to its ends
    mean_width_px: float
    max_width_px: float
    feret_max_px: float
    feret_min_px: float
    rectangle_length_px: float  # minimum-area rectangle
    rectangle_width_px: float
    centroid_x: float  # of the pixels' centres: 0 is the middle of the first pixel
    centroid_y: float
    orientation_deg: float  # of the long axis, anticlockwise from the x axis as seen on screen, in (-90, 90]
    circularity: float  # 4 pi area / perimeter^2, 1 for a disc
    contrast: float  # mean grey inside minus mean grey of the ring around, as a share of full scale
    area_mm2: float | None = None
    perimeter_mm: float | None = None
    length_mm: float | None = None
    mean_width_mm: float | None = None
    max_width_mm: float | None = None
    feret_max_mm: float | None = None
    feret_min_mm: float | None = None
    rectangle_length_mm: float | None = None
    rectangle_width_mm: float | None = None
    area_px_u: float | None = None
    perimeter_px_u: float | None = None
    length_px_u: float | None = None
    mean_width_px_u: float | None = None
    max_width_px_u: float | None = None
    feret_max_px_u: float | None = None
    feret_min_px_u: float | None = None
    rectangle_length_px_u: float | None = None
    rectangle_width_px_u: float | None = None
    area_mm2_u: float | None = None
    perimeter_mm_u: float | None = None
    length_mm_u: float | None = None
    mean_width_mm_u: float | None = None
    max_width_mm_u: float | None = None
    feret_max_mm_u: float | None = None
    feret_min_mm_u: float | None = None
    rectangle_length_mm_u: float | None = None
    rectangle_width_mm_u: float | None = None


@dataclass(slots=True, eq=False, repr=False)
class Region(_ByValue):
    """One defect, in pixels of the whole image."""

    label: str
    score: float
    box: tuple[int, int, int, int]  # x0 y0 x1 y1, x1 and y1 exclusive
    mask: Mask | None = None  # of the size of the box
    measurements: Measurements | None = None
    refined: bool | None = None  # whether its border is that of the defect, refined; None: nothing refines it

    @property
    def area(self) -> int:
        """Pixels of the mask, or of the box where there is no mask."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0) if self.mask is None else int(self.mask.sum())


@dataclass(slots=True, eq=False, repr=False)
class Candidates(_ByValue):
    """All boxes of a detector, those below every threshold too: ranking metrics need them."""

    corners: Boxes  # (M, 4) x0 y0 x1 y1 in pixels of the image
    scores: FloatArray  # (M,)
    labels: list[str]
    masks: FloatArray | None = None  # (M, h, w) probabilities inside each box


class _MapOnDemand:
    """The field of a map: set to an array or to a LazyMap, it reads as the array, which is made by the first reader."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> FloatMap | None: ...
    def __get__(self, instance: object | None, owner: type) -> FloatMap | None:
        value = None if instance is None else getattr(instance, self._name)  # None is the field's default
        return value.values if isinstance(value, LazyMap) else value

    def __set__(self, instance: object, value: LazyMap | FloatMap | None) -> None:
        setattr(instance, self._name, value)


@dataclass(eq=False, repr=False)
class Inspection(_ByValue):
    """Result of inspecting one image. Two are equal when all but their timings are."""

    verdict: Verdict
    label: str
    score: float  # raw score that the verdict is based on, without what rules ignore; higher is worse
    regions: list[Region]
    size: tuple[int, int]  # height, width of the image
    heat_map: _MapOnDemand = _MapOnDemand()  # (H, W) or None, raw; the image's own size, made when it is first read
    valid: Mask | None = None  # (H, W), the pixels that are inspected; None: all
    class_scores: dict[str, float] | None = None
    candidates: Candidates | None = None  # of a detector
    reasons: list[Reason] = field(default_factory=list)  # those that the verdict rests on
    timings_ms: dict[str, float] = field(default_factory=dict, compare=False, repr=False)  # read, prepare, network, ...
    source: str | None = None  # path of the image

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """Plain data after the published JSON schema; see `blemish.inspection.convert`."""
        return _convert("to_dict", self, masks)  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Inspection":
        """The inspection that `to_dict` wrote; DataError for data of another or a newer schema."""
        return _convert("from_dict", data)  # type: ignore[no-any-return]

    def to_coco(self, image_id: int = 1, categories: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """COCO annotations, one a region; see `blemish.inspection.convert.to_coco`."""
        return _convert("to_coco", self, image_id, categories)  # type: ignore[no-any-return]

    def to_supervision(self, classes: list[str] | None = None) -> Any:
        """`supervision.Detections` of the regions; needs the library supervision."""
        return _convert("to_supervision", self, classes)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row a region; needs the library pandas."""
        return _convert("to_pandas", self)

    def draw(self, image: Image | None = None) -> Picture:
        """The image (H, W, C) with heat map, regions and verdict drawn in, RGB; without one, it is read from
        `source`."""
        return import_module("blemish.report.inspection_picture").draw_inspection(self, image)  # type: ignore[no-any-return]

    def save(self, path: str | Path, image: Image | None = None) -> Path:
        """Save the drawn picture as PNG, JPEG or another format by the file's suffix."""
        return import_module("blemish.report.inspection_picture").save_inspection(self, path, image)  # type: ignore[no-any-return]

    def plot(self, image: Image | None = None, axes: Any = None) -> Any:
        """Show the drawn picture on matplotlib axes, new ones by default, and return them."""
        return import_module("blemish.report.inspection_picture").plot_inspection(self, image, axes)


def _convert(name: str, *arguments: Any) -> Any:
    return getattr(import_module("blemish.inspection.convert"), name)(*arguments)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
    if isinstance(a, float | np.floating) and isinstance(b, float | np.floating):
        return bool(a == b or (math.isnan(a) and math.isnan(b)))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if is_dataclass(a) and type(a) is type(b):
        return all(_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.compare)
    return bool(a == b)


def _is_set(value: Any) -> bool:
    return value is not None and not (isinstance(value, list | dict) and not value)


def _call(instance: Any, values: Mapping[str, Any]) -> str:
    return f"{type(instance).__name__}({', '.join(f'{name}={_short(value)}' for name, value in values.items())})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {'×'.join(map(str, value.shape))}>"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, StrEnum):
        return repr(value.value)
    if isinstance(value, Reason):
        return repr(str(value))
    if isinstance(value, Measurements):
        return f"<area {value.area_px:.4g} px, length {value.length_px:.4g} px, width {value.mean_width_px:.4g} px>"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        more = [f"... {len(value) - _MAX_SHOWN} more"] if len(value) > _MAX_SHOWN else []
        return "[" + ", ".join([*map(_short, value[:_MAX_SHOWN]), *more]) + "]"
    return repr(value)
