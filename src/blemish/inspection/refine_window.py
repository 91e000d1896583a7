"""What the network that refines regions sees: square windows of an image around a region, and its inputs there."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Image, Mask, PixelBox
from blemish.imaging.prepare import by_channels, match_channels, resize, to_unit
from blemish.inspection.result import Region

SIDE = 128  # px of a window as the network sees it; smaller regions are seen at the image's own resolution
INPUTS = 7  # of the network: see `window_inputs`
MARGIN = 0.6  # a window's side is so much longer than its region's, and ...
MARGIN_PX = 24  # ... so many px
MIN_SURROUNDINGS = 200  # px of a window that describe the surface around a region
SURFACE_PIXELS = 2000  # of the surroundings that are enough to describe them
NOISE = 0.008  # of full scale: a surface is never so even that less is a difference
MEMORY_NOISE = 0.015


@dataclass(frozen=True, eq=False)
class GoodMemory:
    """What good images show at each place: mean and standard deviation (h, w, 2 C) over them, of the whole image."""

    values: FloatMap

    @property
    def channels(self) -> int:
        return int(self.values.shape[2]) // 2

    @cached_property
    def mean(self) -> FloatMap:
        return np.ascontiguousarray(self.values[..., : self.channels])

    @cached_property
    def deviation(self) -> FloatMap:
        return np.ascontiguousarray(self.values[..., self.channels :])


@dataclass(frozen=True, slots=True)
class RefineWindow:
    """A square of an image, in pixels of it; it may reach beyond the image, which is then mirrored."""

    left: int
    top: int
    side: int

    def within(self, size: tuple[int, ...]) -> PixelBox:
        """The part of it that lies in an image of `size` (height, width)."""
        right, bottom = min(size[1], self.left + self.side), min(size[0], self.top + self.side)
        return max(0, self.left), max(0, self.top), right, bottom

    def crop(self, pixels: Image, mirror: bool = True) -> Image:
        """The window of an array (H, W) or (H, W, C)."""
        x0, y0, x1, y1 = self.within(pixels.shape)
        crop = pixels[y0:y1, x0:x1]
        pad = [(y0 - self.top, self.top + self.side - y1), (x0 - self.left, self.left + self.side - x1)]
        if not any(map(any, pad)):
            return crop
        pads = pad + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(crop, pads, mode="symmetric") if mirror else np.pad(crop, pads)


def find_window(box: PixelBox, size: tuple[int, ...]) -> RefineWindow:
    """The window around a region's box in an image of `size` (height, width), within it where it fits."""
    x0, y0, x1, y1 = box
    return window_around(box, max(SIDE, round(max(x1 - x0, y1 - y0) * (1 + MARGIN)) + MARGIN_PX), size)


def window_around(box: PixelBox, side: int, size: tuple[int, ...]) -> RefineWindow:
    """The window of a given side with a box in its middle, or as near to it as the image lets it be."""
    x0, y0, x1, y1 = box

    def begin(middle: float, length: int) -> int:
        return (length - side) // 2 if side > length else min(max(round(middle - side / 2), 0), length - side)

    return RefineWindow(begin((x0 + x1) / 2, size[1]), begin((y0 + y1) / 2, size[0]), side)


def window_inputs(
    image: Image,
    heat_map: FloatMap,
    region: Region,
    window: RefineWindow,
    memory: GoodMemory,
    levels: tuple[float, float],
) -> FloatMap:
    """What the network sees of a window (7, SIDE, SIDE): grey relative to the surroundings; distance of the colour to
    that of the surroundings and to that of good images at this place; grey less that of good images; grey of good
    images; the heat map, 0 and 1 at the two levels; the region."""
    pixels = to_unit(match_channels(np.atleast_3d(window.crop(image)), memory.channels))
    view: FloatImage = resize(pixels, SIDE, SIDE)
    heat, inside = _to_side(window.crop(heat_map)), _to_side(region_in_window(region, window))
    level, spread, distance = _surroundings(view, (heat > levels[0]) | (inside > 0), heat)
    grey = _mean(view)
    mean, deviation = _crop_memory(memory, window, heat_map.shape)
    unlike = (view - mean) / (deviation + MEMORY_NOISE)
    return np.stack(
        [
            np.clip((grey - level) / spread, -8, 8) / 3,
            np.log1p(distance) - 1,
            np.log1p(np.sqrt(_mean(np.square(unlike)))) - 0.7,
            np.clip(_mean(unlike), -8, 8) / 3,
            np.clip((_mean(mean) - level) / spread, -8, 8) / 3,
            np.clip((heat - levels[0]) / max(levels[1] - levels[0], 1e-6), -2, 8) / 3,
            inside - 0.5,
        ]
    ).astype(np.float32)


