"""Refine regions of an anomaly map to the defect's own border, at the image's own resolution.

A map blurs: it shows a scratch several times as wide as it is. A small network, taught on the good images of the bundle
with synthetic defects of exact masks, sees a window of the image around each region and says which of its pixels are
the defect. A long thin defect is seen a second time, piece by piece at the image's own resolution, since the window
that holds all of it shows it too small for its width. Only regions cost time; an image without any costs none. Where
the answer is not plausible, or the network is not sure of it, the region keeps its border and says so.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

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
# Closer windows of all thin regions of an image, but of each at least MIN_CLOSER; a longer one is seen as close as so
# many show it.
MAX_CLOSER, MIN_CLOSER = 24, 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A region as the map shows it and with its first border, to which one pixel of its window, of `step` px, is
    uncertain; `step` is 0 where it got none."""

    coarse: Region
    region: Region
    step: float

    @property
    def thin(self) -> bool:
        return is_thin(self.region, self.step)


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
        shown = self._look([(regions[i], window) for i, window in windows.items()], image, heat_map)
        refined = [replace(region, refined=False) for region in regions]
        for (i, window), probabilities in zip(windows.items(), shown, strict=True):
            refined[i] = new_border(regions[i], probabilities, window, heat_map.shape, valid)
        if self._closer:
            steps = [windows[i].side / SIDE if region.refined else 0.0 for i, region in enumerate(refined)]
            seen = [_Seen(*one) for one in zip(regions, refined, steps, strict=True)]
            refined = self._look_closer(_merge(seen, _union_to_look_at), image, heat_map, valid)
        return _merge(refined, _union)

    def _look_closer(self, seen: Sequence[_Seen], image: Image, heat_map: FloatMap, valid: Mask | None) -> list[Region]:
        """The regions, those that are long and thin with the border that closer windows show."""
        most = max(MAX_CLOSER // max(sum(one.thin for one in seen), 1), MIN_CLOSER)
        closer = [closer_windows(one.region, one.step, heat_map.shape, most) if one.thin else [] for one in seen]
        looks = [(one.coarse, window) for one, own in zip(seen, closer, strict=True) for window, _ in own]
        shown = iter(self._look(looks, image, heat_map))
        return [
            closer_border(one.region, own, list(islice(shown, len(own))), valid, one.step) if own else one.region
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
    box = window.within(size)
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
    """At most `most` windows of an image of `size` (height, width), at its own resolution or as close as so many show
    all of a region; with the box that each answers for. The boxes hold the region and, where the windows let them, one
    pixel of `step` px around it.

    No windows where it was seen as close before. `region` has a mask.
    """
    assert region.mask is not None
    rows, columns = np.nonzero(region.mask)
    x0, y0, x1, y1 = region.box
    edge = EDGE
    while edge < EDGE * step:
        side = edge * SIDE // EDGE
        middle = side - 2 * edge
        counts = [math.ceil(length / middle) for length in region.mask.shape]
        if max(counts) <= most:
            left, top = (x0 + x1 - counts[1] * middle) // 2, (y0 + y1 - counts[0] * middle) // 2
            held = np.zeros(counts, np.bool_)
            held[(rows + y0 - top) // middle, (columns + x0 - left) // middle] = True
            if np.count_nonzero(held) <= most:
                boxes = _answered(held, left, top, middle, min(math.ceil(step), edge // 2), size)
                return [(window_around(box, side, size), box) for box in boxes]
        edge += EDGE // 2 * max(1, edge // (4 * EDGE))
    return []


def _answered(held: Mask, left: int, top: int, middle: int, room: int, size: tuple[int, ...]) -> list[PixelBox]:
    """The boxes of a grid's cells that are held, each with room on those sides where the next is not."""
    padded = np.pad(held, 1)
    boxes = []
    for j, i in np.argwhere(held).tolist():
        before, after = (padded[j + 1, i], padded[j, i + 1]), (padded[j + 1, i + 2], padded[j + 2, i + 1])
        x0, y0 = left + i * middle, top + j * middle
        boxes.append(
            (
                max(x0 - room * (not before[0]), 0),
                max(y0 - room * (not before[1]), 0),
                min(x0 + middle + room * (not after[0]), size[1]),
                min(y0 + middle + room * (not after[1]), size[0]),
            )
        )
    return boxes


def closer_border(
    region: Region,
    windows: Sequence[tuple[RefineWindow, PixelBox]],  # not empty
    shown: Sequence[FloatMap],
    valid: Mask | None,
    step: float,
) -> Region:
    """The region with the border by the probabilities (SIDE, SIDE) in the boxes of its closer windows.

    They make its own border exact, to which one pixel of the first window, of `step` px, is uncertain; they do not
    overrule it: a window that shows only a corner of the defect, or its inside, may take surface for it or it for
    surface. What is deeper than two such pixels stays part of it. Where they lose part of its length, the region
    keeps its border.
    """
    x0, y0, x1, y1 = whole = _around([box for _, box in windows])
    defect = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for (window, box), probabilities in zip(windows, shown, strict=True):
        defect[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0] = _shown(probabilities, window, box)
    own, reach = mask_within(region, whole), math.ceil(step)
    near = _moved_border(cv2.dilate, own, reach)
    sure = _moved_border(cv2.erode, own, 2 * reach)
    defect = _pieces_that_meet(((defect & near) | sure) & _valid(valid, whole), own, smallest=0.0)
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


def _moved_border(change: Callable[..., Any], mask: Mask, reach: int) -> Mask:
    """A mask grown or shrunk by `reach` px in all directions, though not from the edges of its array."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.asarray(change(mask.astype(np.uint8), kernel) > 0)


def _around(boxes: Sequence[PixelBox]) -> PixelBox:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


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


def _merge(found: Sequence[T], union: Callable[[T, T], T | None]) -> list[T]:
    """Those of which there is a union become it; all others stay."""
    merged: list[T] = []
    for one in found:
        for other in list(merged):
            both = union(other, one)
            if both is not None:
                merged.remove(other)
                one = both
        merged.append(one)
    return merged


def _union_to_look_at(one: _Seen, other: _Seen) -> _Seen | None:
    """Two refined regions that are one, unless one of them is thin and both together are not, which would hide it from
    a closer look. One that is not refined waits for the final border: it may only meet the first."""
    region = _union(one.region, other.region) if one.region.refined and other.region.refined else None
    if region is None:
        return None
    both = _Seen(_both(one.coarse, other.coarse), region, max(one.step, other.step))
    return both if both.thin or not (one.thin or other.thin) else None


def _union(one: Region, other: Region) -> Region | None:
    """Two regions of which one is refined and which have pixels in common, as one: the pixels of the refined of them,
    or of both."""
    if one.label != other.label or not (one.refined or other.refined) or not _overlap(one, other):
        return None
    if one.refined == other.refined:
        return _both(one, other)
    return replace(one if one.refined else other, score=max(one.score, other.score))


def _both(one: Region, other: Region) -> Region:
    """All pixels of two regions, with the higher score."""
    box = _around([one.box, other.box])
    mask = mask_within(one, box) | mask_within(other, box)
    return replace(one, score=max(one.score, other.score), box=box, mask=mask)


def _overlap(one: Region, other: Region) -> bool:
    x0, y0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    x1, y1 = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if x0 >= x1 or y0 >= y1:
        return False
    return bool((mask_within(one, (x0, y0, x1, y1)) & mask_within(other, (x0, y0, x1, y1))).any())
