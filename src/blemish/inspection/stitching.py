"""From the raw outputs of an image's windows to raw results in the image's own geometry."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap
from blemish.dataset.sample import GOOD
from blemish.imaging.prepare import fit_transform, map_to_image
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.imaging.tiling import Stitcher
from blemish.inspection.manifest import Manifest, Tiling
from blemish.inspection.result import Outputs
from blemish.inspection.tile_merging import Area, Boxes, across_seams


@dataclass(slots=True)
class Found:
    """What all windows of one image gave. Maps cover the inspected area, boxes are in pixels of the image.

    With a turned crop, area, tiles, maps and boxes are in pixels of the crop until `finish` lays them into the image.
    """

    manifest: Manifest
    area: Area
    tiles: list[Area]  # in pixels of the image
    tiling: Tiling | None = None
    turned: RotatedCrop | None = None
    image_size: tuple[int, int] | None = None
    anomaly_score: float | None = None
    class_scores: FloatMap | None = None  # (K,) of the worst window
    heat: FloatMap | None = None  # (H, W) anomaly map, or the worst defect class's map
    masks: FloatMap | None = None  # (K, H, W)
    class_map: FloatMap | None = None  # (K, H, W) probabilities of the defect classes, of a classifier of windows
    boxes: Boxes | None = None
    _stitchers: dict[str, Stitcher] = field(default_factory=dict)
    _seen_boxes: list[Boxes] = field(default_factory=list)
    _seen: list[Area] = field(default_factory=list)  # the tiles that they are of

    @property
    def size(self) -> tuple[int, int]:
        return self.area[3] - self.area[1], self.area[2] - self.area[0]

    def add(self, index: int, row: Outputs) -> None:
        """Take in the outputs (with a leading axis of one) of one window."""
        if row.anomaly_score is not None:
            score = float(row.anomaly_score[0])
            self.anomaly_score = score if self.anomaly_score is None else max(score, self.anomaly_score)
        if row.class_scores is not None:
            scores = row.class_scores[0]
            if self.class_scores is None or badness(scores, self.manifest) > badness(self.class_scores, self.manifest):
                self.class_scores = scores
        if row.class_scores is not None and self._slides(row):
            defects = row.class_scores[0][defect_indices(self.manifest)]
            self.class_map = self._placed("classes", index, defects[:, None, None])
        heat = self._window_heat(row)
        if heat is not None:
            self.heat = self._placed("heat", index, heat)
        if row.mask_scores is not None:
            self.masks = self._placed("masks", index, row.mask_scores[0])
        if row.boxes is not None:
            self._seen_boxes.append(self._window_boxes(index, row))
            self._seen.append(self.tiles[index])

    def finish(self) -> None:
        """After the last window: maps and boxes of all of them as one."""
        if self._seen_boxes:
            several = len(self._seen_boxes) > 1
            self.boxes = across_seams(self._seen_boxes, self._seen, self.area) if several else self._seen_boxes[0]
        if self.turned is not None and self.image_size is not None:
            self._lay_into_image(self.turned, self.image_size)

    def _lay_into_image(self, crop: RotatedCrop, size: tuple[int, int]) -> None:
        """From pixels of a turned crop to those of the image."""
        if self.heat is not None:
            self.heat = crop.map_to_image(self.heat, size)
        if self.masks is not None:
            self.masks = np.stack([crop.map_to_image(layer, size) for layer in self.masks])
        if self.class_map is not None:
            self.class_map = np.stack([crop.map_to_image(layer, size) for layer in self.class_map])
        if self.boxes is not None:
            corners = crop.boxes_to_image(self.boxes.corners)
            height, width = size
            corners = corners.clip(0, [width, height, width, height])
            kept = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
            masks = None if self.boxes.masks is None else _turned_masks(crop, self.boxes, corners)
            self.boxes = Boxes(corners, self.boxes.scores, self.boxes.labels, masks)[kept]
        self.area, self.turned = (0, 0, size[1], size[0]), None

    def _slides(self, row: Outputs) -> bool:
        """Whether this is a classifier under the tiler, whose map is made of the windows' probabilities."""
        if self.tiling is None or any(
            found is not None for found in (row.anomaly_map, row.anomaly_score, row.mask_scores, row.boxes)
        ):
            return False
        return row.class_map is None or self.manifest.windows

    def _window_heat(self, row: Outputs) -> FloatMap | None:
        if row.class_scores is not None and self._slides(row):
            return np.full((1, 1), badness(row.class_scores[0], self.manifest), np.float32)
        if row.anomaly_map is not None:
            return np.asarray(row.anomaly_map[0])
        if row.class_map is not None:
            return np.asarray(row.class_map[0, defect_indices(self.manifest)].max(axis=0))
        return None

    def _placed(self, name: str, index: int, values: FloatMap) -> FloatMap:
        """Window's map (..., h, w) into the area's map (..., H, W), which is returned."""
        x0, y0, x1, y1 = self.tiles[index]
        size = (y1 - y0, x1 - x0)
        if values.ndim == 2:
            full = self._whole_window(values, size)
        else:
            full = np.stack([self._whole_window(layer, size) for layer in values])
        if self.tiling is None or len(self.tiles) == 1:
            return full
        if name not in self._stitchers:
            tile = self.tiling
            self._stitchers[name] = Stitcher(*self.size, tile.height, tile.width, tile.overlap, values.shape[:-2])
        left, top = self.area[:2]
        self._stitchers[name].add((x0 - left, y0 - top, x1 - left, y1 - top), full)
        return self._stitchers[name].result()

    def _whole_window(self, values: FloatMap, size: tuple[int, int]) -> FloatMap:
        return (
            np.full(size, values[0, 0])
            if values.shape == (1, 1)
            else map_to_image(values, self.manifest.input.fit, size)
        )

    def _window_boxes(self, index: int, row: Outputs) -> Boxes:
        assert row.boxes is not None
        assert row.box_scores is not None
        x0, y0, x1, y1 = self.tiles[index]
        spec = self.manifest.input
        transform = fit_transform((y1 - y0, x1 - x0), spec.height, spec.width, spec.fit)
        corners = transform.to_image(row.boxes[0]) + np.array([x0, y0, x0, y0])
        corners = np.clip(corners.round(3), [x0, y0, x0, y0], [x1, y1, x1, y1])
        labels = row.box_labels[0] if row.box_labels is not None else np.zeros(len(corners), np.int64)
        found = Boxes(corners, row.box_scores[0], labels, None if row.box_masks is None else row.box_masks[0])
        # Rows of padding have score 0; a box that was all in a letterbox's padding has no area.
        return found[(found.scores > 0) & (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])]


