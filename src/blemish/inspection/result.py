"""What a graph returns, and what an inspection says of one image."""

from dataclasses import dataclass, field, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Verdict(StrEnum):
    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


@dataclass(slots=True)
class Outputs:
    """Raw, unthresholded results of a graph for N images; any of them may be absent.

    Defect classes exclude the good class in `mask_scores`; `class_scores` and `class_map` cover all classes.
    """

    class_scores: Floats | None = None  # (N, K) probabilities
    class_map: Floats | None = None  # (N, K, h, w)
    anomaly_score: Floats | None = None  # (N,)
    anomaly_map: Floats | None = None  # (N, H, W)
    mask_scores: Floats | None = None  # (N, K, H, W) probabilities
    boxes: Floats | None = None  # (N, M, 4) x0 y0 x1 y1 in pixels of the graph's input
    box_scores: Floats | None = None  # (N, M); padding rows have score 0
    box_labels: NDArray[np.int64] | None = None  # (N, M) index into the defect classes
    box_masks: Floats | None = None  # (N, M, h, w) probabilities inside each box
    embedding: Floats | None = None  # (N, E) what few-shot classes are told apart by

    def kinds(self) -> list[str]:
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def row(self, index: int) -> "Outputs":
        """The results of one image, still with a leading axis of one."""
        return Outputs(**{kind: getattr(self, kind)[index : index + 1] for kind in self.kinds()})


@dataclass(frozen=True, slots=True)
class Measurements:
    """Geometry of one region. Lengths in px and, where the scale is known, the same in mm."""

    area_px: float
    perimeter_px: float
    length_px: float  # longest way through the region, along its skeleton, to its ends
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
    contrast: float  # mean grey inside minus mean grey of the ring around, in parts of full scale
    area_mm2: float | None = None
    perimeter_mm: float | None = None
    length_mm: float | None = None
    mean_width_mm: float | None = None
    max_width_mm: float | None = None
    feret_max_mm: float | None = None
    feret_min_mm: float | None = None
    rectangle_length_mm: float | None = None
    rectangle_width_mm: float | None = None


@dataclass(slots=True)
class Region:
    """One defect, in pixels of the whole image."""

    label: str
    score: float
    box: tuple[int, int, int, int]  # x0 y0 x1 y1, x1 and y1 exclusive
    mask: Bools | None = None  # the size of the box
    measurements: Measurements | None = None


@dataclass(slots=True)
class Candidates:
    """All boxes that a detector gave, those below every threshold too: what ranks them against the truth."""

    corners: NDArray[np.float64]  # (M, 4) x0 y0 x1 y1 in pixels of the image
    scores: Floats  # (M,)
    labels: list[str]
    masks: Floats | None = None  # (M, h, w) probabilities inside each box


@dataclass(slots=True)
class Inspection:
    """All that one image's inspection found."""

    verdict: Verdict
    label: str
    score: float  # raw score that the verdict rests on; higher is worse
    regions: list[Region]
    size: tuple[int, int]  # height, width of the image
    heat_map: Floats | None = None  # (H, W), raw; the image's own size
    valid: Bools | None = None  # (H, W), the pixels that count; None: all
    class_scores: dict[str, float] | None = None
    candidates: Candidates | None = None  # of a detector
    reasons: list[str] = field(default_factory=list)  # what led to the verdict, a line each
    timings_ms: dict[str, float] = field(default_factory=dict)  # read, prepare, network, decode
    source: str | None = None  # path of the image