def region_in_window(region: Region, window: RefineWindow) -> Mask:
    return mask_within(region, (window.left, window.top, window.left + window.side, window.top + window.side))


def mask_within(region: Region, box: PixelBox) -> Mask:
    """The region's pixels in a box; none where the two do not meet."""
    x0, y0, x1, y1 = box
    a, b, c, d = region.box
    mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
    left, top, right, bottom = max(a, x0), max(b, y0), min(c, x1), min(d, y1)
    if left >= right or top >= bottom:
        return mask
    own = np.ones((d - b, c - a), np.bool_) if region.mask is None else region.mask
    mask[top - y0 : bottom - y0, left - x0 : right - x0] = own[top - b : bottom - b, left - a : right - a]
    return mask


def _to_side(values: FloatMap | Mask) -> FloatMap:
    return np.asarray(resize(np.asarray(values, np.float32)[..., None], SIDE, SIDE)[..., 0], np.float32)


def _surroundings(view: FloatImage, near: Mask, heat: FloatMap) -> tuple[float, float, FloatMap]:
    """Grey level and spread of the surface around a region, and the Mahalanobis distance (SIDE, SIDE) of each pixel's
    colour to it; a twentieth of the surface, the most unusual, is left out."""
    chosen = np.flatnonzero(~near)
    if len(chosen) < MIN_SURROUNDINGS:  # the region is nearly all of the window: its calmest part
        chosen = np.flatnonzero(heat <= np.quantile(heat, 0.3))
    around = view.reshape(-1, view.shape[2])[chosen[:: max(1, len(chosen) // SURFACE_PIXELS)]]
    centre = np.median(around, axis=0)
    differences = around - centre
    usual = np.quantile(np.abs(differences), 0.95, axis=0) + 1e-3
    differences = differences[(np.abs(differences) <= 1.5 * usual).all(axis=1)]
    covariance = differences.T @ differences / max(len(differences), 1)
    inverse = np.linalg.inv(covariance + NOISE**2 * np.eye(len(centre)))
    whitened = (view - centre) @ np.linalg.cholesky(inverse).astype(view.dtype)
    spread = float(_mean(around).std()) + 0.01
    return float(centre.mean()), spread, np.sqrt(np.square(whitened) @ np.ones(len(centre), view.dtype))


def _crop_memory(memory: GoodMemory, window: RefineWindow, size: tuple[int, ...]) -> tuple[FloatImage, FloatImage]:
    """Mean and deviation (SIDE, SIDE, C) at the places that a window of an image of `size` (height, width) shows."""
    middles = (np.arange(SIDE) + 0.5) * window.side / SIDE
    height, width = memory.values.shape[:2]
    x = ((window.left + middles) / size[1] * width - 0.5).astype(np.float32)
    y = ((window.top + middles) / size[0] * height - 0.5).astype(np.float32)
    columns, rows = np.meshgrid(x, y)

    def at_places(values: FloatImage) -> FloatImage:
        return np.asarray(cv2.remap(values, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)

    mean, deviation = (by_channels(values, at_places) for values in (memory.mean, memory.deviation))
    return mean, deviation


def _mean(values: FloatImage) -> FloatMap:
    """Mean over the channels; as a product much faster than `mean`, which adds three values at a time."""
    channels = values.shape[-1]
    return np.asarray(values @ np.full(channels, 1 / channels, values.dtype))
