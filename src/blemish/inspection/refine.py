"""Refine regions of an anomaly map to the defect's own border, at the image's own resolution.

A map blurs: it shows a scratch several times as wide as it is. A small network, taught on the good images of the bundle
with synthetic defects of exact masks, sees a window of the image around each region and says which of its pixels are
the defect. Only regions cost time; an image without any costs none. Where the answer is not plausible, or the network
is not sure of it, the region keeps its border and says so.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Image, Mask, PixelBox
from blemish.errors import BundleError
from blemish.geometry import mask_bounds
from blemish.imaging.prepare import match_channels, resize, to_unit
from blemish.inspection.bundle import Bundle
from blemish.inspection.engines import Engine, open_engine
from blemish.inspection.result import Region

SIDE = 128  # px of a window as the network sees it; smaller regions are seen at the image's own resolution
INPUTS = 7  # of the network: see `window_inputs`
MARGIN = 0.6  # a window's side is so much longer than its region's, and ...
MARGIN_PX = 24  # ... so many px
DEFECT = 0.6  # probability from which a pixel is part of the defect; at 0.5 thin ones come out too wide
# A new border is taken where the IoU that the network expects of it is SURE, or by GAINED more than what new and old
# border have in common: unlike any synthetic defect, a real one may get a border by guess that is worse than its own.
SURE, GAINED = 0.8, 0.5
MIN_PIXELS = 3
MAX_FILLED = 0.9  # share of its window that a defect may fill; beyond, its border was not found
MIN_PIECE = 0.1  # of the largest piece of a defect; smaller pieces are noise
MAX_REGIONS = 16  # of an image that are refined, the strongest; where there are more, something else is wrong
BATCH = 4  # windows that the network sees at a time
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
    def layers(self) -> list[FloatMap]:
        """The values in arrays of at most four channels, which OpenCV can remap."""
        parts = np.split(self.values, range(4, self.values.shape[2], 4), axis=2)
        return [np.ascontiguousarray(part) for part in parts]


@dataclass(frozen=True, slots=True)
class RefineWindow:
    """A square of an image, in pixels of it; it may reach beyond the image, which is then mirrored."""

    left: int
    top: int
    side: int

    def crop(self, pixels: Image, mirror: bool = True) -> Image:
        """The window of an array (H, W) or (H, W, C)."""
        height, width = pixels.shape[:2]
        y0, y1 = max(0, self.top), min(height, self.top + self.side)
        x0, x1 = max(0, self.left), min(width, self.left + self.side)
        crop = pixels[y0:y1, x0:x1]
        pad = [(y0 - self.top, self.top + self.side - y1), (x0 - self.left, self.left + self.side - x1)]
        if not any(map(any, pad)):
            return crop
        pads = pad + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(crop, pads, mode="symmetric") if mirror else np.pad(crop, pads)


class Refiner:
    """An opened network that refines regions; may be used from several threads at once."""

    def __init__(self, engine: Engine, memory: GoodMemory, levels: tuple[float, float]) -> None:
        self._engine, self._memory, self._levels = engine, memory, levels

    def refine(
        self, regions: Sequence[Region], image: Image, heat_map: FloatMap, valid: Mask | None = None
    ) -> list[Region]:
        """The regions of an image (H, W, C) with its heat map (H, W), each with the border of its defect.

        `refined` says whether a region got a new border. Regions that turn out to be one defect become one, with the
        higher score.
        """
        strongest = sorted(range(len(regions)), key=lambda i: -regions[i].score)[:MAX_REGIONS]
        refined = [replace(region, refined=False) for region in regions]
        for start in range(0, len(strongest), BATCH):
            chosen = strongest[start : start + BATCH]
            windows = [find_window(regions[i].box, heat_map.shape) for i in chosen]
            inputs = [
                window_inputs(image, heat_map, regions[i], window, self._memory, self._levels)
                for i, window in zip(chosen, windows, strict=True)
            ]
            outputs = self._engine.run(np.stack(inputs))
            assert outputs.mask_scores is not None
            for i, window, probabilities in zip(chosen, windows, outputs.mask_scores[:, 0], strict=True):
                refined[i] = new_border(regions[i], probabilities, window, heat_map.shape, valid)
        return _merge_same(refined)


def open_refiner(bundle: Bundle, engine: str = "onnxruntime", threads: int | None = None) -> Refiner | None:
    """The refiner of a bundle; None where it has none. BundleError where it is damaged."""
    refinement = bundle.manifest.refinement
    if refinement is None or not refinement.shipped:
        return None
    if refinement.graph not in bundle.extras or refinement.memory not in bundle.extras:
        raise BundleError(f"bundle {bundle.path} refines regions, and {refinement.graph} is missing from it")
    try:
        memory = np.load(io.BytesIO(bundle.extras[refinement.memory]), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleError(f"bundle {bundle.path}: {refinement.memory} is not an array") from error
    if memory.ndim != 3 or memory.shape[2] % 2 or memory.dtype != np.float16:
        raise BundleError(f"bundle {bundle.path}: {refinement.memory} holds no mean and deviation of an image")
    opened = open_engine(bundle.extras[refinement.graph], engine, threads)
    return Refiner(opened, GoodMemory(memory.astype(np.float32)), refinement.levels)


def pack_memory(memory: GoodMemory) -> bytes:
    """The memory as the bytes of a .npy file, float16."""
    stream = io.BytesIO()
    np.save(stream, memory.values.astype(np.float16), allow_pickle=False)
    return stream.getvalue()


def find_window(box: PixelBox, size: tuple[int, ...]) -> RefineWindow:
    """The window around a region's box in an image of `size` (height, width), within it where it fits."""
    x0, y0, x1, y1 = box
    side = max(SIDE, round(max(x1 - x0, y1 - y0) * (1 + MARGIN)) + MARGIN_PX)

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
    heat = _to_side(window.crop(heat_map))
    inside = _to_side(_region_in_window(region, window))
    level, spread, distance = _surroundings(view, (heat > levels[0]) | (inside > 0), heat)
    grey = _mean(view)
    good = _crop_memory(memory, window, heat_map.shape)
    mean, deviation = good[..., : memory.channels], good[..., memory.channels :]
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


