"""Decode a raw prediction into a score (higher is worse), a label, a heat map and candidate regions.

Decoding depends on the kind of output, never on the method:

| kind    | score                                  | label            | regions                                        |
|---------|----------------------------------------|------------------|------------------------------------------------|
| anomaly | anomaly_score                          | the defect class | hysteresis on the map                          |
| classes | 1 - P(good); largest P if none is good | likeliest defect | hysteresis on the defects' class map; of       |
|         |                                        |                  | windows, each class where it leads             |
| masks   | largest probability of a defect        | that of the peak | hysteresis on each class, where it leads; on   |
|         |                                        |                  | all together where they exclude each other     |
| boxes   | largest box score                      | that of the best | boxes from map_high, else review, else 0.5     |

A graph may give several kinds. Then the score is that of the first of anomaly, classes, boxes and masks, the label that
of the first of classes, masks, boxes and anomaly, and the regions are those of the first of masks, boxes and maps.

Whether a pixel is a defect does not depend on how sure its class is: where the classes of masks exclude each other,
the sum of their probabilities is that of any defect. A region is one defect, with the class that has most of it, unless
several classes reach the threshold on their own: then each is a region, since a crack must not vanish in a stain.

Where the raw map is below `map_high` and the score is the graph's, no map of the image's size is made. Regions are
searched at the image's size: those of the coarse map, enlarged, would be other ones.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from blemish.arrays import Boxes, Flags, FloatArray, FloatMap, Mask, PixelBox
from blemish.dataset.sample import DEFECT
from blemish.inspection.lazy_map import LazyMap
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.regions import regions_from_map, shift
from blemish.inspection.result import Candidates, Region
from blemish.inspection.stitching import ImagePrediction, anomaly_label, defect_names, defect_probability

DEFAULT_THRESHOLD = 0.5  # on probabilities, where the decision has none


@dataclass(slots=True)
class DecodedImage:
    score: float
    label: str  # of the worst finding: the image's label unless it passes
    regions: list[Region] = field(default_factory=list)
    heat: LazyMap | None = None  # (H, W) of the whole image
    class_scores: dict[str, float] | None = None  # of all classes
    defect_scores: dict[str, float] | None = None  # of the defect classes, where the score is not that of one of them
    class_peaks: dict[str, float] | None = None  # of the defect classes, where the score is the largest of them
    candidates: Candidates | None = None  # boxes of any score

    @property
    def heat_map(self) -> FloatMap | None:
        """(H, W) of the whole image."""
        return None if self.heat is None else self.heat.values


@dataclass
class _Context:
    """The input of all decoders: the prediction, the image's size (height, width) and its valid pixels (None: all)."""

    prediction: ImagePrediction
    classes: list[str]
    defects: list[str]
    decision: Decision
    size: tuple[int, int]
    valid: Mask | None
    exclusive: bool  # the classes of masks exclude each other

    @cached_property
    def heat(self) -> LazyMap | None:
        """The heat map (H, W) of the image: the prediction's own, or its masks' probability of any defect."""
        maps = self.prediction.maps
        if (own := maps.get("heat_map")) is not None:
            return LazyMap(lambda: self.to_image_map(own.values), own.bound)
        if (masks := maps.get("mask_scores")) is not None:
            return LazyMap(lambda: self.to_image_map(_any_defect(masks.values, self.exclusive)), masks.bound)
        return None

    @property
    def heat_map(self) -> FloatMap | None:
        return None if self.heat is None else self.heat.values

    @property
    def map_high(self) -> float:
        return DEFAULT_THRESHOLD if self.decision.map_high is None else self.decision.map_high

    @property
    def map_low(self) -> float:
        return self.map_high if self.decision.map_low is None else min(self.map_high, self.decision.map_low)

    @property
    def anomaly_label(self) -> str:
        return anomaly_label(self.classes)

    def find_regions(self, values: FloatMap, label: str, valid: Mask | None, edge: float = 0.0) -> list[Region]:
        """Hysteresis on a map (h, w) by the decision's thresholds, among its valid pixels."""
        least = self.decision.min_area_px
        return regions_from_map(values, self.map_low, self.map_high, least, label, valid, edge)

    def to_image_map(self, values: FloatMap) -> FloatMap:
        """A map of the area as one of the image; invalid pixels get the smallest value of the valid ones."""
        x0, y0, x1, y1 = self.prediction.area
        if self.valid is None and (y1 - y0, x1 - x0) == self.size:
            return values
        valid = None if self.valid is None else self.valid[y0:y1, x0:x1]
        floor = _value_range(values, valid)[0]
        whole = np.full(self.size, floor, np.float32)
        whole[y0:y1, x0:x1] = values if valid is None else np.where(valid, values, np.float32(floor))
        return whole


