"""Mistakes in a decision that can be found before an image is seen: limits, names, zones, and what the bundle gives."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from blemish.dataset.sample import DEFECT
from blemish.errors import DecisionError, unknown
from blemish.geometry import polygon_mask
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.rule_parser import parse_rule
from blemish.inspection.rules import check_rule
from blemish.inspection.stitching import anomaly_label, defect_names

_NUMBERS = ("review", "reject", "map_low", "map_high", "min_area_px")


def check_decision(
    decision: Decision,
    labels: Iterable[str] | None = None,
    scaled: bool = True,
    scored: Iterable[str] | None = None,
) -> None:
    """Raise DecisionError for every mistake that shows without a bundle.

    `labels` are those that regions may have, `scored` (by default the same) the classes that may have a threshold;
    None: any. Not `scaled`: measurements in mm are an error.
    """
    known = None if labels is None else list(labels)
    own = known if scored is None else list(scored)
    for name in _NUMBERS:
        value = getattr(decision, name)
        if value is not None and not math.isfinite(value):
            raise DecisionError(f"{name} is {value}; give a number")
    if decision.review is not None and decision.reject is not None and decision.review > decision.reject:
        raise DecisionError(
            f"the review threshold {decision.review:g} is above the reject threshold {decision.reject:g}; lower it"
        )
    if decision.map_low is not None and decision.map_high is not None and decision.map_low > decision.map_high:
        raise DecisionError(f"map_low {decision.map_low:g} is above map_high {decision.map_high:g}; lower it")
    for name, value in decision.class_thresholds.items():
        if not math.isfinite(value):
            raise DecisionError(f"the threshold of class {name} is {value}; give a number")
        if own is not None and name not in own:
            raise DecisionError(f"class_thresholds: {unknown('class', name, own)}")
    for name, points in decision.zones.items():
        _check_zone(name, points)
    for text in decision.rules:
        check_rule(parse_rule(text), decision.zones, known, scaled)


def check_bundle_decision(decision: Decision, manifest: Manifest, scaled: bool = True) -> None:
    """Raise DecisionError for every mistake that shows before an image is seen; the manifest is that of the bundle.

    Not `scaled`: measurements in mm are an error.
    """
    check_decision(decision, region_labels(manifest), scaled, scored_labels(manifest))
    if decision.rules and not gives_regions(manifest, decision):
        if _maps(manifest):
            raise DecisionError(f"rule '{decision.rules[0]}' is about regions, which need a value of map_high; set it")
        raise DecisionError(
            f"rule '{decision.rules[0]}' is about regions, and this bundle gives scores only; set review and reject"
        )
    pixels = manifest.input.pixels
    if pixels is not None and manifest.tiling is None:  # with tiles, images may have any size
        height, width = pixels.height[1], pixels.width[1]
        for name, points in decision.zones.items():
            if not polygon_mask(points, height, width).any():
                raise DecisionError(f"zone '{name}' covers no pixel of an image of {width}×{height} px; move it")


def gives_regions(manifest: Manifest, decision: Decision) -> bool:
    """Whether an inspection may have regions: of masks, boxes, windows, or a map that has a threshold."""
    if "mask_scores" in manifest.outputs or "boxes" in manifest.outputs or _classifies_windows(manifest):
        return True
    return decision.map_high is not None and bool(_maps(manifest))


def region_labels(manifest: Manifest) -> list[str]:
    """All labels that regions may have, as `decode` gives them."""
    outputs = set(manifest.outputs)
    by_anomaly = "anomaly_score" in outputs or "class_scores" not in outputs
    if by_anomaly and not outputs & {"mask_scores", "boxes"}:
        return [anomaly_label(manifest.classes)]
    return defect_names(manifest.classes) or [DEFECT]


def scored_labels(manifest: Manifest) -> list[str]:
    """All classes that a threshold may be for: those with scores of their own."""
    if set(manifest.outputs) & {"class_scores", "mask_scores", "boxes"}:
        return defect_names(manifest.classes) or [DEFECT]
    return [anomaly_label(manifest.classes)]


def _maps(manifest: Manifest) -> set[str]:
    return set(manifest.outputs) & {"anomaly_map", "class_map"}


def _classifies_windows(manifest: Manifest) -> bool:
    """Whether the tiles of a classifier make its map, which needs no `map_high`; see `Stitcher`."""
    outputs = set(manifest.outputs)
    if manifest.tiling is None or outputs & {"anomaly_map", "anomaly_score", "mask_scores", "boxes"}:
        return False
    return "class_scores" in outputs and ("class_map" not in outputs or manifest.windows)


def _check_zone(name: str, points: Sequence[tuple[float, float]]) -> None:
    if len(points) < 3:
        raise DecisionError(f"zone '{name}' has {len(points)} points; a polygon takes three")
    corners = np.asarray(points, np.float64)
    if not np.isfinite(corners).all() or np.linalg.matrix_rank(corners - corners[0]) < 2:
        raise DecisionError(f"zone '{name}' has no area; give the corners of a polygon in px")
    if np.abs(corners).max() <= 1:
        raise DecisionError(f"zone '{name}' is no larger than a pixel; give its corners in px, not as shares")
