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
from dataclasses import dataclass, replace
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
    window_around,
    window_inputs,
)
from blemish.inspection.regions import label_pieces, shift
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


@dataclass(frozen=True, slots=True)
class _Seen:
    """A region with the border that it has so far, of which one pixel of its window, of `step` px, is uncertain."""

    coarse: Region
    region: Region
    step: float

    @property
    def thin(self) -> bool:
        return bool(self.region.refined) and is_thin(self.region, self.step)


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
        windows = {i: find_window(regions[i].box, heat_map.shape) for i in strongest}
        shown = dict(
            zip(windows, self._look([(regions[i], windows[i]) for i in windows], image, heat_map), strict=True)
        )
        seen = [
            _Seen(region, new_border(region, shown[i], windows[i], heat_map.shape, valid), windows[i].side / SIDE)
            if i in windows
            else _Seen(region, replace(region, refined=False), 0.0)
            for i, region in enumerate(regions)
        ]
        seen = _merge_same(seen)
        if self._closer:
            seen = _merge_same(self._look_closer(seen, image, heat_map, valid))
        return [one.region for one in seen]

    def _look_closer(self, seen: list[_Seen], image: Image, heat_map: FloatMap, valid: Mask | None) -> list[_Seen]:
        """The same, those that are long and thin with the border that closer windows show."""
        thin = sum(one.thin for one in seen)
        most = max(MAX_CLOSER // max(thin, 1), MIN_CLOSER)
        closer = [closer_windows(one.region, one.step, heat_map.shape, most) if one.thin else [] for one in seen]
        looks = [(one.coarse, window) for one, own in zip(seen, closer, strict=True) for window, _ in own]
        shown = iter(self._look(looks, image, heat_map))
        return [
            replace(one, region=closer_border(one.region, own, list(islice(shown, len(own))), valid, one.step))
            if own
            else one
            for one, own in zip(seen, closer, strict=True)
        ]

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
    box = _within(window.left, window.top, window.side, size)
    core = mask_within(region, box)
    defect = _pieces_that_meet(_shown(probabilities, window, box) & _valid(valid, box), core)
    if not MIN_PIXELS <= np.count_nonzero(defect) <= MAX_FILLED * defect.size:
        return replace(region, refined=False)
    common = np.count_nonzero(defect & core) / np.count_nonzero(defect | core)
    if expected_iou(probabilities, _sampled(region_in_window(region, window))) < min(SURE, GAINED + common):
        return replace(region, refined=False)
    return _cut_out(region, defect, box)


def is_thin(region: Region, step: float) -> bool:
    """Whether a region is too narrow for its width to be seen in pixels of `step` px."""
    return step > 1 and region.mask is not None and region.mask.sum() <= THIN * step * max(region.mask.shape)


def closer_windows(
    region: Region, step: float, size: tuple[int, ...], most: int = MAX_CLOSER
) -> list[tuple[RefineWindow, PixelBox]]:
    """Windows of an image of `size` (height, width) and the box of each that its neighbours do not see better, at the
    image's own resolution, or as close as `most` of them show a region with one pixel of `step` px around it.

    None where it was seen that close.
    """
    assert region.mask is not None
    rows, columns = np.nonzero(region.mask)
    x0, y0, x1, y1 = region.box
    reach = math.ceil(step)
    for edge in range(EDGE, math.ceil(EDGE * step), EDGE // 2):
        middle = edge * SIDE // EDGE - 2 * edge
        counts = [math.ceil((length + 2 * reach) / middle) for length in region.mask.shape]
        left, top = (x0 + x1 - counts[1] * middle) // 2, (y0 + y1 - counts[0] * middle) // 2
        held = np.zeros(counts, np.bool_)
        for dy, dx in product((-reach, 0, reach), repeat=2):
            held[(rows + y0 + dy - top) // middle, (columns + x0 + dx - left) // middle] = True
        if np.count_nonzero(held) <= most:
            boxes = [_within(left + i * middle, top + j * middle, middle, size) for j, i in np.argwhere(held).tolist()]
            return [(window_around(box, edge * SIDE // EDGE, size), box) for box in boxes if _holds_pixels(box)]
    return []


def closer_border(
    region: Region,
    windows: Sequence[tuple[RefineWindow, PixelBox]],  # not empty
    shown: Sequence[FloatMap],
    valid: Mask | None,
    step: float,
) -> Region:
    """The region with the border by the probabilities (SIDE, SIDE) in the boxes of its closer windows.

    They make its own border exact, to which one pixel of the first window, of `step` px, is uncertain; they do not
    overrule it: a window that shows a corner of the defect may take surface for it. Where they lose part of its length,
    the region keeps its border.
    """
    x0, y0, x1, y1 = whole = _around([box for _, box in windows])
    defect = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for (window, box), probabilities in zip(windows, shown, strict=True):
        defect[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0] = _shown(probabilities, window, box)
    own, reach = mask_within(region, whole), math.ceil(step)
    near = cv2.dilate(own.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    defect = _pieces_that_meet(defect & near & _valid(valid, whole), own, smallest=0.0)
    if not defect.any():
        return region
    closer = _cut_out(region, defect, whole)
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


def _around(boxes: Sequence[PixelBox]) -> PixelBox:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _within(left: int, top: int, side: int, size: tuple[int, ...]) -> PixelBox:
    """The part of a square that is in the image; its ends lie before its begin where there is none."""
    return max(left, 0), max(top, 0), min(left + side, size[1]), min(top + side, size[0])


def _holds_pixels(box: PixelBox) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _shown(probabilities: FloatMap, window: RefineWindow, box: PixelBox) -> Mask:
    """Where the probabilities (SIDE, SIDE) of a window make a defect, in a box within it."""
    full = resize(probabilities[..., None], window.side, window.side)[..., 0]
    x0, y0, x1, y1 = box
    return np.asarray(full[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left] >= DEFECT)


def _valid(valid: Mask | None, box: PixelBox) -> Mask | bool:
    return True if valid is None else valid[box[1] : box[3], box[0] : box[2]]


def _sampled(mask: Mask) -> Mask:
    """The nearest pixels of a square mask, (SIDE, SIDE)."""
    places = ((np.arange(SIDE) + 0.5) * len(mask) / SIDE).astype(int)
    return np.asarray(mask[np.ix_(places, places)])


def _cut_out(region: Region, defect: Mask, box: PixelBox) -> Region:
    """The region with the pixels of a mask, not empty, of a box of the image."""
    bounds = mask_bounds(defect)
    assert bounds is not None
    left, top, right, bottom = bounds
    return shift(replace(region, box=bounds, mask=defect[top:bottom, left:right], refined=True), *box[:2])


def _pieces_that_meet(defect: Mask, core: Mask, smallest: float = MIN_PIECE) -> Mask:
    """The 8-connected pieces of a mask that meet the core, without those much smaller than the largest of them."""
    count, labels, stats = label_pieces(defect)
    met = np.bincount(labels[core & defect], minlength=count) > 0
    areas = np.where(met, stats[:, cv2.CC_STAT_AREA], 0)
    kept = met & (areas >= smallest * areas.max())
    return defect if kept[1:].all() else kept[labels]


def _merge_same(seen: Sequence[_Seen]) -> list[_Seen]:
    """Regions of which two have pixels in common and one is refined become one region; all others stay."""
    merged: list[_Seen] = []
    for one in seen:
        for other in [earlier for earlier in merged if one.region.refined or earlier.region.refined]:
            if one.region.label == other.region.label and _overlap(one.region, other.region):
                merged.remove(other)
                one = _union(other, one)
        merged.append(one)
    return merged


def _overlap(one: Region, other: Region) -> bool:
    x0, y0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    box = x0, y0, min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    return _holds_pixels(box) and bool((mask_within(one, box) & mask_within(other, box)).any())


def _union(one: _Seen, other: _Seen) -> _Seen:
    """Both regions as one: the pixels of the refined of them, or of both."""
    coarse = _both(one.coarse, other.coarse)
    if one.region.refined == other.region.refined:
        return _Seen(coarse, _both(one.region, other.region), max(one.step, other.step))
    kept = one if one.region.refined else other
    return _Seen(coarse, replace(kept.region, score=coarse.score), kept.step)


def _both(one: Region, other: Region) -> Region:
    """All pixels of two regions, with the higher score."""
    box = _around([one.box, other.box])
    mask = mask_within(one, box) | mask_within(other, box)
    return replace(one, score=max(one.score, other.score), box=box, mask=mask)
