"""Networks of timm and torchvision as trunks, and the compact network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.classification.classifier import Classifier, ClassifierOptions
from blemish.methods.classification.networks import MinSizePool, Trunk
from blemish.training.ship.export import export_graph


@pytest.mark.parametrize(
    ("name", "side", "pools"),
    [("alexnet", 64, False), ("vgg11", 32, False), ("googlenet", 64, True), ("inception_v3", 80, True),
     ("resnet10t", 64, True), ("compact", 64, True)],
)  # fmt: skip
def test_networks_by_name(name, side, pools):
    trunk = Trunk(name, "random", 1, side).eval()
    vectors, maps = trunk(torch.rand(2, 1, side, side))
    assert vectors.shape == (2, trunk.size)
    assert vectors.isfinite().all()
    assert (maps is not None) is pools
    if pools:
        torch.testing.assert_close(maps.mean(dim=(2, 3)), vectors, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("side", "expected"), [((6, 6), (7, 7)), ((5, 9), (7, 9)), ((8, 7), (8, 7))])
def test_min_size_pool_equals_timm(side, expected):
    maps = torch.rand(2, 3, *side)
    torch.testing.assert_close(MinSizePool(7)(maps), F.adaptive_avg_pool2d(maps, expected))


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet", "vgg11", "inception_v3")]


@pytest.mark.parametrize("name", [*LARGE, "googlenet", "resnet10t"])
def test_networks_of_every_family_ship_at_the_default_size(name):
    options = ClassifierOptions(backbone=name, weights="random")
    method = Classifier(options, ("good", "pit"), 3).eval()
    graph = export_graph(method, InputSpec(channels=3, height=options.image_size, width=options.image_size))
    images = torch.rand(2, 3, options.image_size, options.image_size)
    with torch.inference_mode():
        expected = method(images)["class_scores"]
    np.testing.assert_allclose(open_engine(graph).run(images.numpy()).class_scores, expected, atol=1e-4)


def test_the_compact_network_is_small():
    assert sum(p.numel() for p in Trunk("compact", "random", 3, 64).parameters()) < 500_000


def test_unknown_network_or_unsuitable_size_give_a_one_line_error():
    with pytest.raises(OptionError, match="no network 'alexnett'"):
        Trunk("alexnett", "random", 3, 64)
    with pytest.raises(OptionError, match="cannot take images of 32 px"):
        Trunk("alexnet", "random", 3, 32)
