"""SPADE against brute force."""

import numpy as np
import pytest
import torch

from blemish.methods.feature_distance.spade import Spade, SpadeOptions

CLASSES = ("good", "defect")


def test_nearest_locations_equal_brute_force():
    torch.manual_seed(0)
    method = Spade(SpadeOptions(image_size=64, neighbours=3, blur=0), CLASSES).eval()
    gallery, images = torch.rand(6, 3, 64, 64), torch.rand(2, 3, 64, 64)
    batch = {"image": gallery, "valid": torch.ones(6, 64, 64, dtype=torch.bool)}
    with torch.inference_mode():
        method.training_step(batch, 0)
        method.finish()
        outputs = method(images)
        whole, locations = method.embed(images)
        gallery_whole, gallery_features = method.embed(gallery)
    distances = torch.cdist(whole, gallery_whole)
    for i in range(2):
        nearest = distances[i].topk(3, largest=False)
        assert float(outputs["anomaly_score"][i]) == pytest.approx(float(nearest.values.square().mean()), rel=1e-3)
        expected = torch.cdist(locations[i], gallery_features[nearest.indices].flatten(0, 1)).amin(dim=1)
        result = outputs["anomaly_map"][i, 4::8, 4::8]  # enlarged maps keep their corners' values near the middles
        assert float(outputs["anomaly_map"][i].max()) <= float(expected.max()) * 1.01
        assert np.corrcoef(result.flatten(), expected)[0, 1] > 0.9


def test_locations_outside_the_roi_match_nothing():
    torch.manual_seed(0)
    method = Spade(SpadeOptions(image_size=64, neighbours=1, blur=0), CLASSES).eval()
    image = torch.rand(1, 3, 64, 64)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :32] = False
    with torch.inference_mode():
        method.training_step({"image": image, "valid": valid}, 0)
        method.finish()
        heat = method(image)["anomaly_map"][0]
    assert float(heat[40:].max()) < 0.2 * float(heat[:24].mean())
    assert float(heat.max()) < 1e3  # they are far from the place bank, not from the query
