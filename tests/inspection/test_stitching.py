"""Tiling with any callable model: what it says of tiles is stitched into one prediction in image coordinates."""

import cv2
import numpy as np
import pytest

from blemish.imaging.rotated_crop import RotatedCrop
from blemish.inspection.result import Outputs
from blemish.inspection.stitching import ImagePrediction, Stitcher, predict_tiled

SIZE = (150, 210)


def test_a_map_of_a_plain_function_comes_back_whole():
    image = np.random.default_rng(0).random(SIZE).astype(np.float32)
    prediction = predict_tiled(lambda tile: Outputs(anomaly_map=tile[None], anomaly_score=tile.max()[None]), image, 64)
    assert prediction.area == (0, 0, 210, 150)
    np.testing.assert_allclose(prediction.heat_map, image, atol=2e-6)
    assert prediction.anomaly_score == image.max()
    assert (prediction.detections, prediction.class_scores, prediction.mask_scores) == (None, None, None)


def test_maps_of_several_classes_and_of_half_the_size():
    image = np.zeros((*SIZE, 3), np.uint8)
    image[40:80, 60:120] = 255

    def segment(tile):
        half = np.float32(tile[::2, ::2, 0]) / 255
        return Outputs(mask_scores=np.stack([half, 1 - half])[None])

    prediction = predict_tiled(segment, image, (32, 64), overlap=0.5)
    assert prediction.mask_scores.shape == (2, *SIZE)
    assert prediction.mask_scores[0, 45:75, 65:115].min() > 0.99
    assert prediction.mask_scores[0, :35].max() < 0.01


def test_boxes_of_a_detector_that_tiles_cut_are_one_box_in_the_image():
    image = np.zeros(SIZE, np.uint8)
    image[70:90, 20:190] = 255  # longer than a tile
    image[10:20, 30:40] = 255

    def detect(tile):
        _, _, stats, _ = cv2.connectedComponentsWithStats(tile)
        boxes = np.float32([[[x, y, x + width, y + height] for x, y, width, height, _ in stats[1:]]]).reshape(1, -1, 4)
        return Outputs(boxes=boxes, box_scores=np.full(boxes.shape[:2], 0.9, np.float32))

    detections = predict_tiled(detect, image, 64, overlap=0.3).detections
    found = {tuple(box) for box in detections.corners.tolist()}
    assert found == {(20, 70, 190, 90), (30, 10, 40, 20)}
    assert (detections.labels == 0).all()


def test_probabilities_of_a_classifier_become_a_map_and_the_worst_tile_scores():
    image = np.zeros(SIZE, np.uint8)
    image[:64, :64] = 255

    def classify(tile):
        share = float(tile.mean()) / 255
        return Outputs(class_scores=np.float32([[1 - share, share]]))

    prediction = predict_tiled(classify, image, 64, overlap=0)
    assert prediction.class_scores.tolist() == [0, 1]
    assert prediction.heat_map[:40, :40] == pytest.approx(1, abs=1e-6)
    assert prediction.heat_map[100:, 100:].max() == 0
    assert prediction.class_map.shape == (1, *SIZE)


def test_a_prediction_of_a_rotated_crop_is_in_coordinates_of_the_image_and_frozen():
    crop = RotatedCrop((100.0, 60.0), 90.0, 40, 80)
    stitcher = Stitcher((0, 0, 80, 40), [(0, 0, 80, 40)], crop=crop, image_size=SIZE)
    heat = np.zeros((40, 80), np.float32)
    heat[5:15, 10:30] = 1
    boxes, scores = np.float32([[[10, 5, 30, 15]]]), np.float32([[0.8]])
    stitcher.add(0, Outputs(anomaly_map=heat[None], boxes=boxes, box_scores=scores))
    prediction = stitcher.finish()
    assert prediction.area == (0, 0, 210, 150)
    rows, columns = np.nonzero(prediction.heat_map > 0.5)
    bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert prediction.detections.corners[0].tolist() == pytest.approx(bounds, abs=1)
    assert {(bounds[2] - bounds[0], bounds[3] - bounds[1])} == {(10, 20)}
    with pytest.raises(AttributeError):
        prediction.area = (0, 0, 1, 1)
    assert isinstance(stitcher.finish(), ImagePrediction)
