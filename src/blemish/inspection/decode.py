"""From raw results to a score (higher is worse), a label, a heat map and candidate regions.

It goes by output kind, never by method:

| kind    | score                                  | label            | regions                                        |
|---------|----------------------------------------|------------------|------------------------------------------------|
| anomaly | anomaly_score                          | the defect class | hysteresis on the map                          |
| classes | 1 - P(good); largest P if none is good | likeliest defect | hysteresis on the defects' class map; of       |
|         |                                        |                  | windows, each class where it leads             |
| masks   | largest probability of a defect        | that of the peak | hysteresis on each class, where it leads       |
| boxes   | largest box score                      | that of the best | boxes from map_high, else review, else 0.5     |

A graph may give several kinds. The score is then the first of anomaly, classes, boxes and masks, the label that of
the first of classes, masks, boxes and anomaly, and the regions those of the first of masks, boxes and maps.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask
from blemish.inspection.manifest import Decision
from blemish.inspection.regions import regions_from_map
from blemish.inspection.result import Candidates, Region
from blemish.inspection.stitching import Found, badness, defect_names
from blemish.inspection.tile_merging import Boxes

Floats64 = NDArray[np.float64]
PROBABLE = 0.5  # threshold on probabilities where the decision has none


@dataclass(slots=True)
class Decoded:
    score: float
    label: str  # of the worst finding: what the image is called unless it passes
    regions: list[Region] = field(default_factory=list)
    heat_map: FloatMap | None = None  # (H, W) of the whole image
    class_scores: dict[str, float] | None = None  # of all classes
    candidates: Candidates | None = None  # boxes, whatever their score


@dataclass(slots=True)
class Scene:
    """What the decoders share: the image's size, the pixels that count (None: all), and the heat map, if any."""

    size: tuple[int, int]
    valid: Mask | None
    heat: FloatMap | None
    decision: Decision


def decode(found: Found, decision: Decision, size: tuple[int, int], valid: Mask | None) -> Decoded:
    """Results of an image of `size` (height, width) in which only `valid` pixels (H, W; None: all) count."""
    raw = found.heat if found.heat is not None or found.masks is None else found.masks.max(axis=0)
    heat = None if raw is None else _whole(raw, found, size, valid)
    scene = Scene(size, valid, heat, decision)
    anomaly = _anomaly(found, scene)
    classes = _classes(found, scene)
    boxes = _boxes(found, scene)
    masks = _masks(found, scene)
    scored = anomaly or classes or boxes or masks
    named = classes or masks or boxes or anomaly
    located = masks or boxes or anomaly or classes
    if scored is None or named is None or located is None:  # a bare map
        return Decoded(_peak(heat, valid), _defect(found), [], heat)
    score = _peak(heat, valid) if found.manifest.score_source == "map" and heat is not None else scored.score
    candidates = None if boxes is None else boxes.candidates
    return Decoded(score, named.label, located.regions, heat, named.class_scores, candidates)


def _anomaly(found: Found, scene: Scene) -> Decoded | None:
    if found.anomaly_score is None and (found.heat is None or found.class_scores is not None):
        return None
    label = _defect(found)
    if found.anomaly_score is None:
        score = _peak(scene.heat, scene.valid)
    else:
        score = _of_valid(found.anomaly_score, found, scene)
    return Decoded(score, label, _heat_regions(scene, label))


def _classes(found: Found, scene: Scene) -> Decoded | None:
    if found.class_scores is None:
        return None
    scores = dict(zip(found.manifest.classes, found.class_scores.tolist(), strict=True))
    label = max(defect_names(found.manifest), key=scores.__getitem__, default=_defect(found))
    if found.class_map is not None:
        regions = _class_regions(found, scene)
    else:
        regions = _heat_regions(scene, label) if found.heat is not None else []
    return Decoded(badness(found.class_scores, found.manifest), label, regions, class_scores=scores)