def defect_indices(manifest: Manifest) -> list[int]:
    """Indices of the defect classes among all classes."""
    return [i for i, name in enumerate(manifest.classes) if name != GOOD]


def defect_names(manifest: Manifest) -> list[str]:
    return [name for name in manifest.classes if name != GOOD]


def badness(class_scores: FloatMap, manifest: Manifest) -> float:
    """1 - P(good), or the largest probability where every class is a defect."""
    if GOOD in manifest.classes:
        return 1.0 - float(class_scores[manifest.classes.index(GOOD)])
    return float(class_scores.max())


def _turned_masks(crop: RotatedCrop, boxes: Boxes, corners: NDArray[np.float64]) -> FloatMap:
    """Masks (M, h, w) inside boxes of a turned crop as masks inside the upright boxes (M, 4) of the image."""
    assert boxes.masks is not None
    _, height, width = boxes.masks.shape
    grid = np.stack(np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height), axis=-1)
    turned = np.zeros(boxes.masks.shape, np.float32)
    for index, (own, (x0, y0, x1, y1)) in enumerate(zip(boxes.masks, corners, strict=True)):
        left, top, right, bottom = boxes.corners[index]
        points = crop.to_crop(grid * [x1 - x0, y1 - y0] + [x0, y0])  # each new pixel's centre, in the crop
        x = (points[..., 0] - left) / (right - left) * width - 0.5
        y = (points[..., 1] - top) / (bottom - top) * height - 0.5
        turned[index] = cv2.remap(
            own, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    return turned