def new_border(
    region: Region, probabilities: FloatMap, window: RefineWindow, size: tuple[int, ...], valid: Mask | None
) -> Region:
    """The region with the border by the probabilities (SIDE, SIDE) of its window, or with its own where they make no
    defect there: nothing that meets the region, nearly all of the window, or a guess."""
    height, width = size
    x0, y0 = max(0, window.left), max(0, window.top)
    x1, y1 = min(width, window.left + window.side), min(height, window.top + window.side)
    full = resize(probabilities[..., None], window.side, window.side)[..., 0]
    shown = np.s_[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left]
    defect = full[shown] >= DEFECT
    if valid is not None:
        defect &= valid[y0:y1, x0:x1]
    own = _region_in_window(region, window)
    core = own[shown]
    defect = _pieces_that_meet(defect, core)
    bounds = mask_bounds(defect)
    if bounds is None or not MIN_PIXELS <= defect.sum() <= MAX_FILLED * defect.size:
        return replace(region, refined=False)
    common = float((defect & core).sum() / (defect | core).sum())
    if expected_iou(probabilities, _to_side(own) > 0.5) < min(SURE, GAINED + common):
        return replace(region, refined=False)
    left, top, right, bottom = bounds
    mask = defect[top:bottom, left:right]
    return replace(region, box=(left + x0, top + y0, right + x0, bottom + y0), mask=mask, refined=True)


def expected_iou(probabilities: FloatMap, region: Mask) -> float:
    """The IoU of the defect by the probabilities (SIDE, SIDE) with the true one, if they are right.

    Pixels with at least DEFECT are the defect; of the others only those of the region (SIDE, SIDE) count.
    """
    defect = probabilities >= DEFECT
    missed = float(probabilities[region & ~defect].sum())
    return float(probabilities[defect].sum()) / max(float(defect.sum()) + missed, 1.0)