def _class_regions(found: Found, scene: Scene) -> list[Region]:
    """Regions of a classifier of windows: where a defect is likely, each class where it leads."""
    assert found.class_map is not None
    decision = scene.decision
    high = PROBABLE if decision.map_high is None else decision.map_high
    low = high if decision.map_low is None else min(high, decision.map_low)
    if scene.heat is None or not scene.heat.max() >= high:
        return []
    x0, y0, x1, y1 = found.area
    leading = np.full(scene.size, -1)
    leading[y0:y1, x0:x1] = found.class_map.argmax(axis=0)
    regions = []
    for index, name in enumerate(defect_names(found.manifest)):
        if (leading == index).any():
            own = np.where(leading == index, scene.heat, np.float32(-np.inf))
            regions += regions_from_map(own, low, high, decision.min_area_px, name, scene.valid, decision.edge)
    return regions


def _masks(found: Found, scene: Scene) -> Decoded | None:
    if found.masks is None:
        return None
    names = defect_names(found.manifest)
    high = PROBABLE if scene.decision.map_high is None else scene.decision.map_high
    low = high if scene.decision.map_low is None else min(high, scene.decision.map_low)
    x0, y0, x1, y1 = found.area
    inside = None if scene.valid is None else scene.valid[y0:y1, x0:x1]
    peaks = [_peak(layer, inside) for layer in found.masks]
    regions = []
    leading = found.masks.argmax(axis=0) if sum(peak >= high for peak in peaks) > 1 else None
    for index, (name, layer, peak) in enumerate(zip(names, found.masks, peaks, strict=True)):
        if peak >= high:
            own = layer if leading is None else np.where(leading == index, layer, -np.inf)
            whole = _whole(own, found, scene.size, scene.valid)
            regions += regions_from_map(whole, low, high, scene.decision.min_area_px, name, scene.valid)
    return Decoded(max(peaks), names[int(np.argmax(peaks))], regions)


def _boxes(found: Found, scene: Scene) -> Decoded | None:
    if found.boxes is None:
        return None
    boxes = found.boxes if scene.valid is None else found.boxes[_counting(found.boxes, scene.valid)]
    names = dict(enumerate(defect_names(found.manifest)))
    labels = [names.get(int(number), "defect") for number in boxes.labels]
    candidates = Candidates(boxes.corners, boxes.scores, labels, boxes.masks)
    if not len(boxes.scores):
        return Decoded(0.0, _defect(found), candidates=candidates)
    decision = scene.decision
    least = next((t for t in (decision.map_high, decision.review, decision.reject) if t is not None), PROBABLE)
    thresholds = {label: min(least, decision.class_thresholds.get(label, least)) for label in labels}
    order = [i for i in np.argsort(-boxes.scores, kind="stable") if boxes.scores[i] >= thresholds[labels[i]]]
    regions = [box_region(candidates, i, scene.size) for i in order]
    best = int(boxes.scores.argmax())
    kept = [r for r in regions if _remains(r, scene)]
    return Decoded(float(boxes.scores[best]), labels[best], kept, candidates=candidates)


def box_region(boxes: Candidates, index: int, size: tuple[int, int]) -> Region:
    """The region of one box: the pixels that it touches and, where it has a mask, which of them are in it."""
    x0, y0 = (int(v) for v in np.floor(boxes.corners[index, :2]).clip(0, (size[1] - 1, size[0] - 1)))
    x1, y1 = (int(v) for v in np.ceil(boxes.corners[index, 2:]).clip((x0 + 1, y0 + 1), (size[1], size[0])))
    mask = None
    if boxes.masks is not None:
        mask = _placed_mask(boxes.masks[index], boxes.corners[index], (x0, y0, x1, y1))
    return Region(boxes.labels[index], float(boxes.scores[index]), (x0, y0, x1, y1), mask)