def decode(
    prediction: ImagePrediction, manifest: Manifest, decision: Decision, size: tuple[int, int], valid: Mask | None
) -> DecodedImage:
    """Decode the prediction for an image of `size` (height, width); `valid` (H, W) are its valid pixels, None: all."""
    context = _Context(
        prediction, manifest.classes, defect_names(manifest.classes), decision, size, valid, manifest.exclusive_classes
    )
    heat = context.heat
    anomaly, classes = _decode_anomaly(context), _decode_classes(context)
    boxes, masks = _decode_boxes(context), _decode_masks(context)
    scored = anomaly or classes or boxes or masks
    named = classes or masks or boxes or anomaly
    located = masks or boxes or anomaly or classes
    if scored is None or named is None or located is None:  # only a map
        return DecodedImage(_peak(context.heat_map, valid), context.anomaly_label, [], heat)
    by_map = manifest.score_source == "map" and heat is not None
    score = _map_score(context, manifest) if by_map else scored.score
    if heat is not None and not math.isfinite(heat.bound) and np.isnan(heat.values).any():
        score = math.nan  # no region is found in such a map, and an engine's maximum may pass over what is no number
    candidates = None if boxes is None else boxes.candidates
    by_class = classes or (masks if scored is masks else None)
    defect_scores = None if by_class is None else by_class.defect_scores
    return DecodedImage(
        score,
        named.label,
        located.regions,
        heat,
        named.class_scores,
        defect_scores,
        scored.class_peaks if score == scored.score else None,
        candidates,
    )


def _decode_anomaly(context: _Context) -> DecodedImage | None:
    prediction = context.prediction
    if prediction.anomaly_score is None and ("heat_map" not in prediction.maps or prediction.class_scores is not None):
        return None
    score = _peak(context.heat_map, context.valid) if prediction.anomaly_score is None else _valid_score(context)
    return DecodedImage(score, context.anomaly_label, _heat_map_regions(context, context.anomaly_label))


def _decode_classes(context: _Context) -> DecodedImage | None:
    prediction = context.prediction
    if prediction.class_scores is None:
        return None
    scores = dict(zip(context.classes, prediction.class_scores.tolist(), strict=True))
    label = max(context.defects, key=scores.__getitem__, default=context.anomaly_label)
    if "class_map" in prediction.maps:
        regions = _class_map_regions(context)
    else:
        regions = _heat_map_regions(context, label) if "heat_map" in prediction.maps else []
    score = defect_probability(prediction.class_scores, context.classes)
    own = {name: scores[name] for name in context.defects}
    return DecodedImage(score, label, regions, class_scores=scores, defect_scores=own)


def _class_map_regions(context: _Context) -> list[Region]:
    """Regions of a window classifier: windows that probably have a defect, each with its most probable class."""
    heat_map = _reaching(context.heat, context.map_high)
    class_map = None if heat_map is None else context.prediction.class_map
    if class_map is None or heat_map is None:
        return []
    x0, y0, x1, y1 = context.prediction.area
    likeliest = np.full(context.size, -1)
    likeliest[y0:y1, x0:x1] = class_map.argmax(axis=0)
    regions = []
    for index, name in enumerate(context.defects):
        if (likeliest == index).any():
            own = np.where(likeliest == index, heat_map, np.float32(-np.inf))
            regions += context.find_regions(own, name, context.valid, context.decision.edge)
    return regions


def _decode_masks(context: _Context) -> DecodedImage | None:
    scores = context.prediction.mask_scores
    if scores is None:
        return None
    if context.exclusive and len(scores) > 1:
        return _decode_exclusive_masks(context, scores)
    high = context.map_high
    x0, y0, x1, y1 = context.prediction.area
    valid = None if context.valid is None else context.valid[y0:y1, x0:x1]
    peaks = [_peak(layer, valid) for layer in scores]
    regions = []
    likeliest = scores.argmax(axis=0) if sum(peak >= high for peak in peaks) > 1 else None
    for index, (name, layer, peak) in enumerate(zip(context.defects, scores, peaks, strict=True)):
        if peak >= high:
            own = layer if likeliest is None else np.where(likeliest == index, layer, -np.inf)
            regions += context.find_regions(context.to_image_map(own), name, context.valid)
    by_class = dict(zip(context.defects, peaks, strict=True))
    return DecodedImage(max(peaks), context.defects[int(np.argmax(peaks))], regions, class_peaks=by_class)


