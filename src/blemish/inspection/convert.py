"""An inspection as JSON, COCO annotations, rows of a table, supervision detections, and back from JSON.

There is one JSON schema of an inspection, `json_schema()`. It has a version; data of a newer version are refused.
Version 2 gives each measurement its uncertainty (`length_px_u`, ...); data of version 1 are read, without.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from blemish.arrays import Mask
from blemish.errors import DataError, MissingExtraError
from blemish.files import validate
from blemish.geometry import decode_runs, encode_runs, runs_from_text, runs_to_text
from blemish.inspection.regions import region_mask
from blemish.inspection.result import Inspection, Measurements, Reason, ReasonKind, Region, Verdict

SCHEMA_VERSION = 2
IMAGE_COLUMNS = ("source", "verdict", "label", "score", "height", "width", "regions")
REGION_COLUMNS = ("region", "region_label", "region_score", "x0", "y0", "x1", "y1")
MEASUREMENTS = tuple(f.name for f in fields(Measurements))
_TIMING_DIGITS = 3  # of milliseconds
_MAY_BE_UNKNOWN = ("_mm", "_mm2", "_u")  # the scale, or the uncertainty


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="null")  # a later field of the same version is no error


class RleRecord(_Record):
    """A mask of the whole image as COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="height, width of the image")
    counts: str


class ReasonRecord(_Record):
    """One reason for the verdict."""

    kind: ReasonKind
    verdict: Verdict = Field(description="the verdict that this reason asks for")
    label: str | None = Field(None, description="class whose score reached the threshold; null: the image's score")
    value: float | None = Field(None, description="the score, or the number of ignored regions")
    threshold: float | None = None
    rule: str | None = Field(None, description="text of the rule")
    detail: str | None = Field(None, description="error message where the inspection failed")
    text: str = Field("", description="the reason as an English sentence, for people; not read back")


_measures: dict[str, Any] = {
    name: (float | None, None if name.endswith(_MAY_BE_UNKNOWN) else ...) for name in MEASUREMENTS
}
MeasurementsRecord = create_model("MeasurementsRecord", __base__=_Record, **_measures)
MeasurementsRecord.__doc__ = (
    "Geometry of a region in px, and in mm where the scale is known; null: no valid number. `length_px_u` is the "
    "uncertainty of `length_px`: 90 % of true values lie within `length_px` ± `length_px_u`; null: not known."
)


class RegionRecord(_Record):
    """One defect."""

    label: str
    score: float | None = Field(description="null: not a finite number")
    box: tuple[int, int, int, int] = Field(description="x0 y0 x1 y1 in px of the image, x1 and y1 exclusive")
    mask: RleRecord | None = Field(None, description="null: the box is all that is known, or masks were left out")
    measurements: MeasurementsRecord | None = None  # type: ignore[valid-type]
    refined: bool | None = Field(
        None, description="whether the region has the border of its defect, refined; null: nothing refines it"
    )