def _placed_mask(mask: FloatMap, corners: Floats64, pixels: tuple[int, int, int, int]) -> Mask:
    """Which of the pixels x0 y0 x1 y1 lie in a mask (h, w) that fills a box of any corners (4,), by their centres."""
    x0, y0, x1, y1 = pixels
    sides = np.maximum(corners[2:] - corners[:2], 1e-6)
    across = (np.arange(x0, x1) + 0.5 - corners[0]) / sides[0]
    along = (np.arange(y0, y1) + 0.5 - corners[1]) / sides[1]
    inside = ((along >= 0) & (along < 1))[:, None] & ((across >= 0) & (across < 1))
    if not inside.any():  # a box narrower than a pixel
        return np.ones(inside.shape, np.bool_)
    x, y = np.meshgrid(across * mask.shape[1] - 0.5, along * mask.shape[0] - 0.5)
    found = cv2.remap(
        np.asarray(mask, np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray((found >= PROBABLE) & inside)


def _counting(boxes: Boxes, valid: Mask) -> Mask:
    """Which boxes lie, by half at least, on pixels that count."""
    corners = boxes.corners.round().astype(int)
    shares = [valid[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean() for x0, y0, x1, y1 in corners]
    return np.asarray(shares, np.float64) >= 0.5


def _remains(region: Region, scene: Scene) -> bool:
    """Cut a region's mask to the pixels that count; whether enough of it is left."""
    x0, y0, x1, y1 = region.box
    if region.mask is not None and scene.valid is not None:
        region.mask = region.mask & scene.valid[y0:y1, x0:x1]
    area = (x1 - x0) * (y1 - y0) if region.mask is None else int(region.mask.sum())
    return area > 0 and area >= scene.decision.min_area_px


def _heat_regions(scene: Scene, label: str) -> list[Region]:
    high = scene.decision.map_high
    if scene.heat is None or high is None or not scene.heat.max() >= high:
        return []
    low = high if scene.decision.map_low is None else min(high, scene.decision.map_low)
    decision = scene.decision
    return regions_from_map(scene.heat, low, high, decision.min_area_px, label, scene.valid, decision.edge)


def _whole(values: FloatMap, found: Found, size: tuple[int, int], valid: Mask | None) -> FloatMap:
    """The area's map as one of the whole image; pixels that do not count get the least value of those that do."""
    x0, y0, x1, y1 = found.area
    if valid is None and (y1 - y0, x1 - x0) == size:
        return values
    counts = None if valid is None else valid[y0:y1, x0:x1]
    floor = _range(values, counts)[0]
    whole = np.full(size, floor, np.float32)
    whole[y0:y1, x0:x1] = values if counts is None else np.where(counts, values, np.float32(floor))
    return whole


def _peak(values: FloatMap | None, valid: Mask | None) -> float:
    """Maximum over the pixels that count."""
    if values is None:
        return 0.0
    return float(values.max()) if valid is None else _range(values, valid)[1]


def _range(values: FloatMap, valid: Mask | None) -> tuple[float, float]:
    """Least and largest value over the pixels that count."""
    counts = None if valid is None else np.ascontiguousarray(valid).view(np.uint8)
    low, high, _, _ = cv2.minMaxLoc(values, counts)
    return float(low), float(high)


def _of_valid(score: float, found: Found, scene: Scene) -> float:
    """The graph's score, which knows nothing of pixels that do not count, cut down to what the others show.

    Where the map's peak lies on a pixel that does not count, the score shrinks as the peak does.
    """
    if scene.valid is None or scene.heat is None or found.heat is None or score <= 0:
        return score
    peak, counted = float(found.heat.max()), _peak(scene.heat, scene.valid)
    return score * max(0.0, counted / peak) if 0 < counted < peak else score


def _defect(found: Found) -> str:
    """What an anomaly is called: the defect class where there is just one."""
    names = defect_names(found.manifest)
    return names[0] if len(names) == 1 else "defect"