def _decode_exclusive_masks(context: _Context, scores: FloatMap) -> DecodedImage:
    """Regions of all classes together, each with its class and the score of that; `scores` is (K, h, w) of the area."""
    x0, y0, x1, y1 = context.prediction.area
    assert context.heat_map is not None
    heat = context.heat_map[y0:y1, x0:x1]
    valid = None if context.valid is None else context.valid[y0:y1, x0:x1]
    peak, regions = _peak(heat, valid), []
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    label = int(scores[:, row, column].argmax())
    if peak >= context.map_high:
        for region in context.find_regions(heat, context.anomaly_label, valid):
            left, top, right, bottom = region.box
            within = np.s_[top:bottom, left:right]
            for index, part in _split_by_class(region, scores[:, *within], heat[within], context):
                a, b, c, d = part.box
                if part.mask is None or (a <= column < c and b <= row < d and part.mask[row - b, column - a]):
                    label = index
                own = float(scores[index, b:d, a:c][part.mask].max())
                regions.append(shift(replace(part, label=context.defects[index], score=own), x0, y0))
    peaks = {name: _peak(layer, valid) for name, layer in zip(context.defects, scores, strict=True)}
    return DecodedImage(peak, context.defects[label], regions, defect_scores=peaks)


def _split_by_class(region: Region, scores: FloatMap, heat: FloatMap, context: _Context) -> list[tuple[int, Region]]:
    """A region with its likeliest class, or its parts where several classes reach the threshold on their own.

    `scores` (K, h, w) and `heat` (h, w) are those of the region's box.
    """
    own = scores[:, region.mask]
    sure = np.flatnonzero(own.max(axis=1) >= context.map_high)
    whole = [(int(sure[0] if len(sure) == 1 else own.sum(axis=1).argmax()), region)]
    if len(sure) < 2:
        return whole
    leading = sure[scores[sure].argmax(axis=0)]
    left, top = region.box[:2]
    parts = []
    for index in sure.tolist():
        layer = np.where(region.mask & (leading == index), heat, np.float32(-np.inf))
        parts += [(index, shift(part, left, top)) for part in context.find_regions(layer, region.label, None)]
    return parts or whole  # where each part is too small to count, the whole still is a defect


def _decode_boxes(context: _Context) -> DecodedImage | None:
    boxes = context.prediction.detections
    if boxes is None:
        return None
    if context.valid is not None:
        boxes = boxes[_mostly_valid(boxes.corners, context.valid)]
    labels = [box_label(context.defects, int(number)) for number in boxes.labels]
    candidates = Candidates(boxes.corners, boxes.scores, labels, boxes.masks)
    if not len(boxes.scores):
        return DecodedImage(0.0, context.anomaly_label, candidates=candidates)
    decision = context.decision
    given = (t for t in (decision.map_high, decision.review, decision.reject) if t is not None)
    lowest = next(given, DEFAULT_THRESHOLD)
    thresholds = {label: min(lowest, decision.class_thresholds.get(label, lowest)) for label in labels}
    order = [i for i in np.argsort(-boxes.scores, kind="stable") if boxes.scores[i] >= thresholds[labels[i]]]
    regions = [box_region(candidates, i, context.size) for i in order]
    regions = [region for region in regions if _cut_to_valid(region, context)]
    best = int(boxes.scores.argmax())
    peaks = {label: float(boxes.scores[np.array(labels) == label].max()) for label in sorted(set(labels))}
    return DecodedImage(float(boxes.scores[best]), labels[best], regions, class_peaks=peaks, candidates=candidates)


def box_label(defects: list[str], number: int) -> str:
    """The label of a box by the number of its class among the defects."""
    return defects[number] if 0 <= number < len(defects) else DEFECT


def box_region(boxes: Candidates, index: int, size: tuple[int, int]) -> Region:
    """The region of one box in an image of `size`: the pixels it touches and, where it has a mask, which are in it."""
    x0, y0 = (int(v) for v in np.floor(boxes.corners[index, :2]).clip(0, (size[1] - 1, size[0] - 1)))
    x1, y1 = (int(v) for v in np.ceil(boxes.corners[index, 2:]).clip((x0 + 1, y0 + 1), (size[1], size[0])))
    mask = None
    if boxes.masks is not None:
        mask = _sample_mask(boxes.masks[index], boxes.corners[index], (x0, y0, x1, y1))
    return Region(boxes.labels[index], float(boxes.scores[index]), (x0, y0, x1, y1), mask)


