"""Candidate defects: connected regions of a map above a threshold, or of a mask."""

import cv2
import numpy as np

from blemish.arrays import FloatMap, Mask
from blemish.geometry import mask_bounds
from blemish.inspection.result import Region


def regions_from_map(
    heat_map: FloatMap,
    low: float,
    high: float,
    min_area_px: float,
    label: str,
    valid: Mask | None = None,
    edge: float = 0.0,
) -> list[Region]:
    """Hysteresis on a map (H, W): 8-connected regions at or above `low` that hold a pixel at or above `high`.

    Pixels outside `valid` belong to none; a region's score is the largest value in it. A map that is blurred shows a
    defect wider than it is: `edge` draws the border that share of the way from `low` up to the region's peak, so 0.5
    at half its height, where the edge of a blurred shape is.
    """
    above = heat_map >= low
    if valid is not None:
        above &= valid
    bounds = mask_bounds(above)
    if bounds is None:
        return []
    x0, y0, x1, y1 = bounds
    window = heat_map[y0:y1, x0:x1]
    above = above[y0:y1, x0:x1]
    # Of OpenCV's algorithms this one gathers the statistics twice as fast as the default.
    count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        np.ascontiguousarray(above).view(np.uint8), 8, cv2.CV_32S, cv2.CCL_BBDT
    )
    strong = above & (window >= high)
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, labels[strong].astype(np.intp), window[strong])
    keep = (peaks >= high) & (stats[:, cv2.CC_STAT_AREA] >= min_area_px)
    regions: list[Region] = []
    for index in np.flatnonzero(keep):
        x, y, width, height = (int(v) for v in stats[index, :4])
        mask = labels[y : y + height, x : x + width] == index
        if edge > 0:
            own = np.where(mask, window[y : y + height, x : x + width], np.float32(-np.inf))
            border = float(low + edge * (peaks[index] - low))
            regions += _offset(regions_from_map(own, border, high, min_area_px, label), x + x0, y + y0)
            continue
        box = (x + x0, y + y0, x + x0 + width, y + y0 + height)
        regions.append(Region(label, float(peaks[index]), box, mask))
    return regions


def regions_by_share(heat_map: FloatMap, share: float, label: str, valid: Mask | None = None) -> list[Region]:
    """The regions of a map (H, W) at or above a share of its peak over its least value, strongest first: weakly
    supervised boxes (Zhou et al. 2016, who take a fifth and keep the largest). None where the map is level."""
    counted = heat_map if valid is None else heat_map[valid]
    low, high = float(counted.min()), float(counted.max())
    if not high > low:
        return []
    level = low + share * (high - low)
    return sorted(regions_from_map(heat_map, level, level, 0.0, label, valid), key=lambda region: -region.score)


def regions_from_mask(mask: Mask, label: str, scores: FloatMap | None = None) -> list[Region]:
    """The 8-connected regions of a mask (H, W); score 1, or the largest of the scores (H, W) in it."""
    heat = mask.astype(np.float32) if scores is None else np.where(mask, scores, -np.inf).astype(np.float32)
    least = 1.0 if scores is None else float(np.finfo(np.float32).min)
    return regions_from_map(heat, least, least, 0.0, label)


def _offset(regions: list[Region], x: int, y: int) -> list[Region]:
    for region in regions:
        x0, y0, x1, y1 = region.box
        region.box = (x0 + x, y0 + y, x1 + x, y1 + y)
    return regions
