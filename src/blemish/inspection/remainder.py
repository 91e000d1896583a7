"""The score of an image without the regions that rules ignore.

An ignored region takes with it what it has given to the score, and nothing else: a defect that is no region, because it
is too small or its map stays below `map_high`, keeps its score, as do other regions. Of boxes, the ignored ones are
left out. Of maps, the pixels of ignored regions are as if they were not inspected, with the slopes of the map around
them: pixels that are connected with the region at or above the threshold in question, and do not belong to another
peak.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.arrays import Flags, FloatMap, Mask
from blemish.inspection.decide import get_thresholds, reduce_score, score_unit
from blemish.inspection.decode import DEFAULT_THRESHOLD, DecodedImage, box_label, decode
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.regions import label_pieces, region_mask
from blemish.inspection.result import Region
from blemish.inspection.stitching import ImagePrediction, defect_names
from blemish.inspection.tile_merging import DetectedBoxes


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """The input and the output of `decode` for an image."""

    prediction: ImagePrediction
    manifest: Manifest
    decision: Decision
    size: tuple[int, int]
    valid: Mask | None
    decoded: DecodedImage

    def without(self, ignored: Sequence[Region], kept: Sequence[Region]) -> DecodedImage:
        """The decoded image with score, label and scores of classes as they are without the ignored regions."""
        if math.isnan(self.decoded.score) or not ignored:
            return self.decoded
        boxes = self.prediction.detections
        if boxes is not None and "mask_scores" not in self.prediction.maps:
            others = boxes[_others(boxes, ignored, self.manifest)]
            prediction = replace(self.prediction, detections=others)
            peak, rest = (float(own.scores.max(initial=0.0)) for own in (boxes, others))
            return self._reduced(prediction, self.valid, ignored, peak, rest)
        if self.decoded.heat is None:
            return self.decoded
        return self._without_pixels(self.decoded.heat.values, ignored, kept)

    def _without_pixels(self, heat: FloatMap, ignored: Sequence[Region], kept: Sequence[Region]) -> DecodedImage:
        decision, peak = self.decision, float(heat.max())
        unit = score_unit(self.decoded.score, peak)
        low = min((v for v in (decision.map_low, decision.map_high) if v is not None), default=DEFAULT_THRESHOLD)
        trimmed = decision.edge > 0 or any(region.refined for region in ignored)
        whole = trimmed and "mask_scores" not in self.prediction.maps  # the map is higher than the region is wide
        levels = sorted({low, *(min(low, threshold / unit) for threshold in get_thresholds(decision))}, reverse=True)
        own, other = region_mask(ignored, self.size), region_mask(kept, self.size)
        reduced = self.decoded
        for level in levels:
            left = ~_share(heat, own, other, low, level, whole)
            valid = left if self.valid is None else left & self.valid
            rest = float(heat[valid].max(initial=0.0))
            reduced = self._reduced(self.prediction, valid, ignored, peak, rest)
            if reduced.score >= level * unit:  # another peak reaches it, and all lower thresholds too
                break
        return reduced

    def _reduced(
        self, prediction: ImagePrediction, valid: Mask | None, ignored: Sequence[Region], peak: float, rest: float
    ) -> DecodedImage:
        """Decoded anew; where the graph gave the score as one number, that is at most as high as the rest of `peak`."""
        decoded = self.decoded
        again = decode(prediction, self.manifest, self.decision, self.size, valid)
        graph = prediction.anomaly_score is not None or prediction.class_scores is not None
        score, scores, label = again.score, again.defect_scores, again.label
        if graph:
            reduced, scores = reduce_score(decoded.score, peak, rest, ignored, decoded.defect_scores)
            score = score if self.manifest.score_source == "map" else reduced
        if prediction.class_scores is not None and scores:
            label = max(scores, key=scores.__getitem__)
        return replace(decoded, score=score, label=label, defect_scores=scores, class_peaks=again.class_peaks)


def _others(boxes: DetectedBoxes, ignored: Sequence[Region], manifest: Manifest) -> Flags:
    """Which boxes are none of the ignored regions, by class and score: of equal ones it does not matter which."""
    defects, left = defect_names(manifest.classes), [(region.label, region.score) for region in ignored]
    keep = np.ones(len(boxes.scores), np.bool_)
    for index, (number, score) in enumerate(zip(boxes.labels, boxes.scores, strict=True)):
        if (own := (box_label(defects, int(number)), float(score))) in left:
            left.remove(own)
            keep[index] = False
    return keep


def _share(heat: FloatMap, ignored: Mask, kept: Mask, low: float, level: float, whole: bool) -> Mask:
    """The pixels (H, W) of ignored regions and of the map's slopes around them, down to `level`.

    With `whole`, with all pixels at or above `low` that are connected with them.
    """
    strong = heat >= low
    share = ignored.copy()
    if whole:
        share |= _touching(strong, ignored)
    if level < low:
        share |= _touching(heat >= level, ignored) & ~strong
    return share & ~kept


def _touching(mask: Mask, other: Mask) -> Mask:
    """The pieces of a mask that have a pixel in another."""
    count, labels, _ = label_pieces(mask)
    touches = np.zeros(count, np.bool_)
    touches[labels[other]] = True
    touches[0] = False
    return np.asarray(touches[labels])
