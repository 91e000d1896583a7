"""FCDD's score and map."""

import torch

from blemish.methods.one_class.fcdd import FCDD, FCDDOptions

CLASSES = ("good", "defect")


def test_fcdd_score_is_the_mean_of_its_map_before_enlarging():
    method = FCDD(FCDDOptions(image_size=64), CLASSES).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        outputs, heat = method(images), method.low_resolution_map(images)
    assert heat.shape == (2, 4, 4)
    torch.testing.assert_close(outputs["anomaly_score"], heat.mean(dim=(1, 2)))
    assert float(outputs["anomaly_map"].min()) >= 0