def _sample_mask(mask: FloatArray, corners: Boxes, pixels: PixelBox) -> Mask:
    """Which of the pixels x0 y0 x1 y1 are in a mask (h, w) that fills a box (4,) of any corners, by their centres."""
    x0, y0, x1, y1 = pixels
    sides = np.maximum(corners[2:] - corners[:2], 1e-6)
    columns = (np.arange(x0, x1) + 0.5 - corners[0]) / sides[0]
    rows = (np.arange(y0, y1) + 0.5 - corners[1]) / sides[1]
    inside = ((rows >= 0) & (rows < 1))[:, None] & ((columns >= 0) & (columns < 1))
    if not inside.any():  # a box narrower than a pixel
        return np.ones(inside.shape, np.bool_)
    x, y = np.meshgrid(columns * mask.shape[1] - 0.5, rows * mask.shape[0] - 0.5)
    probabilities = cv2.remap(
        np.asarray(mask, np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray((probabilities >= DEFAULT_THRESHOLD) & inside)


def _mostly_valid(boxes: Boxes, valid: Mask) -> Flags:
    """Which boxes (M, 4) cover valid pixels by at least half."""
    corners = boxes.round().astype(int)
    shares = [valid[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean() for x0, y0, x1, y1 in corners]
    return np.asarray(shares, np.float64) >= 0.5


def _cut_to_valid(region: Region, context: _Context) -> bool:
    """Cut a region's mask to the valid pixels; whether enough of it remains."""
    x0, y0, x1, y1 = region.box
    if region.mask is not None and context.valid is not None:
        region.mask = region.mask & context.valid[y0:y1, x0:x1]
    return region.area > 0 and region.area >= context.decision.min_area_px


def _heat_map_regions(context: _Context, label: str) -> list[Region]:
    high = context.decision.map_high
    heat_map = None if high is None else _reaching(context.heat, high)
    if heat_map is None or high is None:
        return []
    return context.find_regions(heat_map, label, context.valid, context.decision.edge)


def _reaching(heat: LazyMap | None, threshold: float) -> FloatMap | None:
    """The heat map (H, W) where some of it is at or above a threshold; it is not made where its bound is below."""
    if heat is None or heat.bound < threshold:
        return None
    return heat.values if heat.values.max() >= threshold else None


def _any_defect(layers: FloatMap, exclusive: bool) -> FloatMap:
    """Probability of any defect at each pixel from those of the classes (K, h, w)."""
    if len(layers) == 1:
        return np.asarray(layers[0])
    return np.minimum(layers.sum(axis=0), 1, dtype=np.float32) if exclusive else np.asarray(layers.max(axis=0))


def _peak(values: FloatMap | None, valid: Mask | None) -> float:
    """Maximum over the valid pixels."""
    if values is None:
        return 0.0
    return float(values.max()) if valid is None else _value_range(values, valid)[1]


def _map_score(context: _Context, manifest: Manifest) -> float:
    """The mean of the worst valid pixels of the heat map, as many as are a share of what the graph sees at a time."""
    x0, y0, x1, y1 = context.prediction.area
    tiling = manifest.tiling
    seen = (y1 - y0) * (x1 - x0) if tiling is None else tiling.height * tiling.width
    count = round(manifest.worst_share * seen)
    if count <= 1 or context.heat_map is None:
        return _peak(context.heat_map, context.valid)
    values = context.heat_map[y0:y1, x0:x1]
    values = values.ravel() if context.valid is None else values[context.valid[y0:y1, x0:x1]]
    count = min(count, len(values))
    return float(np.partition(values, -count)[-count:].mean()) if count else 0.0


def _value_range(values: FloatMap, valid: Mask | None) -> tuple[float, float]:
    """Minimum and maximum over the valid pixels; NaN where one of them is, which OpenCV passes over."""
    if np.isnan(values.sum()) and np.isnan(values if valid is None else values[valid]).any():
        return float("nan"), float("nan")
    low, high, _, _ = cv2.minMaxLoc(values, None if valid is None else np.ascontiguousarray(valid).view(np.uint8))
    return float(low), float(high)


def _valid_score(context: _Context) -> float:
    """The graph's score, reduced where it is based on invalid pixels, which the graph does not know.

    Where the map's peak is on an invalid pixel, the score shrinks in proportion to the peak.
    """
    prediction, valid = context.prediction, context.valid
    assert prediction.anomaly_score is not None
    x0, y0, x1, y1 = prediction.area
    all_valid = valid is None or bool(valid[y0:y1, x0:x1].all())
    if all_valid or "heat_map" not in prediction.maps or prediction.anomaly_score <= 0:
        return prediction.anomaly_score
    peak, valid_peak = _peak(prediction.heat_map, None), _peak(context.heat_map, valid)
    shrinks = 0 < valid_peak < peak
    return prediction.anomaly_score * max(0.0, valid_peak / peak) if shrinks else prediction.anomaly_score