class InspectionRecord(_Record):
    """Result of inspecting one image."""

    schema_version: int = Field(SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    source: str | None = Field(None, description="path of the image")
    verdict: Verdict
    label: str = Field(description="'good', or the class of the worst defect")
    score: float | None = Field(description="higher is worse; null: not a finite number")
    size: tuple[int, int] = Field(description="height, width of the image in px")
    reasons: list[ReasonRecord] = []
    class_scores: dict[str, float | None] | None = None
    regions: list[RegionRecord] = []
    valid: RleRecord | None = Field(None, description="pixels that were inspected; null: all, or masks were left out")
    timings_ms: dict[str, float | None] = {}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what `to_dict` gives."""
    return InspectionRecord.model_json_schema(mode="serialization")


def to_dict(inspection: Inspection, masks: bool = True) -> dict[str, Any]:
    """An inspection as plain data of the published schema, ready for `json.dumps`.

    The heat map and a detector's candidates are left out; without `masks`, so are masks. Numbers that are not finite
    become null.
    """
    scores = inspection.class_scores
    record = InspectionRecord(
        schema_version=SCHEMA_VERSION,
        source=None,
        verdict=inspection.verdict,
        label=inspection.label,
        score=float(inspection.score),
        size=inspection.size,
        reasons=[ReasonRecord(**asdict(reason), text=str(reason)) for reason in inspection.reasons],
        class_scores=None if scores is None else {name: float(value) for name, value in scores.items()},
        regions=[_region_record(region, inspection.size, masks) for region in inspection.regions],
        valid=_rle(inspection.valid, (0, 0), inspection.size) if masks else None,
        timings_ms={step: round(float(value), _TIMING_DIGITS) for step, value in inspection.timings_ms.items()},
    )
    data: dict[str, Any] = json.loads(record.model_dump_json())
    return {**data, "source": inspection.source}  # any name of a file, which pydantic does not write


def from_dict(data: Mapping[str, Any]) -> Inspection:
    """The inspection that `to_dict` wrote; DataError for data that are none, or of a newer schema.

    It equals the original but for the heat map and a detector's candidates, and, where masks were left out, the masks.
    """
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(f"the inspection has schema version {version}, this blemish reads {SCHEMA_VERSION}; update it")
    record = validate(InspectionRecord, data, "inspection", DataError)
    scores = record.class_scores
    return Inspection(
        verdict=record.verdict,
        label=record.label,
        score=_number(record.score),
        regions=[_region(region) for region in record.regions],
        size=record.size,
        valid=None if record.valid is None else _mask(record.valid),
        class_scores=None if scores is None else {name: _number(value) for name, value in scores.items()},
        reasons=[Reason(**reason.model_dump(exclude={"text"})) for reason in record.reasons],
        timings_ms={step: _number(value) for step, value in record.timings_ms.items()},
        source=record.source,
    )


def to_coco(
    inspection: Inspection, image_id: int = 1, categories: dict[str, int] | None = None, first_id: int = 1
) -> list[dict[str, Any]]:
    """COCO annotations of the regions, masks as uncompressed run lengths, with their measurements in addition.

    `categories` maps classes to ids; classes that it lacks are added to it with the next id.
    """
    categories = {} if categories is None else categories
    annotations = []
    for number, region in enumerate(inspection.regions, start=first_id):
        x0, y0, x1, y1 = (int(v) for v in region.box)
        annotation: dict[str, Any] = {
            "id": number,
            "image_id": image_id,
            "category_id": categories.setdefault(region.label, max(categories.values(), default=0) + 1),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": region.area,
            "score": float(region.score),
            "iscrowd": 0,
        }
        if region.mask is not None:
            counts = _run_lengths(region.mask, (x0, y0), inspection.size)
            annotation["segmentation"] = {"size": list(inspection.size), "counts": counts}
        if region.measurements is not None:
            values = asdict(region.measurements)
            annotation["measurements"] = {name: own for name, own in values.items() if _is_finite(own)}
        annotations.append(annotation)
    return annotations


def to_rows(inspection: Inspection) -> list[dict[str, Any]]:
    """One row a region, and one for an image without regions: IMAGE_COLUMNS, REGION_COLUMNS and MEASUREMENTS."""
    height, width = inspection.size
    image = (inspection.source, str(inspection.verdict), inspection.label, float(inspection.score), height, width)
    head = dict(zip(IMAGE_COLUMNS, (*image, len(inspection.regions)), strict=True))
    blank = dict.fromkeys((*REGION_COLUMNS, *MEASUREMENTS))
    rows = []
    for number, region in enumerate(inspection.regions, start=1):
        values = (number, region.label, float(region.score), *region.box)
        measured = {} if region.measurements is None else asdict(region.measurements)
        rows.append(head | blank | dict(zip(REGION_COLUMNS, values, strict=True)) | measured)
    return rows or [head | blank]


def to_pandas(inspections: Inspection | Iterable[Inspection]) -> Any:
    """A `pandas.DataFrame` of one or several inspections, with the rows of `to_rows`; MissingExtraError without
    pandas."""
    pandas = _library("pandas")
    several = [inspections] if isinstance(inspections, Inspection) else inspections
    rows = [row for inspection in several for row in to_rows(inspection)]
    return pandas.DataFrame(rows, columns=[*IMAGE_COLUMNS, *REGION_COLUMNS, *MEASUREMENTS])


def to_supervision(inspection: Inspection, classes: list[str] | None = None) -> Any:
    """`supervision.Detections` of the regions; MissingExtraError without that library.

    `class_id` is the index into `classes`, by default the sorted classes of this inspection's regions; the names are in
    `data["class_name"]`. A region without a mask counts as its box where others have masks.
    """
    supervision = _library("supervision")
    regions = inspection.regions
    if not regions:
        return supervision.Detections.empty()
    names = sorted({region.label for region in regions}) if classes is None else classes
    masks = None
    if any(region.mask is not None for region in regions):
        masks = np.stack([region_mask([region], inspection.size) for region in regions])
    return supervision.Detections(
        xyxy=np.array([region.box for region in regions], np.float64),
        mask=masks,
        confidence=np.array([region.score for region in regions], np.float64),
        class_id=np.array([names.index(region.label) for region in regions]),
        data={"class_name": np.array([region.label for region in regions])},
    )


def _region_record(region: Region, size: tuple[int, int], masks: bool) -> RegionRecord:
    x0, y0, x1, y1 = (int(v) for v in region.box)
    return RegionRecord(
        label=region.label,
        score=float(region.score),
        box=(x0, y0, x1, y1),
        mask=_rle(region.mask, (x0, y0), size) if masks else None,
        measurements=region.measurements and MeasurementsRecord(**asdict(region.measurements)),
        refined=region.refined,
    )


def _region(record: RegionRecord) -> Region:
    x0, y0, x1, y1 = record.box
    measured = record.measurements and Measurements(
        **{
            name: value if name.endswith(_MAY_BE_UNKNOWN) else _number(value)
            for name, value in record.measurements.model_dump().items()
        }
    )
    mask = None if record.mask is None else _mask(record.mask)[y0:y1, x0:x1]
    return Region(record.label, _number(record.score), record.box, mask, measured, record.refined)


def _run_lengths(mask: Mask, corner: tuple[int, int], size: tuple[int, int]) -> list[int]:
    """COCO's run lengths, in an image of `size`, of a mask (h, w) whose upper left pixel is `corner` (x, y)."""
    (height, width), (x, y) = size, corner
    columns = np.zeros((height, mask.shape[1]), np.bool_)
    columns[y : y + mask.shape[0]] = mask
    counts = encode_runs(columns)
    counts[0] += x * height
    after = (width - x - mask.shape[1]) * height
    if len(counts) % 2:
        counts[-1] += after
    elif after:
        counts.append(after)
    return counts


def _rle(mask: Mask | None, corner: tuple[int, int], size: tuple[int, int]) -> RleRecord | None:
    return None if mask is None else RleRecord(size=size, counts=runs_to_text(_run_lengths(mask, corner, size)))


def _mask(record: RleRecord) -> Mask:
    return decode_runs(runs_from_text(record.counts), record.size)


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{name} is not installed; pip install 'blemish[{name}]'") from error
