"""YOLO's backbone from scratch and its learning rate."""

import pytest

from blemish.errors import OptionError
from blemish.methods.detection.yolo import Yolo, YoloOptions


def test_networks_from_scratch_train_at_the_full_rate():
    def rates(**options):
        method = Yolo(YoloOptions(image_size=64, width=16, **options), ("good", "pit"))
        optimizer = method.configure_optimizers()["optimizer"]
        return {group["initial_lr"] for group in optimizer.param_groups}

    assert rates(backbone="csp", learning_rate=1e-2) == {1e-2}
    assert rates(backbone="test_resnet", weights="random", learning_rate=1e-2) == {1e-2}


@pytest.mark.parametrize("idle", [{"weights": "imagenet"}, {"frozen_stride": 8}, {"backbone_rate": 0.1}])
def test_options_of_pretrained_backbones_are_rejected_with_one_from_scratch(idle, make_detector):
    with pytest.raises(OptionError, match=f"{next(iter(idle))}=.* is for pretrained backbones"):
        make_detector("yolo", backbone="csp", **idle)
    make_detector("yolo", backbone="csp", weights="random", frozen_stride=0, backbone_rate=1.0)