def _pieces_that_meet(defect: Mask, core: Mask) -> Mask:
    """The 8-connected pieces of a mask that meet the core, without those much smaller than the largest of them."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(defect.astype(np.uint8), connectivity=8)
    met = np.unique(labels[core & defect])
    if not len(met):
        return np.zeros_like(defect)
    areas = stats[met, cv2.CC_STAT_AREA]
    return np.isin(labels, met[areas >= MIN_PIECE * areas.max()])


def _merge_same(regions: list[Region]) -> list[Region]:
    """Regions of which two have pixels in common and one is refined become one region; all others stay."""
    merged: list[Region] = []
    for region in regions:
        for other in [one for one in merged if region.refined or one.refined]:
            if region.label == other.label and _overlap(region, other):
                merged.remove(other)
                region = _union(other, region)
        merged.append(region)
    return merged


def _overlap(one: Region, other: Region) -> bool:
    x0, y0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    x1, y1 = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if x0 >= x1 or y0 >= y1:
        return False
    first, second = (_mask_within(region, (x0, y0, x1, y1)) for region in (one, other))
    return bool((first & second).any())


def _union(one: Region, other: Region) -> Region:
    """Both regions as one: the pixels of the refined of them, or of both."""
    if one.refined != other.refined:
        kept = one if one.refined else other
        return replace(kept, score=max(one.score, other.score))
    x0, y0 = min(one.box[0], other.box[0]), min(one.box[1], other.box[1])
    x1, y1 = max(one.box[2], other.box[2]), max(one.box[3], other.box[3])
    mask = _mask_within(one, (x0, y0, x1, y1)) | _mask_within(other, (x0, y0, x1, y1))
    return replace(one, score=max(one.score, other.score), box=(x0, y0, x1, y1), mask=mask)


def _region_in_window(region: Region, window: RefineWindow) -> Mask:
    return _mask_within(region, (window.left, window.top, window.left + window.side, window.top + window.side))


def _mask_within(region: Region, box: PixelBox) -> Mask:
    """The region's pixels in a box that meets its own."""
    x0, y0, x1, y1 = box
    a, b, c, d = region.box
    mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
    left, top, right, bottom = max(a, x0), max(b, y0), min(c, x1), min(d, y1)
    own = np.ones((d - b, c - a), np.bool_) if region.mask is None else region.mask
    mask[top - y0 : bottom - y0, left - x0 : right - x0] = own[top - b : bottom - b, left - a : right - a]
    return mask


def _surroundings(view: FloatImage, near: Mask, heat: FloatMap) -> tuple[float, float, FloatMap]:
    """Grey level and spread of the surface around a region, and the Mahalanobis distance (SIDE, SIDE) of each pixel's
    colour to it; a twentieth of the surface, the most unusual, is left out."""
    around = view[~near]
    if len(around) < MIN_SURROUNDINGS:  # the region is nearly all of the window: its calmest part
        around = view[heat <= np.quantile(heat, 0.3)]
    around = around[:: max(1, len(around) // SURFACE_PIXELS)]
    centre = np.median(around, axis=0)
    differences = around - centre
    usual = np.quantile(np.abs(differences), 0.95, axis=0) + 1e-3
    differences = differences[(np.abs(differences) <= 1.5 * usual).all(axis=1)]
    covariance = differences.T @ differences / max(len(differences), 1)
    inverse = np.linalg.inv(covariance + NOISE**2 * np.eye(len(centre)))
    away = view - centre
    squared = np.einsum("ijk,ijk->ij", away @ inverse.astype(away.dtype), away)
    spread = float(around.mean(axis=1).std()) + 0.01
    return float(centre.mean()), spread, np.sqrt(np.maximum(squared, 0)).astype(np.float32)


def _crop_memory(memory: GoodMemory, window: RefineWindow, size: tuple[int, ...]) -> FloatMap:
    """The memory (SIDE, SIDE, 2 C) of the places that a window of an image of `size` (height, width) shows."""
    middles = (np.arange(SIDE) + 0.5) * window.side / SIDE
    height, width = memory.values.shape[:2]
    x = ((window.left + middles) / size[1] * width - 0.5).astype(np.float32)
    y = ((window.top + middles) / size[0] * height - 0.5).astype(np.float32)
    columns, rows = np.meshgrid(x, y)
    layers = [
        cv2.remap(layer, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for layer in memory.layers
    ]
    return np.concatenate([np.atleast_3d(layer) for layer in layers], axis=2)


def _mean(values: FloatImage) -> FloatMap:
    """Mean over the channels; as a product much faster than `mean`, which adds three values at a time."""
    channels = values.shape[2]
    return np.asarray(values @ np.full(channels, 1 / channels, values.dtype))


def _to_side(values: FloatMap | Mask) -> FloatMap:
    return np.asarray(resize(np.asarray(values, np.float32)[..., None], SIDE, SIDE)[..., 0], np.float32)
