"""Refine regions of an anomaly map to the defect's own border, at the image's own resolution.

A map blurs: it shows a scratch several times as wide as it is. A small network, taught on the good images of the bundle
with synthetic defects of exact masks, sees a window of the image around each region and says which of its pixels are
the defect. A long thin defect is seen a second time, piece by piece at the image's own resolution, since the window
that holds all of it shows it too small for its width. Only regions cost time; an image without any costs none. Where
the answer is not plausible, or the network is not sure of it, the region keeps its border and says so.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product

import cv2
import numpy as np

from blemish.arrays import FloatMap, Image, Mask, PixelBox
from blemish.errors import BundleError
from blemish.geometry import mask_bounds
from blemish.imaging.prepare import resize
from blemish.inspection.bundle import Bundle
from blemish.inspection.engines import Engine, open_engine
from blemish.inspection.refine_window import (
    SIDE,
    GoodMemory,
    RefineWindow,
    find_window,
    mask_within,
    region_in_window,
    to_side,
    window_inputs,
)
from blemish.inspection.regions import shift
from blemish.inspection.result import Region

DEFECT = 0.6  # probability from which a pixel is part of the defect; at 0.5 thin ones come out too wide
# A new border is taken where the IoU that the network expects of it is SURE, or by GAINED more than what new and old
# border have in common: unlike any synthetic defect, a real one may get a border by guess that is worse than its own.
SURE, GAINED = 0.8, 0.5
MIN_PIXELS = 3
MAX_FILLED = 0.9  # share of its window that a defect may fill; beyond, its border was not found
MIN_PIECE = 0.1  # of the largest piece of a defect; smaller pieces are noise
MAX_REGIONS = 16  # of an image that are refined, the strongest; where there are more, something else is wrong
BATCH = 4  # windows that the network sees at a time
THIN = 8  # px of a window: a defect that is narrower there is seen closer
EDGE = 16  # px of a closer window that only show the surroundings
# Closer windows of all regions of an image, and of one of many; a longer defect is seen as close as so many show it.
MAX_CLOSER, MIN_CLOSER = 24, 4


class Refiner:
    """An opened network that refines regions; may be used from several threads at once.

    `closer`: it was taught on closer windows too, and sees long thin defects a second time in them.
    """

    def __init__(self, engine: Engine, memory: GoodMemory, levels: tuple[float, float], closer: bool = True) -> None:
        self._engine, self._memory, self._levels, self._closer = engine, memory, levels, closer

    def refine(
        self, regions: Sequence[Region], image: Image, heat_map: FloatMap, valid: Mask | None = None
    ) -> list[Region]:
        """The regions of an image (H, W, C) with its heat map (H, W), each with the border of its defect.

        `refined` says whether a region got a new border. Regions that turn out to be one defect become one, with the
        higher score.
        """
        strongest = sorted(range(len(regions)), key=lambda i: -regions[i].score)[:MAX_REGIONS]
        refined = [replace(region, refined=False) for region in regions]
        windows = {i: find_window(regions[i].box, heat_map.shape) for i in strongest}
        shown = self._look([(regions[i], window) for i, window in windows.items()], image, heat_map)
        for (i, window), probabilities in zip(windows.items(), shown, strict=True):
            refined[i] = new_border(regions[i], probabilities, window, heat_map.shape, valid)
        if self._closer:
            self._look_closer(regions, refined, windows, image, heat_map, valid)
        return _merge_same(refined)

    def _look_closer(
        self,
        regions: Sequence[Region],
        refined: list[Region],
        windows: dict[int, RefineWindow],
        image: Image,
        heat_map: FloatMap,
        valid: Mask | None,
    ) -> None:
        """Give those of the refined regions that are long and thin the border that closer windows show."""
        sure = [i for i in windows if refined[i].refined]
        most = max(MAX_CLOSER // max(len(sure), 1), MIN_CLOSER)
        closer = {i: closer_windows(refined[i], windows[i], most) for i in sure}
        shown = iter(self._look([(regions[i], w) for i, own in closer.items() for w in own], image, heat_map))
        for i, own in closer.items():
            if own:
                borders, step = list(islice(shown, len(own))), windows[i].side / SIDE
                refined[i] = closer_border(refined[i], own, borders, heat_map.shape, valid, step)

    def _look(self, looks: Sequence[tuple[Region, RefineWindow]], image: Image, heat_map: FloatMap) -> list[FloatMap]:
        """Probabilities (SIDE, SIDE) of the defect of a region in each window."""
        shown: list[FloatMap] = []
        for start in range(0, len(looks), BATCH):
            some = looks[start : start + BATCH]
            inputs = [window_inputs(image, heat_map, *look, self._memory, self._levels) for look in some]
            outputs = self._engine.run(np.stack(inputs))
            assert outputs.mask_scores is not None
            shown += list(outputs.mask_scores[:, 0])
        return shown


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
    return Refiner(opened, GoodMemory(memory.astype(np.float32)), refinement.levels, refinement.closer)


def pack_memory(memory: GoodMemory) -> bytes:
    """The memory as the bytes of a .npy file, float16."""
    stream = io.BytesIO()
    np.save(stream, memory.values.astype(np.float16), allow_pickle=False)
    return stream.getvalue()


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
    own = region_in_window(region, window)
    core = own[shown]
    defect = _pieces_that_meet(defect, core)
    if not MIN_PIXELS <= defect.sum() <= MAX_FILLED * defect.size:
        return replace(region, refined=False)
    common = float((defect & core).sum() / (defect | core).sum())
    if expected_iou(probabilities, to_side(own) > 0.5) < min(SURE, GAINED + common):
        return replace(region, refined=False)
    return _cut_out(region, defect, x0, y0)


def closer_windows(region: Region, window: RefineWindow, most: int = MAX_CLOSER) -> list[RefineWindow]:
    """Windows whose middles hold all pixels of a thin region found in a larger one: at the image's own resolution, or
    as close as `most` of them show it; none where it was seen that close, or is not thin.
    """
    x0, y0, x1, y1 = region.box
    step = window.side / SIDE
    if region.mask is None or region.mask.sum() > THIN * step * max(region.mask.shape):
        return []
    for edge in range(EDGE, math.ceil(EDGE * step), EDGE // 2):
        side = edge * SIDE // EDGE
        middle = side - 2 * edge
        rows, columns = (math.ceil(length / middle) for length in region.mask.shape)
        left, top = (x0 + x1 - columns * middle) // 2, (y0 + y1 - rows * middle) // 2
        places = [(left + i * middle, top + j * middle) for j, i in product(range(rows), range(columns))]
        held = [(x, y) for x, y in places if mask_within(region, (x, y, x + middle, y + middle)).any()]
        if len(held) <= most:
            return [RefineWindow(x - edge, y - edge, side) for x, y in held]
    return []


def closer_border(
    region: Region,
    windows: Sequence[RefineWindow],  # not empty
    shown: Sequence[FloatMap],
    size: tuple[int, ...],
    valid: Mask | None,
    step: float,
) -> Region:
    """The region with the border by the probabilities (SIDE, SIDE) of the middles of its closer windows.

    They make its own border exact, to which one pixel of the first window, of `step` px, is uncertain; they do not
    overrule it: a window that shows a corner of the defect may take surface for it. Where they lose part of its length,
    the region keeps its border.
    """
    edge = windows[0].side * EDGE // SIDE
    middle = windows[0].side - 2 * edge
    left, top = min(window.left for window in windows) + edge, min(window.top for window in windows) + edge
    right, bottom = max(window.left for window in windows) + edge, max(window.top for window in windows) + edge
    defect = np.zeros((bottom - top + middle, right - left + middle), np.bool_)
    for window, probabilities in zip(windows, shown, strict=True):
        full = resize(probabilities[..., None], window.side, window.side)[edge:-edge, edge:-edge, 0]
        x, y = window.left + edge - left, window.top + edge - top
        defect[y : y + middle, x : x + middle] = full >= DEFECT
    x0, y0 = max(0, left), max(0, top)
    defect = defect[y0 - top : size[0] - top, x0 - left : size[1] - left]
    x1, y1 = x0 + defect.shape[1], y0 + defect.shape[0]
    if valid is not None:
        defect &= valid[y0:y1, x0:x1]
    own, reach = mask_within(region, (x0, y0, x1, y1)), math.ceil(step)
    defect &= cv2.dilate(own.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    defect = _pieces_that_meet(defect, own, smallest=0.0)
    if not defect.any():
        return region
    closer = _cut_out(region, defect, x0, y0)
    return closer if _longest(closer.box) >= _longest(region.box) - 2 * reach else region


def expected_iou(probabilities: FloatMap, region: Mask) -> float:
    """The IoU of the defect by the probabilities (SIDE, SIDE) with the true one, if they are right.

    Pixels with at least DEFECT are the defect; of the others only those of the region (SIDE, SIDE) count.
    """
    defect = probabilities >= DEFECT
    missed = float(probabilities[region & ~defect].sum())
    return float(probabilities[defect].sum()) / max(float(defect.sum()) + missed, 1.0)


def _longest(box: PixelBox) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _cut_out(region: Region, defect: Mask, x0: int, y0: int) -> Region:
    """The region with the pixels of a mask, not empty, that begins at (x0, y0) of the image."""
    bounds = mask_bounds(defect)
    assert bounds is not None
    left, top, right, bottom = bounds
    return shift(replace(region, box=bounds, mask=defect[top:bottom, left:right], refined=True), x0, y0)


def _pieces_that_meet(defect: Mask, core: Mask, smallest: float = MIN_PIECE) -> Mask:
    """The 8-connected pieces of a mask that meet the core, without those much smaller than the largest of them."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(defect.astype(np.uint8), connectivity=8)
    met = np.unique(labels[core & defect])
    if not len(met):
        return np.zeros_like(defect)
    areas = stats[met, cv2.CC_STAT_AREA]
    return np.isin(labels, met[areas >= smallest * areas.max()])


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
    first, second = (mask_within(region, (x0, y0, x1, y1)) for region in (one, other))
    return bool((first & second).any())


def _union(one: Region, other: Region) -> Region:
    """Both regions as one: the pixels of the refined of them, or of both."""
    if one.refined != other.refined:
        kept = one if one.refined else other
        return replace(kept, score=max(one.score, other.score))
    x0, y0 = min(one.box[0], other.box[0]), min(one.box[1], other.box[1])
    x1, y1 = max(one.box[2], other.box[2]), max(one.box[3], other.box[3])
    mask = mask_within(one, (x0, y0, x1, y1)) | mask_within(other, (x0, y0, x1, y1))
    return replace(one, score=max(one.score, other.score), box=(x0, y0, x1, y1), mask=mask)
