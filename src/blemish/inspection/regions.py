"""Candidate defects: connected regions of a map above a threshold."""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

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

    Pixels outside `valid` (H, W) belong to no region; a region's score is its largest value. A blurred map shows a
    defect wider than it is: `edge` sets the border at that share of the way from `low` up to the region's peak, so 0.5
    means half its height, where the edge of a blurred shape is.
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
    count, labels, stats = label_pieces(above)
    strong = above & (window >= high)
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, labels[strong].astype(np.intp), window[strong])
    keep = (peaks >= high) & (stats[:, cv2.CC_STAT_AREA] >= min_area_px)
    regions: list[Region] = []
    for index in np.flatnonzero(keep):
        x, y, width, height = (int(v) for v in stats[index, :4])
        mask = labels[y : y + height, x : x + width] == index
        left, top = x + x0, y + y0
        if edge > 0:
            own = np.where(mask, window[y : y + height, x : x + width], np.float32(-np.inf))
            border = float(low + edge * (peaks[index] - low))
            regions += [shift(region, left, top) for region in regions_from_map(own, border, high, min_area_px, label)]
        else:
            regions.append(Region(label, float(peaks[index]), (left, top, left + width, top + height), mask))
    return regions


def label_pieces(mask: Mask) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """The 8-connected pieces of a mask (H, W): how many labels there are, with 0 for the rest, which pixel has which,
    and OpenCV's statistics of each."""
    # Of OpenCV's algorithms this one computes the statistics twice as fast as the default.
    count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        np.ascontiguousarray(mask).view(np.uint8), 8, cv2.CV_32S, cv2.CCL_BBDT
    )
    return count, np.asarray(labels, np.int32), np.asarray(stats, np.int32)


def region_mask(regions: Iterable[Region], size: tuple[int, ...]) -> Mask:
    """The pixels (H, W) of all regions; of one without a mask, those of its box."""
    pixels = np.zeros(size, np.bool_)
    for region in regions:
        x0, y0, x1, y1 = region.box
        pixels[y0:y1, x0:x1] |= True if region.mask is None else region.mask
    return pixels


def shift(region: Region, x: int, y: int) -> Region:
    """The region moved by (x, y) px, as from a window of an image to the image."""
    x0, y0, x1, y1 = region.box
    return replace(region, box=(x0 + x, y0 + y, x1 + x, y1 + y))


def regions_by_share(heat_map: FloatMap, share: float, label: str, valid: Mask | None = None) -> list[Region]:
    """Regions of a map (H, W) at or above a share of the way from its minimum to its peak, strongest first.

    These are weakly supervised boxes (Zhou et al. 2016, who take a fifth and keep the largest). No region where the map
    is level.
    """
    values = heat_map if valid is None else heat_map[valid]
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return []
    level = low + share * (high - low)
    return sorted(regions_from_map(heat_map, level, level, 0.0, label, valid), key=lambda region: -region.score)
