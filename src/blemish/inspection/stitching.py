"""Stitch the outputs of an image's tiles into one prediction in image coordinates.

Nothing here depends on a bundle: `predict_tiled` tiles an image for any callable model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np

from blemish.arrays import Boxes, FloatArray, FloatMap, Image, PixelBox
from blemish.dataset.sample import DEFECT, GOOD
from blemish.imaging.prepare import fit_transform, map_to_image
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.imaging.tiling import MapStitcher, tile_boxes
from blemish.inspection.lazy_map import LazyMap, upper_bound
from blemish.inspection.manifest import InputSpec, Tiling
from blemish.inspection.result import Outputs
from blemish.inspection.tile_merging import DetectedBoxes, merge_tile_detections


@dataclass(frozen=True, slots=True, eq=False)
class ImagePrediction:
    """Raw prediction for one image, in image coordinates: maps cover `area`, boxes are in pixels of the image."""

    area: PixelBox
    anomaly_score: float | None = None  # of the worst tile
    class_scores: FloatArray | None = None  # (K,) see `worst_class_scores`
    maps: Mapping[str, LazyMap] = field(default_factory=dict)  # by name; those of one tile are not enlarged yet
    detections: DetectedBoxes | None = None

    @property
    def heat_map(self) -> FloatMap | None:
        """(h, w) anomaly map, or that of the worst defect class."""
        return self._values("heat_map")

    @property
    def mask_scores(self) -> FloatMap | None:
        """(K, h, w)."""
        return self._values("mask_scores")

    @property
    def class_map(self) -> FloatMap | None:
        """(K, h, w) probabilities of the defect classes, of a classifier of windows."""
        return self._values("class_map")

    def _values(self, name: str) -> FloatMap | None:
        return self.maps[name].values if name in self.maps else None


class Stitcher:
    """Collects the outputs of one image's tiles; `finish` gives them as one prediction in image coordinates.

    `tiles` and `area`, which they cover, are in pixels of the image, or of `crop` where one is given; then
    `image_size` (height, width) is that of the image. `input` says how tiles are fitted to the network's input; without
    it, boxes are in pixels of the tile and maps are stretched to it. `windows`: a classifier of windows, whose
    probabilities make the map even where it has a map of its own.
    """

    def __init__(
        self,
        area: PixelBox,
        tiles: Sequence[PixelBox],
        *,
        classes: Sequence[str] = (),
        tiling: Tiling | None = None,
        input: InputSpec | None = None,
        windows: bool = False,
        crop: RotatedCrop | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        self.tiles = tiles
        self._area, self._classes, self._tiling, self._input, self._windows = area, classes, tiling, input, windows
        self._crop, self._image_size = crop, image_size
        self._anomaly_score: float | None = None
        self._class_scores: FloatArray | None = None
        self._maps: dict[str, LazyMap] = {}
        self._stitchers: dict[str, MapStitcher] = {}
        self._bounds: dict[str, float] = {}  # of the maps that are stitched
        self._detections: list[tuple[DetectedBoxes, PixelBox]] = []

    def add(self, index: int, outputs: Outputs) -> None:
        """Add the outputs (with a leading axis of one) for the tile of that index."""
        if outputs.anomaly_score is not None:
            score = float(outputs.anomaly_score[0])
            self._anomaly_score = score if self._anomaly_score is None else max(score, self._anomaly_score)
        heat = outputs.anomaly_map[0] if outputs.anomaly_map is not None else None
        if outputs.class_scores is not None:
            scores = outputs.class_scores[0]
            probability = defect_probability(scores, self._classes)
            known = scores if self._class_scores is None else self._class_scores
            self._class_scores = worst_class_scores(known, scores, self._classes)
            if self._classifies_windows(outputs):
                self._place("class_map", index, scores[defect_indices(self._classes)][:, None, None])
                heat = np.full((1, 1), probability, np.float32)
        if heat is None and outputs.class_map is not None:
            heat = outputs.class_map[0, defect_indices(self._classes)].max(axis=0)
        if heat is not None:
            self._place("heat_map", index, heat)
        if outputs.mask_scores is not None:
            self._place("mask_scores", index, outputs.mask_scores[0])
        if outputs.boxes is not None:
            self._detections.append((self._tile_detections(index, outputs), self.tiles[index]))

    def finish(self) -> ImagePrediction:
        """The prediction for the image from all tiles added."""
        stitched = {name: LazyMap.of(own.result(), self._bounds[name]) for name, own in self._stitchers.items()}
        maps = self._maps | stitched
        detections = None
        if len(self._detections) == 1:
            detections = self._detections[0][0]
        elif self._detections:
            by_tile, tiles = zip(*self._detections, strict=True)
            detections = merge_tile_detections(by_tile, tiles, self._area)
        prediction = ImagePrediction(self._area, self._anomaly_score, self._class_scores, maps, detections)
        if self._crop is None or self._image_size is None:
            return prediction
        return _crop_to_image(prediction, self._crop, self._image_size)

    def _classifies_windows(self, outputs: Outputs) -> bool:
        """Whether the probabilities of the windows of a tiled classifier are to make the map."""
        others = (outputs.anomaly_map, outputs.anomaly_score, outputs.mask_scores, outputs.boxes)
        if self._tiling is None or any(other is not None for other in others):
            return False
        return outputs.class_map is None or self._windows

    def _place(self, name: str, index: int, values: FloatMap) -> None:
        """Add a tile's map (..., h, w) to that of the area; that of a single tile waits until it is needed.

        Those of several are blended as they come: kept as they are, they would take more memory than the map.
        """
        x0, y0, x1, y1 = self.tiles[index]
        size = (y1 - y0, x1 - x0)
        bound = upper_bound(values.sum(axis=0) if name == "mask_scores" else values)  # of their sum too
        if self._tiling is None or len(self.tiles) == 1:
            self._maps[name] = LazyMap(partial(self._enlarge, values, size), bound)
            return
        before = self._bounds.get(name, 0.0)  # 0 is where no tile is
        self._bounds[name] = float(np.maximum(before, bound))  # NaN stays
        full = self._enlarge(values, size)
        left, top, right, bottom = self._area
        if name not in self._stitchers:
            tile = self._tiling
            self._stitchers[name] = MapStitcher(
                bottom - top, right - left, tile.height, tile.width, tile.overlap, values.shape[:-2]
            )
        self._stitchers[name].add((x0 - left, y0 - top, x1 - left, y1 - top), full)

    def _enlarge(self, values: FloatMap, size: tuple[int, int]) -> FloatMap:
        """A map (..., h, w) of a tile of `size` (height, width) as (..., height, width)."""
        if values.ndim == 2:
            return self._to_tile(values, size)
        if len(values) == 1:
            return self._to_tile(values[0], size)[None]
        return np.stack([self._to_tile(layer, size) for layer in values])

    def _to_tile(self, values: FloatMap, size: tuple[int, int]) -> FloatMap:
        if values.shape == (1, 1):
            return np.full(size, values[0, 0])
        return map_to_image(values, "stretch" if self._input is None else self._input.fit, size)

    def _tile_detections(self, index: int, outputs: Outputs) -> DetectedBoxes:
        assert outputs.boxes is not None
        assert outputs.box_scores is not None
        x0, y0, x1, y1 = self.tiles[index]
        corners: Boxes = outputs.boxes[0].astype(np.float64)
        if self._input is not None:
            spec = self._input
            corners = fit_transform((y1 - y0, x1 - x0), spec.height, spec.width, spec.fit).to_image(outputs.boxes[0])
        corners = np.clip((corners + np.array([x0, y0, x0, y0])).round(3), [x0, y0, x0, y0], [x1, y1, x1, y1])
        labels = outputs.box_labels[0] if outputs.box_labels is not None else np.zeros(len(corners), np.int64)
        masks = None if outputs.box_masks is None else outputs.box_masks[0]
        detections = DetectedBoxes(corners, outputs.box_scores[0], labels, masks)
        # Rows of padding have score 0; a box that was all in a letterbox's padding has no area.
        return detections[(detections.scores > 0) & _has_area(corners)]


def predict_tiled(
    model: Callable[[Image], Outputs],
    image: Image,
    tile: int | tuple[int, int],
    overlap: float = 0.25,
    classes: Sequence[str] = (GOOD, "defect"),
) -> ImagePrediction:
    """Run any model on overlapping tiles of an image (H, W, ...) and stitch its outputs.

    `model` takes a tile (height, width, ...) and returns `Outputs` with a leading axis of one: scores, maps of any size
    (they are stretched to the tile), or boxes in pixels of the tile. `tile` is the side or (height, width) in px, 16 or
    more; `overlap` the share of a tile that neighbours share at least; `classes` those of `class_scores`.
    """
    tile_height, tile_width = (tile, tile) if isinstance(tile, int) else tile
    tiling = Tiling(height=tile_height, width=tile_width, overlap=overlap)
    height, width = image.shape[:2]
    tiles = tile_boxes(height, width, tile_height, tile_width, overlap)
    stitcher = Stitcher((0, 0, width, height), tiles, classes=classes, tiling=tiling)
    for index, (x0, y0, x1, y1) in enumerate(tiles):
        stitcher.add(index, model(image[y0:y1, x0:x1]))
    return stitcher.finish()


def defect_indices(classes: Sequence[str]) -> list[int]:
    """Indices of the defect classes among all classes."""
    return [i for i, name in enumerate(classes) if name != GOOD]


def defect_names(classes: Sequence[str]) -> list[str]:
    return [name for name in classes if name != GOOD]


def anomaly_label(classes: Sequence[str]) -> str:
    """The label of an anomaly: the defect class where there is only one."""
    defects = defect_names(classes)
    return defects[0] if len(defects) == 1 else DEFECT


def defect_probability(class_scores: FloatArray, classes: Sequence[str]) -> float:
    """1 - P(good), or the largest probability where every class is a defect."""
    if GOOD in classes:
        return 1.0 - float(class_scores[classes.index(GOOD)])
    return float(class_scores.max())


def worst_class_scores(one: FloatArray, other: FloatArray, classes: Sequence[str]) -> FloatArray:
    """Each class's score (K,) where it is worst of two tiles: the largest of a defect, the smallest of good.

    So a class's threshold holds for every tile, and not only for the one where a defect of any class is likeliest.
    """
    good = np.array([name == GOOD for name in classes])
    return np.where(good, np.minimum(one, other), np.maximum(one, other))


def _has_area(corners: Boxes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])


def _crop_to_image(prediction: ImagePrediction, crop: RotatedCrop, size: tuple[int, int]) -> ImagePrediction:
    """A prediction in coordinates of a rotated crop in those of its image of `size` (height, width)."""
    height, width = size

    def to_image(values: FloatMap) -> FloatMap:
        if values.ndim == 2:
            return crop.map_to_image(values, size)
        return np.stack([crop.map_to_image(layer, size) for layer in values])

    def lazily(own: LazyMap) -> LazyMap:
        return LazyMap(lambda: to_image(own.values), own.bound)

    detections = prediction.detections
    if detections is not None:
        corners = crop.boxes_to_image(detections.corners).clip(0, [width, height, width, height])
        masks = None if detections.masks is None else _masks_to_image(crop, detections, corners)
        detections = DetectedBoxes(corners, detections.scores, detections.labels, masks)[_has_area(corners)]
    return replace(
        prediction,
        area=(0, 0, width, height),
        maps={name: lazily(own) for name, own in prediction.maps.items()},
        detections=detections,
    )


def _masks_to_image(crop: RotatedCrop, detections: DetectedBoxes, corners: Boxes) -> FloatArray:
    """Masks (M, h, w) inside boxes of a rotated crop as masks inside the upright boxes (M, 4) of the image."""
    assert detections.masks is not None
    _, height, width = detections.masks.shape
    grid = np.stack(np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height), axis=-1)
    masks = np.zeros(detections.masks.shape, np.float32)
    for index, (mask, (x0, y0, x1, y1)) in enumerate(zip(detections.masks, corners, strict=True)):
        left, top, right, bottom = detections.corners[index]
        points = crop.to_crop(grid * [x1 - x0, y1 - y0] + [x0, y0])  # centre of each new pixel, in the crop
        x = (points[..., 0] - left) / (right - left) * width - 0.5
        y = (points[..., 1] - top) / (bottom - top) * height - 0.5
        masks[index] = cv2.remap(
            mask, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    return masks
